//! The OpenAI-compatible API, as the official SDKs expect it.

mod embeddings;
mod models;
mod request;
mod stream;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse, Response},
};
use link::Finish;
use protocol::Problem;
use serde_json::{Value, json};

pub(crate) use embeddings::{Input, Made, Texts, embeddings, texts, vectors};
pub(crate) use models::{list, one};
pub(crate) use request::{Span, bad, json, missing, model_id, span, within};

use crate::{
    answer::Answer,
    compose::House,
    guard::Peer,
    relay::{self, Finished, Word, Words},
};

/// Every answer has a name by which a person can ask about it; a chat's is its request's.
pub(crate) async fn named(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(name) = crate::random::name("req").parse() {
        response.headers_mut().entry("x-request-id").or_insert(name);
    }
    response
}

/// Which of the two shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Text,
}

/// POST /v1/chat/completions.
pub(crate) async fn chat(
    State(house): State<House>,
    axum::Extension(peer): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(house, peer, &headers, request::chat(&body), Shape::Chat).await
}

/// POST /v1/completions.
pub(crate) async fn completions(
    State(house): State<House>,
    axum::Extension(peer): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(house, peer, &headers, request::completion(&body), Shape::Text).await
}

async fn answer(
    house: House,
    peer: Peer,
    headers: &HeaderMap,
    checked: Result<request::Checked, Problem>,
    shape: Shape,
) -> Response {
    let id = crate::random::name("req");
    let given = async {
        let checked = checked?;
        let session = house.session(headers, peer, checked.user.as_deref());
        let ask = relay::Ask {
            id: id.clone(),
            model: checked.model.clone(),
            prompt: checked.prompt,
            sampling: checked.sampling,
            idle_timeout: checked.idle_timeout,
            context: None,
            session,
        };
        let envelope = Envelope {
            shape,
            id: format!("chatcmpl-{id}"),
            model: checked.model.to_string(),
            created: house.unix_seconds(),
        };
        let words = relay::begin(&house, ask).await?;
        Ok::<_, Problem>((envelope, words, checked.stream, checked.include_usage))
    };
    let mut response = match given.await {
        Err(problem) => Answer::OpenAi.problem(&problem),
        Ok((envelope, words, true, include_usage)) => stream::answer(envelope, words, include_usage).await,
        Ok((envelope, words, false, _)) => whole(envelope, words).await,
    };
    if let Ok(id) = id.parse() {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Everything at once.
async fn whole(envelope: Envelope, mut words: Words) -> Response {
    let mut text = String::new();
    loop {
        match words.next().await {
            Some(Word::Started) => {}
            Some(Word::Text(more)) => text.push_str(&more),
            Some(Word::Done(finished)) => {
                return Json(envelope.whole(&text, &finished)).into_response();
            }
            Some(Word::Failed(problem)) => return Answer::OpenAi.problem(&problem),
            None => return Answer::OpenAi.problem(&relay::lost()),
        }
    }
}

/// What stands around each piece of an answer.
struct Envelope {
    shape: Shape,
    id: String,
    model: String,
    created: u64,
}

impl Envelope {
    fn whole(&self, text: &str, finished: &Finished) -> Value {
        let choice = match self.shape {
            Shape::Chat => {
                json!({ "index": 0, "message": { "role": "assistant", "content": text }, "logprobs": null,
                "finish_reason": finish_word(finished.finish) })
            }
            Shape::Text => {
                json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish_word(finished.finish) })
            }
        };
        let object = if self.shape == Shape::Chat { "chat.completion" } else { "text_completion" };
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice],
            "usage": usage(finished), "timings": timings(finished) })
    }

    /// A piece: `delta` for chat, `text` for plain text.
    fn piece(&self, text: Option<&str>, first: bool, finish: Option<Finish>) -> Value {
        let finish = finish.map(finish_word);
        let choice = match self.shape {
            Shape::Chat => {
                let mut delta = json!({});
                if first {
                    delta["role"] = json!("assistant");
                }
                if let Some(text) = text {
                    delta["content"] = json!(text);
                }
                json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish })
            }
            Shape::Text => {
                json!({ "index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish })
            }
        };
        self.chunk(json!([choice]))
    }

    fn chunk(&self, choices: Value) -> Value {
        let object = if self.shape == Shape::Chat { "chat.completion.chunk" } else { "text_completion" };
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }
}

fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Cancelled => "stop",
        Finish::Length => "length",
    }
}

fn usage(finished: &Finished) -> Value {
    let usage = finished.usage;
    json!({ "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "total_tokens": u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens } })
}

/// Where the time of an answer went. Speeds that cannot be told (nothing was computed) are null.
fn timings(finished: &Finished) -> Value {
    let per_second =
        |tokens: u32, us: u64| (tokens > 0 && us > 0).then(|| f64::from(tokens) * 1e6 / us as f64);
    let usage = finished.usage;
    let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    json!({ "queue_ms": finished.queue_ms, "load_ms": finished.load_ms, "ttft_ms": finished.ttft_ms,
        "prompt_tokens_per_second": per_second(read, finished.timings.prefill_us),
        "tokens_per_second": per_second(usage.completion_tokens, finished.timings.decode_us),
        "cached_tokens": usage.cached_tokens })
}

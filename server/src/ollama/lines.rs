//! Answers as lines of JSON, or whole. As with OpenAI's streams the head waits for the first word or two seconds, so
//! that early failures have their status; later ones are a line `{"error":...}`.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use link::Finish;
use protocol::Problem;
use serde_json::{Value, json};
use telemetry::SystemClock;
use tokio::time::{Instant, timeout};

use crate::relay::{self, Finished, Word, Words};

/// The head waits so long for the first word.
const HEAD: Duration = Duration::from_secs(2);

/// Which of the two shapes a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Generate,
    Chat,
}

/// What stands around each piece of an answer.
pub(super) struct Envelope {
    pub(super) shape: Shape,
    pub(super) model: String,
    pub(super) arrived: Instant,
}

impl Envelope {
    fn piece(&self, text: &str) -> Value {
        let mut line = json!({ "model": self.model, "created_at": now(), "done": false });
        match self.shape {
            Shape::Generate => line["response"] = json!(text),
            Shape::Chat => line["message"] = json!({ "role": "assistant", "content": text }),
        }
        line
    }

    /// The last line; `text` is the whole answer where there were no others.
    fn last(&self, text: &str, finished: &Finished) -> Value {
        let mut line = self.piece(text);
        let reason = if finished.finish == Finish::Length { "length" } else { "stop" };
        let (usage, timings) = (finished.usage, finished.timings);
        let more = json!({
            "done": true, "done_reason": reason, "total_duration": self.so_far_ns(),
            "load_duration": finished.load_ms.unwrap_or(0).saturating_mul(1_000_000),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": timings.prefill_us.saturating_mul(1000),
            "eval_count": usage.completion_tokens, "eval_duration": timings.decode_us.saturating_mul(1000),
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        line
    }

    /// Where there was nothing to answer.
    pub(super) fn nothing(&self, reason: &str) -> Json<Value> {
        let mut line = self.piece("");
        line["done"] = json!(true);
        line["done_reason"] = json!(reason);
        Json(line)
    }

    /// Nanoseconds since the request came, as Ollama counts.
    pub(super) fn so_far_ns(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The moment as a text.
pub(super) fn now() -> String {
    use manager::ports::Clock;
    protocol::Time::from_unix_ms(SystemClock.now().wall_ms).to_string()
}

/// Everything at once.
pub(super) async fn whole(envelope: Envelope, mut words: Words) -> Result<Response, Problem> {
    let mut text = String::new();
    loop {
        match words.next().await.unwrap_or_else(|| Word::Failed(relay::lost())) {
            Word::Started => {}
            Word::Text(more) => text.push_str(&more),
            Word::Done(finished) => return Ok(Json(envelope.last(&text, &finished)).into_response()),
            Word::Failed(problem) => return Err(problem),
        }
    }
}

/// Line by line.
pub(super) async fn stream(envelope: Envelope, mut words: Words) -> Result<Response, Problem> {
    let first = match timeout(HEAD, words.next()).await {
        Ok(Some(Word::Failed(problem))) => return Err(problem),
        Ok(None) => return Err(relay::lost()),
        Ok(word) => word,
        Err(_) => None,
    };
    let begun = Some((envelope, words, first));
    let lines = stream::unfold(begun, |state| async move {
        let (envelope, mut words, mut first) = state?;
        loop {
            let word = match first.take() {
                Some(word) => word,
                None => words.next().await.unwrap_or_else(|| Word::Failed(relay::lost())),
            };
            let (line, is_last) = match word {
                Word::Started => continue,
                Word::Text(text) => (envelope.piece(&text), false),
                Word::Done(finished) => (envelope.last("", &finished), true),
                Word::Failed(problem) => (json!({ "error": problem.to_string() }), true),
            };
            let next = (!is_last).then_some((envelope, words, None));
            return Some((Ok::<_, Infallible>(format!("{line}\n")), next));
        }
    });
    let head = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((head, Body::from_stream(lines)).into_response())
}

//! POST /v1/embeddings: float and base64, one text or many.

use std::{pin::pin, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use manager::{LeaseWish, SessionWish};
use protocol::{Code, IdleTimeout, ModelId, ModelKind, Problem, RequestState};
use serde::Deserialize;
use serde_json::{Value, json};
use supervisor::Vectors;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::request::{Span, bad, json as read_json, missing, model_id, named, span};
use crate::{answer::Answer, compose::House, guard::Peer, past::Course, relay};

/// Texts in one request.
const MOST_TEXTS: usize = 2048;
/// An embedding request has so long after its lease.
const DEADLINE: Duration = Duration::from_secs(120);

/// One text or many, in whichever API.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    One(String),
    Many(Vec<String>),
    Tokens(#[expect(dead_code, reason = "told apart from texts, to be refused in words")] Vec<Value>),
}

#[derive(Deserialize)]
struct Raw {
    model: Option<String>,
    input: Option<Input>,
    encoding_format: Option<String>,
    dimensions: Option<u32>,
    user: Option<String>,
    keep_alive: Option<Span>,
    idle_timeout: Option<Span>,
}

/// The handler.
pub(crate) async fn embeddings(
    State(house): State<House>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match embed(&house, peer, &headers, &body).await {
        Ok(value) => Json(value).into_response(),
        Err(problem) => Answer::OpenAi.problem(&problem),
    }
}

async fn embed(house: &House, peer: Peer, headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let raw: Raw = read_json(body)?;
    let model = model_id(raw.model)?;
    let base64 = match raw.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(bad(format!("`encoding_format` is `{other}`."), "Send float or base64.")),
    };
    let asked = Texts {
        session: house.session(headers, peer, named(raw.user).as_deref()),
        idle_timeout: span("keep_alive", raw.keep_alive.or(raw.idle_timeout))?,
        context: None,
        texts: texts(raw.input)?,
        dimensions: raw.dimensions,
        model: model.clone(),
    };
    let made = vectors(house, asked).await?.vectors;
    let data: Vec<Value> = made
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": written(vector, base64) }))
        .collect();
    Ok(json!({ "object": "list", "data": data, "model": model,
        "usage": { "prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens } }))
}

/// What is to be made into vectors, and for whom.
pub(crate) struct Texts {
    pub(crate) model: ModelId,
    pub(crate) texts: Vec<String>,
    pub(crate) session: SessionWish,
    /// Rules the instance until it goes.
    pub(crate) idle_timeout: Option<IdleTimeout>,
    /// Another than the loaded one is a reload.
    pub(crate) context: Option<u32>,
    /// Other than the model's own is refused.
    pub(crate) dimensions: Option<u32>,
}

/// The vectors, and how long a load took that was made for them.
pub(crate) struct Made {
    pub(crate) vectors: Vectors,
    pub(crate) load_ms: Option<u64>,
}

/// Makes vectors, whichever API asks.
pub(crate) async fn vectors(house: &House, asked: Texts) -> Result<Made, Problem> {
    let Texts { model, texts, session, idle_timeout, context, dimensions } = asked;
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        return Err(bad(format!("`input` has {} texts.", texts.len()), format!("Send 1 to {MOST_TEXTS}.")));
    }
    let found = house.wanted(&model).await?;
    if found.kind != ModelKind::Embedding {
        return Err(Problem::new(
            Code::WrongKind,
            format!("`{model}` answers conversations and makes no embeddings."),
            "Use an embedding model, such as minilm.",
        ));
    }
    let wish = LeaseWish {
        model,
        request: crate::random::name("emb"),
        client: session.label.clone(),
        session: Some(session),
        idle_timeout,
        context,
    };
    let (answer, answered) = oneshot::channel();
    let owned = house.clone();
    house.tasks().spawn(async move { carry(&owned, wish, texts, answer).await });
    let made = answered.await.unwrap_or_else(|_| Err(relay::lost()))?;
    if dimensions.is_some_and(|wanted| made.vectors.vectors.iter().any(|one| one.len() != wanted as usize)) {
        let message = "`dimensions` other than the model's own is not done here.";
        return Err(bad(message, "Leave `dimensions` out."));
    }
    Ok(made)
}

/// Takes a lease, has the texts made into vectors, and writes down how it went. As with chats, this owns the lease until the
/// worker has said its last word; a reader that goes away only cancels.
async fn carry(
    house: &House,
    wish: LeaseWish,
    texts: Vec<String>,
    mut answer: oneshot::Sender<Result<Made, Problem>>,
) {
    let mut course = Course::new(wish.model.clone(), Instant::now());
    let leased = tokio::select! {
        biased;
        () = answer.closed() => Err(gone()),
        leased = house.handle().lease(wish) => leased,
    };
    let lease = match leased {
        Ok(lease) => lease,
        Err(problem) => {
            house.record(course, Err(problem.code));
            // Nobody hears it if the reader is gone.
            let _ = answer.send(Err(problem));
            return;
        }
    };
    course.leased(lease.queue_ms(), lease.load_ms(), lease.meter());
    let (meter, stopped) = (lease.meter(), CancellationToken::new());
    let work = lease.instance().embed(texts, stopped.cancelled());
    let mut work = pin!(work);
    let ended = tokio::select! {
        biased;
        // A cancel of all that an instance does comes through the worker, and its reason by the meter.
        made = &mut work => Ok(made.map_err(|problem| match meter.why() {
            Some(why) if problem.code == Code::Cancelled => why.clone(),
            _ => problem,
        })),
        () = answer.closed() => Err(gone()),
        () = meter.cancelled().cancelled() => Err(meter.why().cloned().unwrap_or_else(gone)),
        () = sleep(DEADLINE) => Err(too_long()),
    };
    let was_stopped = ended.is_err();
    let made = ended.unwrap_or_else(Err);
    if let Ok(made) = &made {
        course.read(made.prompt_tokens);
    }
    house.record(course, made.as_ref().map(|_| ()).map_err(|problem| problem.code));
    let _ = answer.send(made.map(|vectors| Made { vectors, load_ms: lease.load_ms() }));
    if was_stopped {
        // The worker leaves what it is at between two layers; the lease does not go back before.
        stopped.cancel();
        meter.set_state(RequestState::Cancelling);
        let _ = work.await;
    }
}

fn gone() -> Problem {
    Problem::new(Code::Cancelled, "The request was cancelled.", "Ask again.")
}

fn too_long() -> Problem {
    let hint = "Send fewer or shorter texts at once.";
    Problem::new(Code::TimedOut, "The embeddings took more than 120 s.", hint)
}

/// The texts themselves.
pub(crate) fn texts(input: Option<Input>) -> Result<Vec<String>, Problem> {
    match input.ok_or_else(|| missing("input"))? {
        Input::One(text) => Ok(vec![text]),
        Input::Many(texts) => Ok(texts),
        Input::Tokens(_) => Err(bad(
            "`input` has token numbers; they mean something for OpenAI's own models alone.",
            "Send texts (with LangChain: check_embedding_ctx_length=False).",
        )),
    }
}

/// A list of numbers, or their bytes (little-endian f32) in base64.
fn written(vector: &[f32], base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        json!(STANDARD.encode(bytes))
    } else {
        json!(vector)
    }
}

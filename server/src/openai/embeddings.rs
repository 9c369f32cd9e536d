//! POST /v1/embeddings: float and base64, one text or many.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use manager::LeaseWish;
use protocol::{Code, ModelKind, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use supervisor::Vectors;
use tokio::time::{Instant, timeout};

use super::request::{Span, bad, json as read_json, missing, model_id, span};
use crate::{answer::Answer, compose::House, guard::Peer, past::Course};

/// Texts in one request.
const MOST_TEXTS: usize = 2048;
/// An embedding request has so long after its lease.
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
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
    let texts = texts(raw.input)?;
    let found = house.find(&model).await?;
    if found.kind != ModelKind::Embedding {
        return Err(Problem::new(
            Code::WrongKind,
            format!("`{model}` answers conversations and makes no embeddings."),
            "Use an embedding model, such as minilm.",
        ));
    }
    let session = house.session(headers, peer, raw.user.as_deref());
    let wish = LeaseWish {
        model: model.clone(),
        request: crate::random::name("emb"),
        client: session.label.clone(),
        session: Some(session),
        idle_timeout: span("keep_alive", raw.keep_alive.or(raw.idle_timeout))?,
        context: None,
    };
    let made = vectors(house, wish, texts).await?;
    if raw.dimensions.is_some_and(|d| made.vectors.first().is_some_and(|v| v.len() != d as usize)) {
        return Err(bad(
            "`dimensions` other than the model's own is not done here.",
            "Leave `dimensions` out.",
        ));
    }
    let data: Vec<Value> = made
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": written(vector, base64) }))
        .collect();
    Ok(json!({ "object": "list", "data": data, "model": model,
        "usage": { "prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens } }))
}

/// Takes a lease, has the texts made into vectors, and writes down how it went.
async fn vectors(house: &House, wish: LeaseWish, texts: Vec<String>) -> Result<Vectors, Problem> {
    let mut course = Course::new(wish.model.clone(), Instant::now());
    let made = async {
        let lease = house.handle().lease(wish).await?;
        course.leased(lease.queue_ms(), lease.load_ms(), lease.meter());
        timeout(DEADLINE, lease.instance().embed(texts)).await.unwrap_or_else(|_| {
            Err(Problem::new(
                Code::TimedOut,
                "The embeddings took more than 120 s.",
                "Send fewer or shorter texts at once.",
            ))
        })
    };
    let made = made.await;
    if let Ok(made) = &made {
        course.read(made.prompt_tokens);
    }
    house.record(course, made.as_ref().map(|_| ()).map_err(|problem| problem.code));
    made
}

fn texts(input: Option<Input>) -> Result<Vec<String>, Problem> {
    let texts = match input.ok_or_else(|| missing("input"))? {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
        Input::Tokens(_) => {
            return Err(bad(
                "`input` has token numbers; they mean something for OpenAI's own models alone.",
                "Send texts (with LangChain: check_embedding_ctx_length=False).",
            ));
        }
    };
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        return Err(bad(format!("`input` has {} texts.", texts.len()), format!("Send 1 to {MOST_TEXTS}.")));
    }
    Ok(texts)
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

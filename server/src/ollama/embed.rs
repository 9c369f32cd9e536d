//! POST /api/embed, and /api/embeddings as older clients ask.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use protocol::Problem;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::request::context;
use crate::{
    answer::Answer,
    compose::House,
    guard::Peer,
    openai::{Input, Made, Span, Texts, bad, json as read, missing, model_id, span, texts, vectors},
};

#[derive(Debug, Default, Deserialize)]
struct Options {
    num_ctx: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Raw {
    model: Option<String>,
    input: Option<Input>,
    prompt: Option<String>,
    keep_alive: Option<Span>,
    options: Option<Options>,
    truncate: Option<bool>,
    dimensions: Option<u32>,
}

/// POST /api/embed: as many texts as one likes.
pub(crate) async fn embed(
    State(house): State<House>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let arrived = Instant::now();
    let made = async {
        let mut raw: Raw = read(&body)?;
        let texts = texts(raw.input.take())?;
        made(&house, peer, &headers, raw, texts).await
    };
    match made.await {
        Ok((model, made)) => Json(json!({
            "model": model, "embeddings": made.vectors.vectors,
            "total_duration": u64::try_from(arrived.elapsed().as_nanos()).unwrap_or(u64::MAX),
            "load_duration": made.load_ms.unwrap_or(0).saturating_mul(1_000_000),
            "prompt_eval_count": made.vectors.prompt_tokens,
        }))
        .into_response(),
        Err(problem) => Answer::Ollama.problem(&problem),
    }
}

/// POST /api/embeddings: one text.
pub(crate) async fn embeddings(
    State(house): State<House>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made = async {
        let mut raw: Raw = read(&body)?;
        let text = raw.prompt.take().ok_or_else(|| missing("prompt"))?;
        made(&house, peer, &headers, raw, vec![text]).await
    };
    match made.await {
        Ok((_, made)) => {
            let vector: Value =
                made.vectors.vectors.first().map_or_else(|| json!([]), |vector| json!(vector));
            Json(json!({ "embedding": vector })).into_response()
        }
        Err(problem) => Answer::Ollama.problem(&problem),
    }
}

async fn made(
    house: &House,
    peer: Peer,
    headers: &HeaderMap,
    raw: Raw,
    texts: Vec<String>,
) -> Result<(String, Made), Problem> {
    let model = model_id(raw.model)?;
    if raw.truncate == Some(false) {
        let message = "`truncate: false` is not done here: a text that is too long for the model is cut.";
        return Err(bad(message, "Leave `truncate` out."));
    }
    let texts = Texts {
        session: house.session(headers, peer, None),
        idle_timeout: span("keep_alive", raw.keep_alive)?,
        context: context(raw.options.unwrap_or_default().num_ctx)?,
        texts,
        dimensions: raw.dimensions,
        model: model.clone(),
    };
    Ok((model.to_string(), vectors(house, texts).await?))
}

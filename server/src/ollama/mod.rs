//! Ollama's API, for clients that speak it: the same models, leases and sessions behind other words. Lines of JSON
//! instead of events; a model's name may carry the tag `:latest`.

mod embed;
mod lines;
mod request;
mod shelf;

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use manager::LoadWish;
use protocol::{IdleTimeout, Problem};
use tokio::time::Instant;

pub(crate) use embed::{embed, embeddings};
pub(crate) use shelf::{ps, show, tags, version};

use crate::{answer::Answer, compose::House, guard::Peer, relay};
use lines::{Envelope, Shape};
use request::Checked;

/// POST /api/generate.
pub(crate) async fn generate(
    State(house): State<House>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = answer(&house, peer, &headers, request::generate(&body), Shape::Generate);
    answer.await.unwrap_or_else(|problem| Answer::Ollama.problem(&problem))
}

/// POST /api/chat.
pub(crate) async fn chat(
    State(house): State<House>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = answer(&house, peer, &headers, request::chat(&body), Shape::Chat);
    answer.await.unwrap_or_else(|problem| Answer::Ollama.problem(&problem))
}

async fn answer(
    house: &House,
    peer: Peer,
    headers: &HeaderMap,
    checked: Result<Checked, Problem>,
    shape: Shape,
) -> Result<Response, Problem> {
    let Checked { model, prompt, sampling, stream, idle_timeout, context } = checked?;
    let envelope = Envelope { shape, model: model.to_string(), arrived: Instant::now() };
    let session = house.session(headers, peer, None);
    let Some(prompt) = prompt else {
        let model = house.wanted(&model).await?.id;
        // Nothing to answer: by this Ollama's clients load a model, or unload it with a time of 0.
        if idle_timeout == Some(IdleTimeout::After { ms: 0 }) {
            house.desk().unload(model, false, session.label).await?;
            return Ok(envelope.nothing("unload").into_response());
        }
        let wish = LoadWish { idle_timeout, context, wait: true, anyway: false, by: session.label };
        house.desk().load(model, wish).await?;
        return Ok(envelope.nothing("load").into_response());
    };
    let id = crate::random::name("req");
    let ask = relay::Ask { id, model, prompt, sampling, idle_timeout, context, session };
    let words = relay::begin(house, ask).await?;
    if stream { lines::stream(envelope, words).await } else { lines::whole(envelope, words).await }
}

//! POST /manage/load

use leptos::prelude::*;
use protocol::Model;

use super::{OneOrAll, Refusal};

/// Loads a model, joins a load in progress, or counts as a use of a loaded one. `model=*`: all that are loaded.
/// Answers when it is ready; with `wait=false` at once, and with 202 while it is not ready yet. `anyway` goes past the
/// limit and into the reserve, though never so far that other programs cannot go on.
#[server(name = LoadModel, prefix = "/manage", endpoint = "load")]
pub async fn load(
    model: String,
    idle_timeout: Option<String>,
    context: Option<u32>,
    wait: Option<bool>,
    anyway: Option<bool>,
) -> Result<OneOrAll<Model>, Refusal> {
    use super::arguments::{Target, span};
    let wish = manager::LoadWish {
        idle_timeout: idle_timeout.as_deref().map(span).transpose()?,
        context,
        wait: wait.unwrap_or(true),
        anyway: anyway.unwrap_or(false),
        by: crate::request::caller(),
    };
    let (desk, house) = (crate::request::desk()?, crate::request::house()?);
    Ok(match Target::read(&model)? {
        Target::All => OneOrAll::All(desk.load_all(wish).await.into_iter().map(Into::into).collect()),
        Target::One(id) => {
            let model = desk.load(house.find(id).await?.id, wish).await?;
            if model.state != protocol::ModelState::Ready
                && let Some(answer) = use_context::<leptos_axum::ResponseOptions>()
            {
                answer.set_status(http::StatusCode::ACCEPTED);
            }
            OneOrAll::One(model)
        }
    })
}

//! POST /manage/reload

use leptos::prelude::*;
use protocol::Reloaded;

use super::{OneOrAll, Refusal};

/// Reinitialises a model: drain, unload, verify, load. Answers when the new instance is ready. `model=*`: all that
/// are loaded, at the same time.
#[server(name = ReloadModel, prefix = "/manage", endpoint = "reload")]
pub async fn reload(model: String) -> Result<OneOrAll<Reloaded>, Refusal> {
    use super::arguments::Target;
    let (desk, house, by) = (crate::request::desk()?, crate::request::house()?, crate::request::caller());
    Ok(match Target::read(&model)? {
        Target::All => {
            let outcomes = desk.reload_all(by).await;
            OneOrAll::All(outcomes.into_iter().map(|(_, outcome)| outcome.into()).collect())
        }
        Target::One(id) => OneOrAll::One(desk.reload(house.find(id).await?.id, by).await?),
    })
}

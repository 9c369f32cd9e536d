//! POST /manage/unload

use leptos::prelude::*;
use protocol::Receipt;

use super::{OneOrAll, Refusal};

/// Unloads a model and answers when its memory is back, as measured, or is known not to come back. `model=*`: all
/// that are loaded. `force` gives running requests no time to end.
#[server(name = UnloadModel, prefix = "/manage", endpoint = "unload")]
pub async fn unload(model: String, force: Option<bool>) -> Result<OneOrAll<Receipt>, Refusal> {
    use super::arguments::Target;
    let (desk, by) = (crate::request::desk()?, crate::request::caller());
    let force = force.unwrap_or(false);
    Ok(match Target::read(&model)? {
        Target::All => {
            let receipts = desk.unload_all(force, by).await;
            OneOrAll::All(receipts.into_iter().map(super::Part::Done).collect())
        }
        Target::One(id) => OneOrAll::One(desk.unload(id, force, by).await?),
    })
}

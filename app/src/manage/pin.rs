//! POST /manage/pin

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Exempts a model from idle unload, eviction and clean-up, or no longer.
#[server(name = PinModel, prefix = "/manage", endpoint = "pin")]
pub async fn pin(model: String, pinned: bool) -> Result<Model, Refusal> {
    let id = super::arguments::id(&model)?;
    Ok(crate::request::desk()?.pin(id, pinned, crate::request::caller()).await?)
}

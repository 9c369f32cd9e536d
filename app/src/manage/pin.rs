//! POST /manage/pin

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Exempts a model from idle unload, eviction and clean-up, or no longer; kept over a restart.
#[server(name = PinModel, prefix = "/manage", endpoint = "pin")]
pub async fn pin(model: String, pinned: bool) -> Result<Model, Refusal> {
    let id = super::arguments::id(&model)?;
    let (own, by) = (crate::ports::Own::Pinned, crate::request::caller());
    Ok(crate::request::house()?.set_of_model(id, own, pinned.to_string(), by).await?)
}

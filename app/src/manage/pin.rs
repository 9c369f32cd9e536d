//! POST /manage/pin

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Exempts a model from idle unload, eviction and clean-up, or no longer; kept over a restart.
#[server(name = PinModel, prefix = "/manage", endpoint = "pin")]
pub async fn pin(model: String, pinned: bool) -> Result<Model, Refusal> {
    let id = super::arguments::id(&model)?;
    let by = crate::request::caller();
    let kept = (format!("models.{id}.pinned"), pinned.to_string());
    crate::request::house()?.set(vec![kept], by.clone()).await?;
    Ok(crate::request::desk()?.pin(id, pinned, by).await?)
}

//! POST /manage/idle_timeout

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Gives a model its own idle timeout (`10m`, seconds, `0`, `never`); it rules a loaded instance at once
/// and is kept over a restart.
#[server(name = SetIdleTimeout, prefix = "/manage", endpoint = "idle_timeout")]
pub async fn idle_timeout(model: String, idle_timeout: String) -> Result<Model, Refusal> {
    use super::arguments::{id, span};
    let id = id(&model)?;
    let key = format!("models.{id}.idle_timeout");
    let timeout = span(&idle_timeout).map_err(|refusal| refusal.about(&key))?;
    let by = crate::request::caller();
    let kept = (key, idle_timeout);
    crate::request::house()?.set(vec![kept], by.clone()).await?;
    Ok(crate::request::desk()?.set_idle_timeout(id, timeout, by).await?)
}

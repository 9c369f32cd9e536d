//! POST /manage/idle_timeout

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Gives a model its own idle timeout (`10m`, seconds, `0`, `never`; `default`: none of its own); it rules a loaded instance at once
/// and is kept over a restart.
#[server(name = SetIdleTimeout, prefix = "/manage", endpoint = "idle_timeout")]
pub async fn idle_timeout(model: String, idle_timeout: String) -> Result<Model, Refusal> {
    use super::arguments::{id, is_default, span};
    let (id, own) = (id(&model)?, crate::ports::Own::IdleTimeout);
    if !is_default(&idle_timeout) {
        span(&idle_timeout).map_err(|refusal| refusal.about(&own.key(&id)))?;
    }
    let by = crate::request::caller();
    Ok(crate::request::house()?.set_of_model(id, own, idle_timeout, by).await?)
}

//! POST /manage/idle_timeout

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Gives a model its own idle timeout (`10m`, seconds, `0`, `never`); it rules a loaded instance at once.
#[server(name = SetIdleTimeout, prefix = "/manage", endpoint = "idle_timeout")]
pub async fn idle_timeout(model: String, idle_timeout: String) -> Result<Model, Refusal> {
    use super::arguments::{id, span};
    let (id, timeout) = (id(&model)?, span(&idle_timeout)?);
    Ok(crate::request::desk()?.set_idle_timeout(id, timeout, crate::request::caller()).await?)
}

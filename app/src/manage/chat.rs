//! POST /manage/chat

use leptos::prelude::*;

use super::Refusal;
use crate::chat::Turn;

/// Says something in this browser's conversation and waits for the whole answer: the chat page without JavaScript.
#[server(name = Converse, prefix = "/manage", endpoint = "chat")]
pub async fn chat(model: String, prompt: String, system: Option<String>) -> Result<Turn, Refusal> {
    let id = super::arguments::id(&model)?;
    if prompt.trim().is_empty() {
        return Err(Refusal::argument("There is nothing to say.", "Write something first."));
    }
    let key = browser()?;
    Ok(crate::request::house()?.say(key, id, prompt, system).await?)
}

/// Under which name this browser's conversation is kept.
#[cfg(feature = "ssr")]
fn browser() -> Result<String, Refusal> {
    match use_context::<crate::Browser>() {
        Some(crate::Browser(key)) => Ok(key),
        None => Err(Refusal::argument(
            "This browser keeps no cookies, so its conversation cannot be kept.",
            "Allow cookies for this address, or use the API.",
        )),
    }
}

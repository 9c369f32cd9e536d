//! POST /manage/forget

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// The conversation is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Always true.
    pub forgotten: bool,
}

/// Forgets this browser's conversation, so that a new one begins. A browser without a cookie has none.
#[server(name = ForgetConversation, prefix = "/manage", endpoint = "forget")]
pub async fn forget() -> Result<Forgotten, Refusal> {
    if let Some(crate::Browser(key)) = use_context() {
        crate::request::house()?.forget(&key);
    }
    Ok(Forgotten { forgotten: true })
}

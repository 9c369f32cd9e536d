//! GET /manage/sessions

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::Session;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Who uses models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// By first use, each with what it holds.
    pub sessions: Vec<Session>,
}

/// Who uses models, and what is kept for each.
#[server(name = ListSessions, prefix = "/manage", endpoint = "sessions", input = GetUrl)]
pub async fn sessions() -> Result<Sessions, Refusal> {
    let snapshot = crate::request::house()?.snapshot();
    Ok(Sessions { sessions: snapshot.sessions.clone() })
}

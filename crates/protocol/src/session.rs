//! Who uses models, and what is being computed for them.

use serde::{Deserialize, Serialize};

use crate::{ModelId, Time};

/// Where a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// A browser with our cookie.
    Browser,
    /// Any other client.
    Api,
}

/// One who uses models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// A short name that does not reveal the cookie.
    pub id: String,
    /// Where it comes from.
    pub kind: SessionKind,
    /// In words: "browser", "api:notebook".
    pub label: String,
    /// The model it used last.
    pub model: Option<ModelId>,
    /// What is kept for it (its conversation's KV cache).
    pub held_bytes: u64,
    /// Requests so far.
    pub requests: u64,
    /// When it was first seen.
    pub started_at: Time,
    /// Its last request; reads do not count.
    pub last_used_at: Time,
    /// What that was.
    pub last_reset_by: String,
    /// When it ends if nothing comes; `null` while something keeps it.
    pub ends_at: Option<Time>,
    /// What keeps it, in words: "in use", "page open", "no timeout"; empty where nothing does.
    #[serde(default)]
    pub kept_by: String,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for its model.
    Queued,
    /// The prompt is being read.
    Prefill,
    /// Tokens come.
    Decode,
    /// It was told to stop and has not yet.
    Cancelling,
}

impl RequestState {
    /// The state's word, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Cancelling => "cancelling",
        }
    }
}

/// A request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// As in the answer's `x-request-id`.
    pub id: String,
    /// For which model.
    pub model: ModelId,
    /// For whom, in words.
    pub client: String,
    /// Where it stands.
    pub state: RequestState,
    /// Since it came.
    pub elapsed_ms: u64,
    /// Tokens of the prompt; 0 until it was read.
    pub prompt_tokens: u64,
    /// Tokens made so far.
    pub completion_tokens: u64,
}

//! What happened, when, why, and how many bytes it moved.

use serde::{Deserialize, Serialize};

use crate::{ModelId, Receipt, Time};

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A model became ready.
    Load,
    /// A model was unloaded, for whatever reason but eviction.
    Unload,
    /// A model was unloaded to make room.
    Evict,
    /// A load or a request was refused.
    Refuse,
    /// A worker died, or a load failed.
    Crash,
    /// Left-overs of an earlier server were found and ended.
    Reclaim,
    /// A setting was changed.
    Settings,
    /// A file was fetched or removed.
    Disk,
    /// A session ended.
    Session,
    /// The server started or stopped.
    Server,
}

impl EventKind {
    /// Every kind, in the order in which a filter lists them.
    pub const ALL: [Self; 10] = [
        Self::Load,
        Self::Unload,
        Self::Evict,
        Self::Refuse,
        Self::Crash,
        Self::Reclaim,
        Self::Settings,
        Self::Disk,
        Self::Session,
        Self::Server,
    ];

    /// The kind's word, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
            Self::Evict => "evict",
            Self::Refuse => "refuse",
            Self::Crash => "crash",
            Self::Reclaim => "reclaim",
            Self::Settings => "settings",
            Self::Disk => "disk",
            Self::Session => "session",
            Self::Server => "server",
        }
    }
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEvent {
    /// Grows by one; a receipt carries the same number.
    pub id: u64,
    /// When it ended.
    pub at: Time,
    /// What it was.
    pub kind: EventKind,
    /// Which model, if one.
    pub model: Option<ModelId>,
    /// Why, in a word or a sentence.
    pub reason: String,
    /// Who asked, in words: "this page", "api 127.0.0.1", "idle timer".
    pub asked_by: String,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// The model's private bytes before.
    pub bytes_before: Option<u64>,
    /// And after.
    pub bytes_after: Option<u64>,
    /// The proof, when it was an unload.
    pub receipt: Option<Receipt>,
    /// Anything else a reader would want.
    pub detail: String,
}

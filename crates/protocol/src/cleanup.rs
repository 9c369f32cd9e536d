//! Clean-up and reload: several receipts, or one and a new instance.

use serde::{Deserialize, Serialize};

use crate::{Model, ModelId, Receipt};

/// What a clean-up looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanUpScope {
    /// Idle models only; `force` changes nothing.
    Idle,
    /// Idle ones now; busy ones are kept unless forced.
    #[default]
    All,
}

/// A model that a clean-up left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub model: ModelId,
    /// Why, in words: "pinned", "2 requests in flight".
    pub reason: String,
}

/// A model that a clean-up would unload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Which.
    pub model: ModelId,
    /// Private bytes that would come back, as last measured; unknown: `null`.
    pub expected_bytes: Option<u64>,
}

/// The answer to a clean-up, real or dry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CleanUp {
    /// It was done.
    Done {
        /// One for each model that went.
        receipts: Vec<Receipt>,
        /// Those that stayed.
        kept: Vec<Kept>,
    },
    /// It was only asked what would be done.
    Dry {
        /// Those that would go.
        would_unload: Vec<Expected>,
        /// Those that would stay.
        kept: Vec<Kept>,
    },
}

/// The answer to a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What the old instance gave back.
    pub receipt: Receipt,
    /// The model with its new instance.
    pub model: Model,
}

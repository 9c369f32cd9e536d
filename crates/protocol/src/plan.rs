//! What a load would take, whom it would evict, or why it is refused.

use serde::{Deserialize, Serialize};

use crate::{Expected, ModelId};

/// The parts of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Weights in private memory.
    pub weights_bytes: u64,
    /// The process, the vocabulary, the template.
    #[serde(default)]
    pub runtime_bytes: u64,
    /// KV cache at the full context.
    pub kv_cache_bytes: u64,
    /// Scratch at its cap.
    pub scratch_bytes: u64,
    /// The four parts come from the file's header; what measurement made of their sum, as a factor. 1 before the first
    /// load.
    pub learned_factor: f64,
    /// Predicted / measured of the last load, less 1, in percent, at ready; `null` before it.
    pub error_percent: Option<f64>,
}

/// What instances of a file took with one context, as measured. Predictions of the next one are corrected by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// `cpu` or `gpu:0`.
    pub device: String,
    /// Positions that a sequence could have.
    pub context: u32,
    /// Private bytes at ready.
    pub ready_bytes: u64,
    /// The same by the file's header alone.
    pub header_bytes: u64,
    /// The most private bytes ever seen.
    pub peak_bytes: u64,
    /// Private bytes when nobody was served and most was kept for sessions.
    pub rest_bytes: u64,
    /// What was kept for sessions then.
    pub rest_held_bytes: u64,
    /// Whether the largest step that there is had been taken by then, so that what was there besides is the scratch at its
    /// cap.
    #[serde(default)]
    pub full: bool,
    /// Predicted / measured private bytes at ready of the last load, less 1, in percent: above 0, too much was predicted.
    pub error_percent: f64,
    /// The same with the scratch at its cap and what was kept for sessions; `null`: no load has come so far yet.
    #[serde(default)]
    pub peak_error_percent: Option<f64>,
}

/// A refusal inside a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// As in [`crate::Code`].
    pub code: String,
    /// The cause, with numbers.
    pub message: String,
    /// What would help.
    pub hint: String,
    /// Whether a load that is asked for with `anyway` would not be refused.
    #[serde(default)]
    pub anyway: bool,
}

/// What a load would take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Of which model.
    pub model: ModelId,
    /// Whether it can be loaded now, evictions included.
    pub fits: bool,
    /// Private bytes at ready.
    pub predicted_bytes: u64,
    /// Private bytes at the full KV and scratch cap, with the mapped bytes that decoding touches.
    pub reserve_bytes: u64,
    /// Weights mapped from disk.
    pub mapped_bytes: u64,
    /// How it was come by.
    pub prediction: Prediction,
    /// What would be free afterwards.
    pub free_after_bytes: i64,
    /// Who would have to go first.
    pub evict: Vec<Expected>,
    /// How long it would wait for room, as far as something measured says so; `null`: not at all, or unknown.
    pub wait_ms: Option<u64>,
    /// What it would wait for, in words; `null`: it would begin at once, or as soon as those in `evict` have gone.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Why it cannot be loaded.
    pub refusal: Option<Refused>,
}

//! A model, its instance, and how good the numbers about it are.

use serde::{Deserialize, Serialize};

use crate::{IdleTimeout, ModelId, Time};

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Answers conversations.
    Chat,
    /// Turns texts into vectors.
    Embedding,
}

/// Where a model stands in its life (ARCHITECTURE.md, The life of a model).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// On disk only.
    Unloaded,
    /// Wanted, waiting for room or for the end of a back-off.
    Waiting,
    /// Its worker is starting or reading weights.
    Loading,
    /// Can answer at once.
    Ready,
    /// Takes no new request; the ones in flight have until the grace ends.
    Draining,
    /// Its worker has been asked, or made, to go; the memory is being looked for.
    Unloading,
    /// The last load or run failed; the failure says why and when it is tried again.
    Failed,
    /// Its worker cannot be killed; its reservation is kept.
    Stuck,
}

impl ModelState {
    /// The state's word, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Unloading => "unloading",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
        }
    }

    /// Whether nothing of it is in use or about to be: its files may go.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Unloaded | Self::Failed)
    }

    /// Whether a worker process exists in this state.
    pub fn holds_memory(self) -> bool {
        matches!(self, Self::Loading | Self::Ready | Self::Draining | Self::Unloading | Self::Stuck)
    }
}

/// How a number was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The kernel or driver counted it for this very process.
    Exact,
    /// Computed from exact numbers of another moment or scope.
    Derived,
    /// A prediction.
    Estimated,
}

/// What an instance holds, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Pss_Anon + Pss_Shmem + SwapPss: what the machine gets back when the worker goes.
    pub private_bytes: u64,
    /// Pss_File: weights mapped from disk, which the system may drop and share at any time.
    pub mapped_bytes: u64,
    /// Bytes on the GPU; unknown or none: `null`.
    pub gpu_bytes: Option<u64>,
    /// How `private_bytes` was come by.
    pub quality: Quality,
    /// When.
    pub measured_at: Time,
}

/// A loaded model: one worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// The worker's process id.
    pub pid: u32,
    /// Grows with every load of any model; a word of an old epoch changes nothing.
    pub epoch: u64,
    /// When it became ready; `null` while it loads.
    pub loaded_at: Option<Time>,
    /// From the decision to load until ready.
    pub load_ms: Option<u64>,
    /// `cpu` or `gpu:0`.
    pub device: String,
    /// Compute threads.
    pub threads: u32,
    /// Positions that one sequence may have.
    pub context: u32,
    /// What confines the worker, in a few words.
    pub sandbox: String,
    /// What computes: whose model, with which instructions; empty while it loads.
    #[serde(default)]
    pub served_by: String,
    /// As last measured; `null` before the first measurement.
    pub memory: Option<Memory>,
    /// Private bytes that were expected at ready; unknown before the first load of a file: `null`.
    pub predicted_bytes: Option<u64>,
    /// Decode speed now; `null` when nothing is being decoded.
    pub tokens_per_second: Option<f64>,
}

/// How far a load has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, in words for a person: "starting", "reading weights".
    pub stage: String,
    /// Parts done, in the stage's own unit.
    pub done: u64,
    /// Parts in all; 0 if unknown.
    pub total: u64,
}

/// Why a load or a run failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// A word for programs, as in [`crate::Code`].
    pub code: String,
    /// The cause, in a sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// When.
    pub at: Time,
    /// When the next try may begin; `null`: not before somebody reloads it.
    pub retry_at: Option<Time>,
    /// The worker's last words.
    pub log_tail: Vec<String>,
}

/// Why a wanted model has not begun to load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// For what it waits, in words: "until `a` has gone", "until the pause after a failure is over".
    pub reason: String,
    /// Until when, as far as something measured says so.
    pub until: Option<Time>,
}

/// A model that can be asked for, with its instance if it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub id: ModelId,
    /// What it can do.
    pub kind: ModelKind,
    /// Architecture as the file names it (`llama`, `bert`); empty until the file was inspected.
    pub family: String,
    /// As the file names it (`Q4_1`, `F32`); empty until the file was inspected.
    pub quantization: String,
    /// On disk.
    pub size_bytes: u64,
    /// Where it stands.
    pub state: ModelState,
    /// Exempt from idle unload, eviction and clean-up.
    pub pinned: bool,
    /// How long it may be idle; `null`: for ever.
    pub idle_timeout_seconds: IdleTimeout,
    /// Requests that hold a lease.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub queued: u32,
    /// Since when nobody uses it; `null` while in use or not loaded.
    pub idle_since: Option<Time>,
    /// When the idle timer will unload it; `null`: it will not.
    pub unload_at: Option<Time>,
    /// Who reset the idle timer last.
    pub last_reset_by: Option<String>,
    /// How far the load is; `null` when none is under way.
    pub progress: Option<Progress>,
    /// Private bytes that a load is expected to take; `null` until the file was inspected.
    #[serde(default)]
    pub expected_bytes: Option<u64>,
    /// Bytes that a load would reserve: private ones at the full KV cache and scratch, and the mapped ones that decoding
    /// touches; `null` until the file was inspected.
    #[serde(default)]
    pub reserve_bytes: Option<u64>,
    /// Predicted / measured private bytes at ready of the last load, less 1, in percent: above 0, too much was predicted.
    /// `null` before it.
    #[serde(default)]
    pub prediction_error_percent: Option<f64>,
    /// The same of the most that it took, conversations included; `null` until its scratch was used to the full once.
    #[serde(default)]
    pub peak_error_percent: Option<f64>,
    /// Why it waits, in the state `waiting`.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// How often it was loaded again within the last hour: a high number says that models chase each other out.
    #[serde(default)]
    pub reloads_per_hour: u32,
    /// How much it is worth keeping when room is made: who has the most idle time / (load time x weight) goes first.
    #[serde(default = "usual_weight")]
    pub weight: f64,
    /// None or one today; a list, because a pool may hold more.
    pub instances: Vec<Instance>,
    /// The last failure, until the next load succeeds.
    pub failure: Option<Failure>,
}

/// That of a model of which nobody said anything.
fn usual_weight() -> f64 {
    1.0
}

//! The proof after an unload.

use serde::{Deserialize, Serialize};

use crate::{ModelId, Time};

/// Who asked, in a receipt of [`Reason::Idle`], when it was the end of the last session that used the model.
pub const LAST_SESSION: &str = "last session";

/// Why a model was unloaded. There is one way to unload; this is what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody asked for it, or for a clean-up.
    Asked,
    /// Its idle timeout, or the last session's end.
    Idle,
    /// Another model needed the room.
    Evicted,
    /// It is being reinitialised.
    Reload,
    /// The server stops.
    Shutdown,
    /// It died, hung, or its load failed.
    Failed,
}

impl Reason {
    /// The reason's word, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Reload => "reload",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
        }
    }
}

/// How the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// It left when told to, or by itself.
    Exit,
    /// SIGTERM was needed.
    Terminated,
    /// SIGKILL was needed.
    Killed,
    /// It is gone, and nobody knows how.
    Unknown,
    /// There was no process.
    None,
}

/// Whether the memory came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least 95 % of the measured private bytes are back.
    Returned,
    /// Something of it is left, and named.
    Residual,
    /// The worker could not be ended.
    Stuck,
    /// There was nothing to unload.
    NotLoaded,
}

/// RAM given back. Signed arithmetic throughout: a residual is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamReturn {
    /// Private bytes measured before.
    pub held_bytes: u64,
    /// Of these, gone now.
    pub returned_bytes: u64,
    /// Of these, still held by somebody.
    pub residual_bytes: u64,
}

/// GPU memory given back, by device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReturn {
    /// The device's number.
    pub index: u32,
    /// Bytes measured before.
    pub held_bytes: u64,
    /// Of these, gone now.
    pub returned_bytes: u64,
    /// Of these, still held.
    pub residual_bytes: u64,
}

/// How the whole machine changed over an unload: evidence beside the verdict and never the verdict, since others take and
/// give meanwhile. Signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// MemFree with the per-CPU page lists: so much more was free afterwards.
    pub free_bytes: i64,
    /// Shmem: so much more was shared afterwards.
    pub shared_bytes: i64,
}

/// What an unload did, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its number in the ledger; 0 when nothing was unloaded.
    pub id: u64,
    /// Which model.
    pub model: ModelId,
    /// The worker that went; `null` when there was none.
    pub pid: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// Who asked, in words.
    pub asked_by: String,
    /// When the memory was back.
    pub at: Time,
    /// From the decision until the memory was back, grace included.
    pub duration_ms: u64,
    /// How the worker ended.
    pub method: Method,
    /// RAM.
    pub ram: RamReturn,
    /// Each GPU on which it held something.
    pub gpus: Vec<DeviceReturn>,
    /// Whether it came back.
    pub verdict: Verdict,
    /// Requests that were cut off when the grace ended.
    pub cut_off_requests: u32,
    /// What was left, who holds it and what to do, one sentence each; also what had outlived the worker and was ended.
    #[serde(default)]
    pub left: Vec<String>,
    /// How the machine changed meanwhile; `null`: it was not measured.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// What the server itself held then: over many unloads it says whether the server grows with them. `null` before the
    /// first measurement.
    #[serde(default)]
    pub server_bytes: Option<u64>,
}

impl Receipt {
    /// The answer to unloading what is not loaded.
    pub fn not_loaded(model: ModelId, asked_by: String, at: Time) -> Self {
        Self {
            id: 0,
            model,
            pid: None,
            reason: Reason::Asked,
            asked_by,
            at,
            duration_ms: 0,
            method: Method::None,
            ram: RamReturn::default(),
            gpus: Vec::new(),
            verdict: Verdict::NotLoaded,
            cut_off_requests: 0,
            left: Vec::new(),
            evidence: None,
            server_bytes: None,
        }
    }
}

//! Everything that is known at one moment.

use serde::{Deserialize, Serialize};

use crate::{Model, Quality, RequestView, Session, Time};

/// Whether the server takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does.
    Ready,
    /// It is stopping.
    Draining,
}

/// The server itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Numeric and dotted.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: Time,
    /// What this process holds itself; `null` before the first sample.
    pub private_bytes: Option<u64>,
    /// The worker that was started ahead and waits for a model; `null` while there is none.
    #[serde(default)]
    pub spare: Option<SpareWorker>,
    /// Whether it takes requests.
    pub state: ServerState,
    /// Where files of one's own go.
    #[serde(default)]
    pub models_dir: String,
}

/// A worker process without a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareWorker {
    /// Its process.
    pub pid: u32,
    /// What it holds.
    pub private_bytes: u64,
}

/// Stall shares of the last ten seconds, in percent (PSI).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited for memory.
    pub some_avg10: f64,
    /// All of them did.
    pub full_avg10: f64,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// MemTotal, or the container's limit where it binds.
    pub memory_total_bytes: u64,
    /// MemAvailable.
    pub memory_available_bytes: u64,
    /// SwapTotal - SwapFree.
    pub swap_used_bytes: u64,
    /// Logical processors.
    pub cpu_count: u32,
    /// Busy share of all of them, 0 to 100, since the sample before.
    pub cpu_percent: f64,
    /// `null` where the kernel has no PSI.
    pub pressure: Option<Pressure>,
}

/// In which way there is no GPU to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuAbsence {
    /// There is none, or no driver.
    #[default]
    Absent,
    /// There is a driver, and it refuses.
    Unreadable,
    /// There is a driver, and it does not answer.
    Stuck,
}

/// Why there is no GPU to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuAbsent {
    /// In which way.
    #[serde(default)]
    pub kind: GpuAbsence,
    /// "NVIDIA driver not loaded".
    pub reason: String,
    /// What to do.
    pub hint: String,
}

/// Of whom a GPU's driver says what they hold on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// Of every process.
    #[default]
    Everybody,
    /// Of our own processes, since only these are looked at.
    Ours,
    /// Of nobody.
    Nobody,
}

/// A GPU, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's number.
    pub index: u32,
    /// The product's name.
    pub name: String,
    /// In all.
    pub memory_total_bytes: u64,
    /// By everybody, what the driver keeps for itself left out.
    pub memory_used_bytes: u64,
    /// By the driver's own word; `null`: it says no more than the two above.
    #[serde(default)]
    pub memory_free_bytes: Option<u64>,
    /// Of whom it is known what they hold on it.
    #[serde(default)]
    pub named: Named,
    /// 0 to 100.
    pub utilization_percent: Option<f64>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Watts.
    pub power_watts: Option<f64>,
    /// What of it cannot be known here, and why: in a container, under WSL.
    #[serde(default)]
    pub note: Option<String>,
}

/// What models may take of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuBudget {
    /// Which.
    pub index: u32,
    /// At most.
    pub limit_bytes: u64,
    /// Spoken for; `null`: its driver does not say what models hold on it.
    pub reserved_bytes: Option<u64>,
}

/// What models may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Of RAM, at most.
    pub ram_limit_bytes: u64,
    /// Of RAM, spoken for.
    pub ram_reserved_bytes: u64,
    /// Of each GPU.
    pub gpus: Vec<GpuBudget>,
}

/// Every byte of a device in one of five columns, all from one moment.
///
/// RAM: free = MemFree + per-CPU page lists (zoneinfo) + Buffers + Cached - Shmem + KReclaimable; models, server =
/// private bytes, those of a worker that waits for a model among the server's; other = AnonPages + Shmem + SUnreclaim +
/// PageTables + Percpu + VmallocUsed + KernelStack -
/// models - server; unaccounted = total - the rest, signed, the only remainder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// `ram` or `gpu:0`.
    pub device: String,
    /// In all.
    pub total_bytes: u64,
    /// Private bytes of our workers; `null` on a GPU whose driver does not say it.
    pub models_bytes: Option<u64>,
    /// Private bytes of the server, and of the worker that waits for a model.
    pub server_bytes: u64,
    /// Everybody else and the kernel. Signed: what is computed is shown as computed. `null` as above.
    pub other_bytes: Option<i64>,
    /// Free, file cache that the system may drop included.
    pub free_bytes: u64,
    /// What the kernel's or the driver's totals leave unexplained; `null` where one of the others is.
    pub unaccounted_bytes: Option<i64>,
    /// How good the worst of these numbers is.
    pub quality: Quality,
    /// Of `free_bytes`, file cache; `null` where it is not known.
    #[serde(default)]
    pub file_cache_bytes: Option<u64>,
}

/// A fetch that is under way or has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// What was asked for, as it was written.
    #[serde(rename = "ref")]
    pub reference: String,
    /// So far.
    pub done_bytes: u64,
    /// In all; `null` until known.
    pub total_bytes: Option<u64>,
    /// Why it failed; `null` while it goes on.
    pub error: Option<String>,
}

/// Something that a person should know and may mend; the server goes on meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A word for programs: `history_not_written`, `history_set_aside`.
    pub code: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Since when.
    pub since: Time,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every snapshot and sample; starts at the server's start time in Unix milliseconds, so that it
    /// grows over restarts too.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// When memory was measured; older than `at` where something has happened since, or the kernel takes long to answer.
    /// `null` before the first sample.
    #[serde(default)]
    pub measured_at: Option<Time>,
    /// The server.
    pub server: Server,
    /// The machine; `null` before the first sample.
    pub host: Option<Host>,
    /// Why `gpus` is empty; `null` when it is not.
    pub gpu_absent: Option<GpuAbsent>,
    /// Each GPU.
    pub gpus: Vec<Gpu>,
    /// What models may take.
    pub budget: Budget,
    /// RAM first, then each GPU; empty before the first sample.
    pub books: Vec<Books>,
    /// Loads are refused until then.
    pub yield_until: Option<Time>,
    /// Fetches.
    pub downloads: Vec<Download>,
    /// By name.
    pub models: Vec<Model>,
    /// By first use.
    pub sessions: Vec<Session>,
    /// By age.
    pub requests: Vec<RequestView>,
    /// The newest unloads of this run, newest first, at most 20.
    #[serde(default)]
    pub receipts: Vec<crate::Receipt>,
    /// What is wrong and goes on; mostly empty.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

//! What the manager needs from outside, as traits. The product's parts implement them in supervisor, telemetry and
//! store; tests put doubles here.

use std::{fs::File, io, sync::Arc, time::Duration};

use protocol::{
    DeviceReturn, Download, Evidence, Failure, IdleTimeout, LedgerEvent, Lesson, Method, ModelId, ModelKind,
    Problem, Progress, Quality, Warning,
};
use tokio::sync::watch;

use crate::Weight;

/// Counts loads over the whole life of a server. Every word from outside about an instance carries its epoch, so
/// that the late word of a dead worker changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The three clocks of one moment. Comes from outside, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME: goes on in suspend. Idle deadlines run on it.
    pub boot: Duration,
    /// CLOCK_MONOTONIC: stands in suspend. Hang detection and durations run on it.
    pub mono: Duration,
    /// Wall time in Unix milliseconds; only ever shown.
    pub wall_ms: i64,
}

/// The clock and the one timer, behind one port: a CLOCK_BOOTTIME timerfd in the product, the test's hand in tests.
pub trait Clock: Send + Sync + 'static {
    /// This moment.
    fn now(&self) -> Now;
    /// Waits until `boot` has come. Cancelled by being dropped.
    fn sleep_until(&self, boot: Duration) -> impl Future<Output = ()> + Send;
}

/// A model as it stands on the shelf, before anything is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ShelfModel {
    /// Its name.
    pub id: ModelId,
    /// What it can do.
    pub kind: ModelKind,
    /// `llama`; empty until inspected.
    pub family: String,
    /// `Q4_1`; empty until inspected.
    pub quantization: String,
    /// On disk.
    pub size_bytes: u64,
    /// Which files these are: another text, other files under the same name.
    pub files: String,
    /// What earlier instances of these files took, and of others with the same contents. What the manager has seen itself it
    /// knows better; it takes over the rest.
    pub lessons: Vec<Lesson>,
    /// What a load is expected to take; `None` until inspected.
    pub expected: Option<Expectation>,
    /// Why it cannot be loaded: a load is refused with exactly this.
    pub trouble: Option<Problem>,
    /// Exempt from idle unload and clean-up, from the configuration.
    pub pinned: bool,
    /// Its own idle timeout, from the configuration.
    pub idle_timeout: Option<IdleTimeout>,
    /// Its own context, from the configuration.
    pub context: Option<u32>,
    /// How much it is worth keeping, from the configuration.
    pub weight: Weight,
}

/// What a load takes by what stands in the file's header, part by part; what it takes with a given context is
/// computed from it where the load is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Weights in private memory.
    pub weights_bytes: u64,
    /// The process, the vocabulary, the template.
    pub runtime_bytes: u64,
    /// KV cache for one position; 0: it has none.
    pub kv_bytes_per_token: u64,
    /// Scratch at its cap.
    pub scratch_bytes: u64,
    /// Mapped from disk, all of which decoding touches.
    pub mapped_bytes: u64,
    /// What it takes of a GPU, beside all this; `None`: it computes on the CPU.
    pub gpu: Option<GpuExpectation>,
    /// Positions where nobody asks for another number.
    pub context: u32,
    /// The most that the model can have.
    pub longest: u32,
}

/// What a load takes of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuExpectation {
    /// Which.
    pub index: u32,
    /// Weights, scratch and the driver's own, whatever the context.
    pub fixed_bytes: u64,
    /// KV cache for one position.
    pub kv_bytes_per_token: u64,
}

/// Start an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct StartOrder {
    /// Of which model.
    pub model: ModelId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Positions that a sequence may have; `None`: what the file says.
    pub context: Option<u32>,
}

/// End an instance: the ladder Shutdown, SIGTERM, SIGKILL (lifecycle.md). Whoever is still in flight has been
/// given up by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOrder {
    /// Which.
    pub epoch: Epoch,
    /// Skip the words and kill: it is still loading, or somebody is in a hurry.
    pub at_once: bool,
}

/// Facts about a ready instance.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyFacts {
    /// The worker's process.
    pub pid: u32,
    /// `cpu` or `gpu:0`.
    pub device: String,
    /// Compute threads.
    pub threads: u32,
    /// Positions that a sequence may have.
    pub context: u32,
    /// What confines the worker.
    pub sandbox: String,
    /// What computes: whose model, with which instructions.
    pub served_by: String,
    /// Measured at ready.
    pub memory: Option<Measured>,
}

/// What a process holds, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Pss_Anon + Pss_Shmem + SwapPss.
    pub private_bytes: u64,
    /// Pss_File.
    pub mapped_bytes: u64,
    /// On GPUs; `None`: unknown or none.
    pub gpu_bytes: Option<u64>,
    /// How `private_bytes` was come by.
    pub quality: Quality,
    /// When, in Unix milliseconds.
    pub wall_ms: i64,
}

/// What an instance's end gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The process that went; `None`: there was none yet.
    pub pid: Option<u32>,
    /// How it went.
    pub method: Method,
    /// Private bytes before; `None`: it could not be measured.
    pub held: Option<Measured>,
    /// Of these, still held by somebody.
    pub residual_bytes: u64,
    /// The same for each GPU on which it was known to hold something.
    pub gpus: Vec<DeviceReturn>,
    /// Who holds what and what to do, one sentence each; also what had outlived it and was ended.
    pub left: Vec<String>,
    /// How the machine changed from before to after.
    pub evidence: Option<Evidence>,
}

/// What the launcher tells about an instance. At most one `Ready`, then exactly one of `Released` and `Stuck` (a
/// stuck one may be `Released` later), each with its epoch.
#[derive(Clone, Debug)]
pub enum News<I> {
    /// A process exists.
    Spawned {
        /// Its id.
        pid: u32,
    },
    /// The load goes on.
    Progress(Progress),
    /// It can answer.
    Ready(I, ReadyFacts),
    /// The load failed, or the process died or hung; the launcher is ending it now and `Released` follows.
    Failed(Failure),
    /// The process is reaped and what it held was looked for.
    Released(Release),
    /// It cannot be killed.
    Stuck {
        /// Its id.
        pid: u32,
    },
    /// What a session's conversation takes in it.
    Held {
        /// Which session.
        session: String,
        /// Bytes; 0 when it has been forgotten.
        bytes: u64,
    },
    /// It held more than ever before, by its own count, if only for a moment.
    Peak {
        /// Private bytes.
        bytes: u64,
    },
    /// It has nothing to do; what it holds then by its own count, all of one moment.
    AtRest {
        /// Private bytes beyond those at ready.
        grown_bytes: u64,
        /// Private bytes that are kept for sessions.
        kept_bytes: u64,
        /// Whether it has taken the largest step that there is.
        full: bool,
    },
}

/// Where news goes. Never blocks; the manager's queue takes it.
pub trait NewsDesk<I>: Send + Sync + 'static {
    /// Hands one piece of news over.
    fn tell(&self, epoch: Epoch, news: News<I>);
}

/// Starts and ends instances. Both calls return at once; what comes of them arrives as [`News`].
pub trait Launcher: Send + Sync + 'static {
    /// What a lease gives its holder: the instance's handle, through which it is talked to.
    type Instance: Clone + Send + Sync + 'static;

    /// Begins a load.
    fn start(&self, order: StartOrder, desk: Arc<dyn NewsDesk<Self::Instance>>);

    /// Cancels every request of an instance; each ends with a sentence that says why.
    fn cancel_all(&self, epoch: Epoch);

    /// Begins the ladder. Of an unknown or ended epoch: nothing.
    fn stop(&self, order: StopOrder);

    /// Forgets a session's conversation in an instance.
    fn end_session(&self, epoch: Epoch, session: &str);
}

/// Measures processes. Implemented by telemetry; the supervisor measures with it before and after an unload.
pub trait Probe: Send + Sync + 'static {
    /// What a process holds, exactly (smaps_rollup): costs 9 to 33 ms a GiB, call it from a blocking thread.
    fn exact(&self, pid: u32) -> io::Result<Measured>;

    /// The machine's own totals now; `None`: not known here.
    fn machine(&self) -> Option<RamTotals> {
        None
    }

    /// What the drivers of GPUs say now, and what this process holds there. `None`: one does not answer, so nothing is known.
    /// May block for two seconds. A probe that knows of no GPU has none to tell of.
    fn gpus(&self, _pid: u32) -> Option<GpuReading> {
        Some(GpuReading::default())
    }
}

/// A file of a model, opened by the server; the worker never opens one.
#[derive(Debug)]
pub struct ModelFile {
    /// What it is: `gguf`, `safetensors`, `config`, `tokenizer`.
    pub role: ModelFileRole,
    /// Open for reading.
    pub file: File,
}

/// What a model's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFileRole {
    /// A GGUF file, or a part of a split one, counted from 0.
    Gguf(u16),
    /// `model.safetensors`.
    Safetensors,
    /// `config.json`.
    Config,
    /// `tokenizer.json`.
    Tokenizer,
}

/// Opens a model's files. Implemented by store, used by the supervisor.
pub trait Shelf: Send + Sync + 'static {
    /// The files, open for reading, or why not.
    fn open(&self, model: &ModelId) -> Result<Vec<ModelFile>, Problem>;
}

/// Keeps what happens over restarts. Implemented by history.
pub trait Archive: Send + Sync + 'static {
    /// Takes an event. Never blocks and never fails: what cannot be kept is the archive's own trouble to tell.
    fn keep(&self, event: &Arc<LedgerEvent>);
}

/// What the manager is told by others while it runs, and where it writes things down.
#[derive(Clone)]
pub struct Feeds {
    /// The sampler's; `None` before the first sample.
    pub samples: watch::Receiver<Option<Arc<MemorySample>>>,
    /// Fetches, joined to every snapshot.
    pub downloads: watch::Receiver<Vec<Download>>,
    /// Troubles of other rooms, joined to every snapshot.
    pub warnings: watch::Receiver<Vec<Warning>>,
    /// Where ledger events go.
    pub archive: Arc<dyn Archive>,
}

/// The kernel's totals that the books of RAM are made of, all from one moment, in bytes (`/proc/meminfo`, and the
/// per-CPU page lists from `/proc/zoneinfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamTotals {
    /// MemTotal.
    pub total: u64,
    /// MemFree.
    pub free: u64,
    /// Pages on the per-CPU lists, which MemFree leaves out.
    pub per_cpu_lists: u64,
    /// Buffers.
    pub buffers: u64,
    /// Cached, shared memory included.
    pub cached: u64,
    /// Shmem.
    pub shmem: u64,
    /// KReclaimable.
    pub kernel_reclaimable: u64,
    /// AnonPages.
    pub anonymous: u64,
    /// SUnreclaim.
    pub slab_unreclaimable: u64,
    /// PageTables.
    pub page_tables: u64,
    /// Percpu.
    pub per_cpu: u64,
    /// VmallocUsed.
    pub vmalloc_used: u64,
    /// KernelStack.
    pub kernel_stack: u64,
    /// In a group with a limit of its own: of what it leaves, what others have taken already by a limit further up.
    pub taken_beside: u64,
}

/// Memory that a process holds on a GPU, as its driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuUse {
    /// The device.
    pub index: u32,
    /// The process.
    pub pid: u32,
    /// `None`: the driver does not say.
    pub bytes: Option<u64>,
}

/// What the drivers of GPUs said at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuReading {
    /// Each GPU.
    pub gpus: Vec<protocol::Gpu>,
    /// Who holds what on them.
    pub uses: Vec<GpuUse>,
}

/// One tick of the sampler. A slow reader misses samples; it never delays one.
#[derive(Clone, Debug, PartialEq)]
pub struct MemorySample {
    /// When, in Unix milliseconds.
    pub wall_ms: i64,
    /// When it was begun, on the monotonic clock: what had been given back by then is in it.
    pub begun: Duration,
    /// The machine.
    pub host: protocol::Host,
    /// What the books of RAM are made of.
    pub ram: RamTotals,
    /// The server itself.
    pub server: Option<Measured>,
    /// Each watched worker that could be read, by pid.
    pub workers: Vec<(u32, Measured)>,
    /// Which of them was started ahead and waited for a model.
    pub spare: Option<u32>,
    /// Each GPU.
    pub gpus: Vec<protocol::Gpu>,
    /// Why there is none.
    pub gpu_absent: Option<protocol::GpuAbsent>,
    /// Who holds what on them.
    pub gpu_uses: Vec<GpuUse>,
}

impl RamTotals {
    /// How the machine changed until `after`.
    pub fn until(&self, after: &Self) -> Evidence {
        let change = |of: fn(&Self) -> u64| {
            let change = i128::from(of(after)) - i128::from(of(self));
            i64::try_from(change).unwrap_or(if change < 0 { i64::MIN } else { i64::MAX })
        };
        Evidence {
            free_bytes: change(|totals| totals.free.saturating_add(totals.per_cpu_lists)),
            shared_bytes: change(|totals| totals.shmem),
        }
    }
}

impl MemorySample {
    /// What can be taken without harm: MemAvailable, and the pages on the per-CPU lists, which it leaves out.
    pub(crate) fn available(&self) -> u64 {
        self.host.memory_available_bytes.saturating_add(self.ram.per_cpu_lists)
    }
}

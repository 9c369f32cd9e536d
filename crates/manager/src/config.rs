//! What the manager is told once, at the start.

use std::time::Duration;

use protocol::IdleTimeout;

/// How this server shows itself in every snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Numeric and dotted.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in Unix milliseconds. Snapshot sequences begin here, so that they grow over restarts.
    pub started_at_ms: i64,
    /// Where files of one's own go.
    pub models_dir: String,
}

/// How long each state may last (ARCHITECTURE.md: no state lasts for ever).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A load without progress fails after this.
    pub load_stall: Duration,
    /// And any load after this, whatever progress it tells of.
    pub load_most: Duration,
    /// Requests in flight have this long when somebody asks for an unload or a reload.
    pub grace: Duration,
    /// And this long when the server stops.
    pub shutdown_grace: Duration,
    /// Between telling a request to stop and ending its worker.
    pub cancel: Duration,
    /// The same when the server stops.
    pub shutdown_cancel: Duration,
    /// A worker that was told to go and of which nothing is heard is stuck after this. Longer than the launcher's
    /// own ladder.
    pub unload: Duration,
    /// The same when the server stops.
    pub shutdown_unload: Duration,
    /// A request waits at most this long for its model, and a model for room.
    pub queue_wait: Duration,
    /// A model that has become ready is not pushed out before this, so that two that do not fit together do not chase
    /// each other out.
    pub min_stay: Duration,
    /// The first pause after a crash; doubled with each further one.
    pub back_off: Duration,
    /// The longest such pause.
    pub back_off_most: Duration,
    /// Three crashes within this span put a model into quarantine. An instance that was ready for as long has
    /// proved itself: the pauses begin again with the first.
    pub crash_window: Duration,
    /// An instance with an idle timeout of 0 that nobody has used yet stays this long, so that loading it first and
    /// using it then works.
    pub unused: Duration,
    /// A browser's session ends this long after its last page closed.
    pub page_closed: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            load_stall: ms(60_000),
            load_most: ms(2 * 3_600_000),
            grace: ms(30_000),
            shutdown_grace: ms(2000),
            cancel: ms(2000),
            shutdown_cancel: ms(1000),
            unload: ms(20_000),
            shutdown_unload: ms(4000),
            queue_wait: ms(600_000),
            min_stay: ms(10_000),
            back_off: ms(500),
            back_off_most: ms(30_000),
            crash_window: ms(60_000),
            unused: ms(60_000),
            page_closed: ms(30_000),
        }
    }
}

/// What models may take of each GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuLimit {
    /// Hundredths of a percent of its memory, 0 to 10,000.
    Share(u32),
    /// Bytes.
    Bytes(u64),
}

impl GpuLimit {
    /// In bytes, of a device with so many.
    pub(crate) fn of(self, total_bytes: u64) -> u64 {
        match self {
            Self::Share(share) => {
                u64::try_from(u128::from(total_bytes) * u128::from(share) / 10_000).unwrap_or(total_bytes)
            }
            Self::Bytes(bytes) => bytes.min(total_bytes),
        }
    }
}

/// What the manager is told once, at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How this server shows itself.
    pub server: ServerFacts,
    /// Reservations of all models together stay within this many bytes of RAM.
    pub ram_limit_bytes: u64,
    /// MemAvailable that is left to others, in bytes.
    pub reserve_bytes: u64,
    /// What models may take of each GPU.
    pub gpu_limit: GpuLimit,
    /// For models that have no idle timeout of their own.
    pub idle_timeout: IdleTimeout,
    /// A session ends this long after its last request.
    pub session_timeout: IdleTimeout,
    /// However much it is used, a session ends at this age, between two requests.
    pub session_max_age: IdleTimeout,
    /// A model goes at most this long after its last session has ended.
    pub after_last_session: IdleTimeout,
    /// Requests that may wait for one model.
    pub queue: u32,
    /// Requests that one instance serves at once; further ones wait.
    pub in_flight: u32,
    /// The number of the first ledger event of this run.
    pub first_event: u64,
    /// How long each state may last.
    pub deadlines: Deadlines,
}

impl Config {
    /// The defaults, for a server that shows itself as `server` and may use `ram_limit_bytes` for models.
    pub fn new(server: ServerFacts, ram_limit_bytes: u64) -> Self {
        Self {
            server,
            ram_limit_bytes,
            reserve_bytes: 1 << 30,
            gpu_limit: GpuLimit::Share(9000),
            idle_timeout: IdleTimeout::After { ms: 15 * 60_000 },
            session_timeout: IdleTimeout::After { ms: 5 * 60_000 },
            session_max_age: IdleTimeout::Never,
            after_last_session: IdleTimeout::After { ms: 60_000 },
            queue: 32,
            in_flight: 8,
            first_event: 1,
            deadlines: Deadlines::default(),
        }
    }
}

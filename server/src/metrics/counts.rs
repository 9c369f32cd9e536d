//! What only grows while the server runs, by model: counted from the ledger and from requests as they end.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use history::RequestRow;
use prometheus_client::metrics::histogram::Histogram;
use protocol::{EventKind, LedgerEvent, ModelId};

/// Seconds: from a small model that lies in the page cache to a large one from a slow disk.
const LOAD: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 300.0];
/// Seconds, a load included.
const FIRST: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0];
/// Seconds: from a thousand tokens a second to one.
const TOKEN: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What was counted about one model.
#[derive(Debug)]
pub(super) struct OfModel {
    /// By result: `ready`, `failed`, `refused`.
    pub(super) loads: BTreeMap<&'static str, u64>,
    /// By reason.
    pub(super) unloads: BTreeMap<&'static str, u64>,
    pub(super) load_seconds: Histogram,
    pub(super) returned_bytes: u64,
    pub(super) residual_bytes: u64,
    /// By outcome.
    pub(super) requests: BTreeMap<&'static str, u64>,
    pub(super) first_token_seconds: Histogram,
    pub(super) token_seconds: Histogram,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) completion_tokens: u64,
    /// Private bytes when it came ready the last time.
    pub(super) ready_bytes: Option<u64>,
    /// Whether it came ready and has not gone since.
    loaded: bool,
}

impl Default for OfModel {
    fn default() -> Self {
        Self {
            loads: BTreeMap::new(),
            unloads: BTreeMap::new(),
            load_seconds: Histogram::new(LOAD),
            returned_bytes: 0,
            residual_bytes: 0,
            requests: BTreeMap::new(),
            first_token_seconds: Histogram::new(FIRST),
            token_seconds: Histogram::new(TOKEN),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            ready_bytes: None,
            loaded: false,
        }
    }
}

/// The counts of all models that there are.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<ModelId, OfModel>>);

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}

impl Counts {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelId, OfModel>> {
        // Whoever panicked here has at most not counted one thing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what the ledger says.
    pub(crate) fn event(&self, event: &LedgerEvent) {
        let Some(model) = &event.model else { return };
        let mut models = self.lock();
        let of = models.entry(model.clone()).or_default();
        match event.kind {
            EventKind::Load => {
                *of.loads.entry("ready").or_default() += 1;
                (of.loaded, of.ready_bytes) = (true, event.bytes_after);
                if let Some(ms) = event.duration_ms {
                    of.load_seconds.observe(ms as f64 / 1000.0);
                }
            }
            EventKind::Refuse => *of.loads.entry("refused").or_default() += 1,
            // One that was ready has not failed to load; its end is an unload.
            EventKind::Crash if !of.loaded => *of.loads.entry("failed").or_default() += 1,
            _ => {}
        }
        if let Some(proof) = &event.receipt {
            of.loaded = false;
            *of.unloads.entry(proof.reason.word()).or_default() += 1;
            let gpus = || proof.gpus.iter();
            of.returned_bytes += proof.ram.returned_bytes + gpus().map(|gpu| gpu.returned_bytes).sum::<u64>();
            of.residual_bytes += proof.ram.residual_bytes + gpus().map(|gpu| gpu.residual_bytes).sum::<u64>();
        }
    }

    /// Counts a request that ended.
    pub(crate) fn request(&self, row: &RequestRow) {
        let mut models = self.lock();
        let of = models.entry(row.model.clone()).or_default();
        *of.requests.entry(row.outcome).or_default() += 1;
        of.prompt_tokens += row.prompt_tokens;
        of.cached_tokens += row.cached_tokens;
        of.completion_tokens += row.completion_tokens;
        if let Some(ms) = row.ttft_ms {
            of.first_token_seconds.observe(ms as f64 / 1000.0);
        }
        if let Some(speed) = row.tokens_per_second.filter(|speed| *speed > 0.0) {
            of.token_seconds.observe(1.0 / speed);
        }
    }
}

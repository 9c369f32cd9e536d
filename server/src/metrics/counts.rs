//! What only grows while the server runs, by model: counted from the ledger and from requests as they end.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use history::RequestRow;
use prometheus_client::metrics::histogram::Histogram;
use protocol::{DeviceReturn, EventKind, LedgerEvent, ModelId, Receipt, Verdict};

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
    /// Of those that have ended.
    residual_bytes: u64,
    /// Of the last one.
    pub(super) last_residual_bytes: Option<u64>,
    /// Of one that cannot be ended, as long as it cannot.
    stuck_bytes: Option<u64>,
    /// By outcome.
    pub(super) requests: BTreeMap<&'static str, u64>,
    pub(super) first_token_seconds: Histogram,
    pub(super) token_seconds: Histogram,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) completion_tokens: u64,
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
            last_residual_bytes: None,
            stuck_bytes: None,
            requests: BTreeMap::new(),
            first_token_seconds: Histogram::new(FIRST),
            token_seconds: Histogram::new(TOKEN),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            loaded: false,
        }
    }
}

impl OfModel {
    /// Counts an unload. One that could not be ended has a second receipt when it does end: that is the same unload.
    fn unloaded(&mut self, proof: &Receipt) {
        let sum =
            |ram: u64, of_gpu: fn(&DeviceReturn) -> u64| ram + proof.gpus.iter().map(of_gpu).sum::<u64>();
        let residual = sum(proof.ram.residual_bytes, |gpu| gpu.residual_bytes);
        if self.stuck_bytes.take().is_none() {
            *self.unloads.entry(proof.reason.word()).or_default() += 1;
        }
        self.returned_bytes += sum(proof.ram.returned_bytes, |gpu| gpu.returned_bytes);
        self.last_residual_bytes = Some(residual);
        match proof.verdict {
            Verdict::Stuck => self.stuck_bytes = Some(residual),
            _ => self.residual_bytes += residual,
        }
    }

    /// What unloads left behind, in all.
    pub(super) fn residual_bytes(&self) -> u64 {
        self.residual_bytes + self.stuck_bytes.unwrap_or(0)
    }
}

/// The counts of all models that there are, and how the server itself fares over their loads and unloads.
#[derive(Default)]
pub(crate) struct Counts {
    models: Mutex<BTreeMap<ModelId, OfModel>>,
    growth: Mutex<Growth>,
}

/// What the server held after the first unload of this run and after the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    first: Option<u64>,
    last: u64,
    /// Unloads in between.
    cycles: u64,
}

impl Growth {
    fn unloaded(&mut self, server_bytes: u64) {
        self.last = server_bytes;
        match self.first {
            None => self.first = Some(server_bytes),
            Some(_) => self.cycles += 1,
        }
    }

    /// Bytes by which it grew with each unload, which may be fewer than none.
    fn each(self) -> Option<f64> {
        let grown = self.last as f64 - self.first? as f64;
        (self.cycles > 0).then(|| grown / self.cycles as f64)
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}

impl Counts {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ModelId, OfModel>> {
        // Whoever panicked here has at most not counted one thing.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes by which the server itself grew with each unload of this run; `None`: there were fewer than two.
    pub(super) fn growth_bytes(&self) -> Option<f64> {
        self.growth().each()
    }

    /// Counts what the ledger says.
    pub(crate) fn event(&self, event: &LedgerEvent) {
        let Some(model) = &event.model else { return };
        let mut models = self.lock();
        let of = models.entry(model.clone()).or_default();
        match event.kind {
            EventKind::Load => {
                *of.loads.entry("ready").or_default() += 1;
                of.loaded = true;
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
            of.unloaded(proof);
            if let Some(bytes) = proof.server_bytes.filter(|_| proof.verdict != Verdict::Stuck) {
                self.growth().unloaded(bytes);
            }
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

#[cfg(test)]
mod tests {
    use protocol::{Method, RamReturn, Reason, Time};

    use super::*;

    fn unload(verdict: Verdict, held_bytes: u64, residual_bytes: u64) -> LedgerEvent {
        let (model, at): (ModelId, _) = ("m".parse().unwrap(), Time::from_unix_ms(0));
        let receipt = Receipt {
            method: Method::Killed,
            ram: RamReturn { held_bytes, returned_bytes: held_bytes - residual_bytes, residual_bytes },
            verdict,
            ..Receipt::not_loaded(model.clone(), String::new(), at)
        };
        LedgerEvent {
            id: 1,
            at,
            kind: EventKind::Unload,
            model: Some(model),
            reason: String::new(),
            asked_by: String::new(),
            duration_ms: None,
            bytes_before: None,
            bytes_after: None,
            receipt: Some(receipt),
            detail: String::new(),
        }
    }

    #[test]
    fn a_worker_that_could_not_be_ended_and_then_did_end_is_one_unload_that_left_nothing() {
        let counts = Counts::default();
        let told = |event: &LedgerEvent| {
            counts.event(event);
            let all = counts.lock();
            let of = all.values().next().unwrap();
            (of.unloads[Reason::Asked.word()], of.returned_bytes, of.residual_bytes())
        };
        assert_eq!(told(&unload(Verdict::Stuck, 33, 33)), (1, 0, 33));
        assert_eq!(told(&unload(Verdict::Returned, 33, 1)), (1, 32, 1));
        assert_eq!(told(&unload(Verdict::Returned, 33, 0)), (2, 65, 1), "the next one counts");
        assert_eq!(counts.lock().values().next().unwrap().last_residual_bytes, Some(0));
    }

    #[test]
    fn the_servers_own_growth_is_told_for_each_unload() {
        let counts = Counts::default();
        for (server_bytes, each) in
            [(1000, None), (1300, Some(300.0)), (1200, Some(100.0)), (700, Some(-100.0))]
        {
            let mut event = unload(Verdict::Returned, 33, 0);
            event.receipt.as_mut().unwrap().server_bytes = Some(server_bytes);
            counts.event(&event);
            assert_eq!(counts.growth_bytes(), each);
        }
    }
}

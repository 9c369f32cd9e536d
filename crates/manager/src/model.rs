//! One model: its state with the data of that state, and beside it what outlives every state.
//!
//! Pure data and questions about it; only `step` changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::{IdleTimeout, ModelState, Progress, Reason, Receipt};

use crate::{
    Weight,
    admission::Need,
    config::Deadlines,
    event::Ticket,
    forecast::Forecast,
    lessons::{self, AtRest},
    past::Past,
    policy::Due,
    ports::{Epoch, Measured, Now, ReadyFacts, ShelfModel},
    queue::{Caller, Queue},
};

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// As it stands on the shelf, or stood when it was last there.
    pub(crate) shelf: ShelfModel,
    /// Whether its file is there.
    pub(crate) on_shelf: bool,
    /// Wished at run time; `None`: as configured.
    pub(crate) pinned: Option<bool>,
    /// The same.
    pub(crate) idle_timeout: Wished<IdleTimeout>,
    /// The same; `None`: as configured.
    pub(crate) weight: Option<Weight>,
    /// What became of earlier instances.
    pub(crate) past: Past,
    /// Where it stands.
    pub(crate) state: State,
}

/// What was wished at run time about something that the configuration may speak of too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wished<T> {
    /// Nothing: as configured.
    Nothing,
    /// This.
    Own(T),
    /// As models have it that have none of their own, whatever was configured at the start.
    Usual,
}

/// Where a model stands, with the data of that state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// On disk only.
    Unloaded,
    /// Wanted, but not yet begun.
    Waiting { queue: Queue, what: Await },
    /// A worker is starting or reading weights.
    Loading(Box<Loading>),
    /// Can answer.
    Ready(Box<Ready>),
    /// Takes nothing new; requests in flight have until the grace ends.
    Draining(Box<Draining>),
    /// Its worker was told to go.
    Unloading(Box<Unloading>),
    /// The last load or run failed.
    Failed(Retry),
    /// Its worker cannot be ended.
    Stuck(Box<Stuck>),
}

/// What a wanted model waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Await {
    /// The end of the pause after a crash, on the monotonic clock.
    Pause(Duration),
    /// Room.
    Room(InLine),
}

/// A place in the line of those who wait for room.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InLine {
    /// Lower ones come first.
    pub(crate) place: u64,
    /// What it will reserve; nobody behind it gets that room.
    pub(crate) need: Need,
    /// It is refused if there was no room by then, on the monotonic clock.
    pub(crate) until: Duration,
    /// For whom it waits, in words.
    pub(crate) reason: String,
    /// When it need wait no longer, where that is known.
    pub(crate) due: Option<Due>,
}

/// When a failed model may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// From then on, on the monotonic clock.
    At(Duration),
    /// When somebody reloads it.
    Quarantined,
}

/// A worker and what is known of it, in every state that has one. While it is in a state, its reservation is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Worker {
    pub(crate) epoch: Epoch,
    /// `None` until there is a process.
    pub(crate) pid: Option<u32>,
    /// The decision to load.
    pub(crate) begun: Now,
    /// Why and for whom, for the ledger.
    pub(crate) loaded_for: (&'static str, String),
    /// Which files it was made from.
    pub(crate) files: String,
    /// Expected before the load; `None`: the file was not inspected.
    pub(crate) expected: Option<Forecast>,
    /// Reserved before the load, in bytes.
    pub(crate) reserve_bytes: u64,
    /// The same of a GPU, if it computes there: which, and how much.
    pub(crate) gpu: Option<(u32, u64)>,
    /// Asked for at the start.
    pub(crate) context: Option<u32>,
    /// From ready on.
    pub(crate) facts: Option<ReadyFacts>,
    /// When that was.
    pub(crate) ready: Option<Now>,
    /// As last measured.
    pub(crate) memory: Option<Measured>,
    /// A request's own idle timeout.
    pub(crate) idle_timeout: Option<IdleTimeout>,
    /// Decode speed between the last two measurements.
    pub(crate) tokens_per_second: Option<f64>,
    /// What it keeps for sessions, by their key.
    pub(crate) held: BTreeMap<String, u64>,
}

impl Worker {
    /// Bytes spoken for: what was expected at the cap, or what is there if that is more.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserve_bytes.max(self.private())
    }

    /// The same of a GPU.
    pub(crate) fn reserved_of_gpu(&self, index: u32) -> u64 {
        let measured = self.memory.and_then(|memory| memory.gpu_bytes).unwrap_or(0);
        self.gpu.filter(|(which, _)| *which == index).map_or(0, |(_, bytes)| bytes.max(measured))
    }

    fn private(&self) -> u64 {
        self.memory.map_or(0, |memory| memory.private_bytes)
    }

    /// From the decision until ready.
    pub(crate) fn load_ms(&self) -> Option<u64> {
        Some(ms(self.ready?.mono.saturating_sub(self.begun.mono)))
    }

    /// Whether a request that needs `context` can be put to this instance.
    pub(crate) fn suits(&self, context: Option<u32>) -> bool {
        let loaded = self.facts.as_ref().map(|facts| facts.context);
        context.is_none_or(|wanted| self.context == Some(wanted) || loaded == Some(wanted))
    }
}

impl Record {
    /// Learns from what the instance holds, or held for a moment, in private bytes. Whether it is worth writing down.
    pub(crate) fn learn_peak(&mut self, private: u64) -> bool {
        let Some((facts, _)) = self.learnable() else { return false };
        let of = (facts.device.clone(), facts.context);
        lessons::peaked(&mut self.shelf.lessons, (&of.0, of.1), private)
    }

    /// Learns from what the instance holds while it has nothing to do, by its own count: since ready it has grown by so many
    /// private bytes, and keeps so many for sessions. Whether it is worth writing down.
    pub(crate) fn learn_rest(&mut self, grown: u64, kept: u64, full: bool) -> bool {
        let Some((facts, expected)) = self.learnable() else { return false };
        let of = (facts.device.clone(), facts.context);
        // A cache that is half full has had large prompts, too.
        let full = |expected: &Forecast| full || (kept > 0 && kept >= expected.kv_cache_bytes() / 2);
        let full = expected.filter(full).map(|expected| expected.with_kept(kept));
        lessons::rested(&mut self.shelf.lessons, (&of.0, of.1), AtRest { grown, kept, full })
    }

    /// What an instance says of the files that are there now, and what had been expected of it.
    fn learnable(&self) -> Option<(&ReadyFacts, Option<Forecast>)> {
        let worker = self.state.worker().filter(|worker| worker.files == self.shelf.files)?;
        Some((worker.facts.as_ref()?, worker.expected))
    }
}

/// Those who hold a lease, and since when they had asked for it.
pub(crate) type Leases = BTreeMap<Ticket, (Caller, Now)>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loading {
    pub(crate) worker: Worker,
    pub(crate) progress: Option<Progress>,
    /// When it last got further, on the monotonic clock.
    pub(crate) heard: Duration,
    pub(crate) queue: Queue,
}

impl Loading {
    /// Takes what the worker says of its progress. Only what is further than before shows that the load goes on: a worker
    /// may repeat itself for ever.
    pub(crate) fn goes_on(&mut self, progress: Progress, now: Duration) {
        let further = |old: &Progress| old.stage != progress.stage || old.done < progress.done;
        if self.progress.as_ref().is_none_or(further) {
            self.heard = now;
        }
        self.progress = Some(progress);
    }

    /// When the load counts as failed if nothing more is heard, on the monotonic clock.
    pub(crate) fn due(&self, deadlines: &Deadlines) -> Duration {
        (self.heard + deadlines.load_stall).min(self.worker.begun.mono + deadlines.load_most)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) worker: Worker,
    pub(crate) leases: Leases,
    /// Waiting for a lease to come back, since all places are taken.
    pub(crate) queue: Queue,
    /// The end of the last use; counts when nobody holds a lease.
    pub(crate) idle_since: Now,
    /// Who that was, in words.
    pub(crate) last_reset_by: String,
    /// Whether anybody has had a lease yet.
    pub(crate) used: bool,
    /// Keys of the sessions that used this instance and have not ended.
    pub(crate) sessions: BTreeSet<String>,
    /// When the last of them ended.
    pub(crate) sessions_over: Option<Now>,
}

impl Ready {
    /// Whether nobody uses it or waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.leases.is_empty() && self.queue.is_empty()
    }
}

/// Why an instance goes, and who waits for the proof.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Farewell {
    pub(crate) reason: Reason,
    /// In words.
    pub(crate) by: String,
    /// The decision.
    pub(crate) begun: Now,
    pub(crate) cut_off: u32,
    /// Asks that get the receipt.
    pub(crate) watchers: Vec<Ticket>,
    /// If it died, when it may be tried again; what it died of stands in [`Past`].
    pub(crate) retry: Option<Retry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests may end by themselves until then.
    Grace(Duration),
    /// They were told to stop and have until then.
    Cutting(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draining {
    pub(crate) worker: Worker,
    pub(crate) leases: Leases,
    pub(crate) farewell: Farewell,
    /// With its end on the monotonic clock.
    pub(crate) phase: Phase,
    /// Who waits for the next instance.
    pub(crate) next: Queue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unloading {
    pub(crate) worker: Worker,
    pub(crate) farewell: Farewell,
    /// Since when, on the monotonic clock.
    pub(crate) since: Duration,
    /// Stuck if nothing was heard by then, on the monotonic clock.
    pub(crate) deadline: Duration,
    /// Who waits for the next instance.
    pub(crate) next: Queue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stuck {
    pub(crate) worker: Worker,
    pub(crate) farewell: Farewell,
    /// What those who waited for the proof were told.
    pub(crate) receipt: Receipt,
}

impl State {
    /// The state's word.
    pub(crate) fn word(&self) -> ModelState {
        match self {
            Self::Unloaded => ModelState::Unloaded,
            Self::Waiting { .. } => ModelState::Waiting,
            Self::Loading(_) => ModelState::Loading,
            Self::Ready(_) => ModelState::Ready,
            Self::Draining(_) => ModelState::Draining,
            Self::Unloading(_) => ModelState::Unloading,
            Self::Failed(_) => ModelState::Failed,
            Self::Stuck(_) => ModelState::Stuck,
        }
    }

    /// The worker, in every state that has one.
    pub(crate) fn worker(&self) -> Option<&Worker> {
        match self {
            Self::Loading(s) => Some(&s.worker),
            Self::Ready(s) => Some(&s.worker),
            Self::Draining(s) => Some(&s.worker),
            Self::Unloading(s) => Some(&s.worker),
            Self::Stuck(s) => Some(&s.worker),
            Self::Unloaded | Self::Waiting { .. } | Self::Failed(_) => None,
        }
    }

    pub(crate) fn worker_mut(&mut self) -> Option<&mut Worker> {
        match self {
            Self::Loading(s) => Some(&mut s.worker),
            Self::Ready(s) => Some(&mut s.worker),
            Self::Draining(s) => Some(&mut s.worker),
            Self::Unloading(s) => Some(&mut s.worker),
            Self::Stuck(s) => Some(&mut s.worker),
            Self::Unloaded | Self::Waiting { .. } | Self::Failed(_) => None,
        }
    }

    /// Those who wait for the present or the next instance.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        match self {
            Self::Waiting { queue, .. } => Some(queue),
            Self::Loading(s) => Some(&s.queue),
            Self::Ready(s) => Some(&s.queue),
            Self::Draining(s) => Some(&s.next),
            Self::Unloading(s) => Some(&s.next),
            Self::Unloaded | Self::Failed(_) | Self::Stuck(_) => None,
        }
    }

    pub(crate) fn queue_mut(&mut self) -> Option<&mut Queue> {
        match self {
            Self::Waiting { queue, .. } => Some(queue),
            Self::Loading(s) => Some(&mut s.queue),
            Self::Ready(s) => Some(&mut s.queue),
            Self::Draining(s) => Some(&mut s.next),
            Self::Unloading(s) => Some(&mut s.next),
            Self::Unloaded | Self::Failed(_) | Self::Stuck(_) => None,
        }
    }

    /// Those who hold a lease of the present instance.
    pub(crate) fn leases(&self) -> Option<&Leases> {
        match self {
            Self::Ready(s) => Some(&s.leases),
            Self::Draining(s) => Some(&s.leases),
            _ => None,
        }
    }

    /// Why and for whom it is going, in the states in which it is.
    pub(crate) fn farewell_mut(&mut self) -> Option<&mut Farewell> {
        match self {
            Self::Draining(s) => Some(&mut s.farewell),
            Self::Unloading(s) => Some(&mut s.farewell),
            _ => None,
        }
    }
}

impl Record {
    /// A model that was found on the shelf.
    pub(crate) fn new(shelf: ShelfModel) -> Self {
        Self {
            shelf,
            on_shelf: true,
            pinned: None,
            idle_timeout: Wished::Nothing,
            weight: None,
            past: Past::default(),
            state: State::Unloaded,
        }
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.unwrap_or(self.shelf.pinned)
    }

    /// How much it is worth keeping.
    pub(crate) fn weight(&self) -> Weight {
        self.weight.unwrap_or(self.shelf.weight)
    }

    /// How long it may be idle: as a request of this instance said, else as wished, as configured, as usual.
    pub(crate) fn idle_timeout(&self, usual: IdleTimeout) -> IdleTimeout {
        let of_instance = self.state.worker().and_then(|worker| worker.idle_timeout);
        let own = match self.idle_timeout {
            Wished::Nothing => self.shelf.idle_timeout,
            Wished::Own(timeout) => Some(timeout),
            Wished::Usual => None,
        };
        of_instance.or(own).unwrap_or(usual)
    }

    /// Its place among those who wait for room.
    pub(crate) fn in_line(&self) -> Option<&InLine> {
        match &self.state {
            State::Waiting { what: Await::Room(line), .. } => Some(line),
            _ => None,
        }
    }

    /// What a load with this context will take, if the file was inspected.
    pub(crate) fn expected(&self, context: Option<u32>) -> Option<Forecast> {
        let expected = self.shelf.expected.as_ref()?;
        Some(Forecast::new(expected, context.or(self.shelf.context), &self.shelf.lessons))
    }

    /// The same, or the file's own size where nothing better is known.
    pub(crate) fn forecast(&self, context: Option<u32>) -> Forecast {
        self.expected(context).unwrap_or_else(|| Forecast::of_size(self.shelf.size_bytes))
    }
}

/// Whole milliseconds.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

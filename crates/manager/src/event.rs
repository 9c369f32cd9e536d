//! Everything that can happen, and everything that can come of it.

use std::sync::Arc;

use protocol::{
    EventKind, Failure, IdleTimeout, LedgerEvent, Model, ModelId, Plan, Problem, Progress, Receipt, Reloaded,
    SessionKind,
};

use crate::{
    Weight,
    desk::{Defaults, LoadWish, Note},
    lease::LeaseWish,
    ports::{Epoch, MemorySample, News, ReadyFacts, Release, ShelfModel, StartOrder, StopOrder},
    sessions::Hidden,
};

/// Numbers every ask; a granted lease keeps its ask's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// How an unload is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Requests in flight have the grace to end.
    Gentle,
    /// They are cut at once.
    Force,
}

/// Everything that can happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A lease is wanted.
    Lease { ticket: Ticket, wish: LeaseWish },
    /// Whoever asked waits no more.
    Leave { ticket: Ticket },
    /// A lease came back.
    LeaseBack { lease: Ticket, model: ModelId },
    /// A load is wanted.
    Load { ticket: Ticket, model: ModelId, wish: LoadWish },
    /// Somebody wants to know what a load would do; changes nothing.
    Plan { ticket: Ticket, model: ModelId, context: Option<u32> },
    /// An unload is wanted.
    Unload { ticket: Ticket, model: ModelId, manner: Manner, by: String },
    /// A clean-up looks at this model: it goes if the policy lets it; `dry` only says whether it would.
    CleanUp { ticket: Ticket, model: ModelId, manner: Manner, dry: bool, by: String },
    /// A fresh instance is wanted.
    Reload { ticket: Ticket, model: ModelId, by: String },
    /// The model shall be exempt from idle unload and clean-up, or no longer.
    Pin { ticket: Ticket, model: ModelId, pinned: bool, by: String },
    /// The model shall have another idle timeout; `None`: none of its own.
    IdleTimeout { ticket: Ticket, model: ModelId, timeout: Option<IdleTimeout>, by: String },
    /// The model shall be worth more or less than others.
    Weigh { ticket: Ticket, model: ModelId, weight: Weight, by: String },
    /// A request shall stop.
    CancelRequest { ticket: Ticket, request: String },
    /// What is on disk now.
    Stock { ticket: Ticket, shelf: Vec<ShelfModel> },
    /// Something happened outside that belongs into the ledger.
    Note { ticket: Ticket, note: Note },
    /// Other defaults from now on.
    Defaults { ticket: Ticket, defaults: Defaults },
    /// A browser's page opened or closed.
    Presence { key: String, kind: SessionKind, label: String, open: bool },
    /// A page that holds no stream was hidden, came back or was closed.
    PageHidden { key: String, what: Hidden },
    /// A session shall end; `id` is the shown one.
    EndSession { ticket: Ticket, id: String, by: String },
    /// No load may begin for so many minutes; 0: from now on again.
    Yield { ticket: Ticket, minutes: u32, by: String },
    /// The server stops.
    ShutDown { ticket: Ticket },
    /// The launcher told something.
    News { epoch: Epoch, heard: Heard },
    /// The sampler measured; with it the decode speed of each instance since the measurement before.
    Sampled(Arc<MemorySample>, Vec<(Epoch, f64)>),
    /// A deadline may have come.
    Timer,
}

/// News without the instance's handle, which the actor keeps.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Spawned { pid: u32 },
    Progress(Progress),
    Ready(ReadyFacts),
    Failed(Failure),
    Released(Release),
    Stuck { pid: u32 },
    Held { session: String, bytes: u64 },
    Peak { bytes: u64 },
    AtRest { grown_bytes: u64, kept_bytes: u64, full: bool },
}

impl Heard {
    /// Takes the handle out of a piece of news.
    pub(crate) fn split<I>(news: News<I>) -> (Self, Option<I>) {
        match news {
            News::Spawned { pid } => (Self::Spawned { pid }, None),
            News::Progress(progress) => (Self::Progress(progress), None),
            News::Ready(instance, facts) => (Self::Ready(facts), Some(instance)),
            News::Failed(failure) => (Self::Failed(failure), None),
            News::Released(release) => (Self::Released(release), None),
            News::Stuck { pid } => (Self::Stuck { pid }, None),
            News::Held { session, bytes } => (Self::Held { session, bytes }, None),
            News::Peak { bytes } => (Self::Peak { bytes }, None),
            News::AtRest { grown_bytes, kept_bytes, full } => {
                (Self::AtRest { grown_bytes, kept_bytes, full }, None)
            }
        }
    }
}

/// What an ask is told, if it is not refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Whether there was such a thing.
    Found(bool),
    /// The model as it stands now.
    Model(Box<Model>),
    /// What a load would do.
    Plan(Box<Plan>),
    /// It was unloaded.
    Receipt(Box<Receipt>),
    /// It was reloaded.
    Reloaded(Box<Reloaded>),
    /// A clean-up leaves it alone, and why.
    Kept(String),
    /// A clean-up would unload it; the bytes that would come back.
    Would(Option<u64>),
}

/// What the actor shall do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Begin a load.
    Start(StartOrder),
    /// Begin to end an instance.
    Stop(StopOrder),
    /// Cancel every request of an instance.
    CancelAll(Epoch),
    /// Tell one request to stop.
    StopRequest { lease: Ticket, why: Problem },
    /// The instance is gone: drop its handle.
    Forget(Epoch),
    /// Let an instance forget a session.
    EndSession { epoch: Epoch, session: String },
    /// A lease is granted.
    Grant { ticket: Ticket, epoch: Epoch, queue_ms: u64, load_ms: Option<u64> },
    /// An ask is answered.
    Answer { ticket: Ticket, answer: Result<Answer, Problem> },
    /// Something goes into the ledger.
    Ledger(Box<LedgerEvent>),
}

/// A line for the ledger, before it has its number and its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) kind: EventKind,
    pub(crate) model: Option<ModelId>,
    pub(crate) reason: String,
    pub(crate) by: String,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) bytes_before: Option<u64>,
    pub(crate) bytes_after: Option<u64>,
    pub(crate) detail: String,
}

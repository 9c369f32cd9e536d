//! Management: reading how things stand, and every verb but the lease.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use protocol::{
    CleanUp, CleanUpScope, EventKind, Expected, IdleTimeout, Kept, LedgerEvent, Lesson, Model, ModelId,
    ModelState, Plan, Problem, Receipt, Reloaded, Sample, SessionKind, Snapshot,
};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

use crate::{
    Weight,
    config::GpuLimit,
    event::{Answer, Event, Manner, Ticket},
    gate::Gate,
    ledger::Ledger,
    ports::ShelfModel,
    sessions::Hidden,
    words,
};

/// A cancelled request that runs has so long to end before its cancel is answered all the same.
const CANCEL_SHOWN: Duration = Duration::from_secs(1);

/// How a load is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadWish {
    /// Rules the instance until it goes.
    pub idle_timeout: Option<IdleTimeout>,
    /// Positions that a sequence may have; `None`: as configured, else as the file says.
    pub context: Option<u32>,
    /// Answer when it is ready rather than when it has begun.
    pub wait: bool,
    /// Go past the limit and into the reserve, though never so far that other programs cannot go on.
    pub anyway: bool,
    /// Who asks, in words.
    pub by: String,
}

/// Which ledger events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of this model only.
    pub model: Option<ModelId>,
    /// Of this kind only.
    pub kind: Option<EventKind>,
    /// Not older, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Not newer, in Unix milliseconds.
    pub until_ms: Option<i64>,
    /// At most so many.
    pub limit: u32,
    /// Older than this event.
    pub after: Option<u64>,
}

impl HistoryQuery {
    /// Whether an event is wanted; the limit is another matter.
    pub fn fits(&self, event: &LedgerEvent) -> bool {
        let at = event.at.unix_ms();
        self.model.as_ref().is_none_or(|model| event.model.as_ref() == Some(model))
            && self.kind.is_none_or(|kind| event.kind == kind)
            && self.since_ms.is_none_or(|since| at >= since)
            && self.until_ms.is_none_or(|until| at <= until)
            && self.after.is_none_or(|after| event.id < after)
    }
}

/// A page of the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryPage {
    /// Newest first.
    pub events: Vec<LedgerEvent>,
    /// The next page's `after`; `None`: this is the last one.
    pub next: Option<u64>,
}

/// Something that happened outside and belongs into the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What kind of thing.
    pub kind: EventKind,
    /// Which model, if one.
    pub model: Option<ModelId>,
    /// Why.
    pub reason: String,
    /// Who asked, in words.
    pub by: String,
    /// Bytes that came or went, if it is known.
    pub bytes_before: Option<u64>,
    /// And after.
    pub bytes_after: Option<u64>,
    /// Anything else a reader would want.
    pub detail: String,
}

/// Defaults that can be changed while the server runs; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// For models that have no idle timeout of their own.
    pub idle_timeout: Option<IdleTimeout>,
    /// A session ends this long after its last request.
    pub session_timeout: Option<IdleTimeout>,
    /// A model goes at most this long after its last session has ended.
    pub after_last_session: Option<IdleTimeout>,
    /// Reservations of all models together stay within this many bytes of RAM. What is loaded stays loaded.
    pub ram_limit_bytes: Option<u64>,
    /// MemAvailable that is left to others, in bytes.
    pub reserve_bytes: Option<u64>,
    /// What models may take of each GPU.
    pub gpu_limit: Option<GpuLimit>,
}

/// Everything about models but leases. Cheap to clone; reads never block and reset nothing.
#[derive(Clone)]
pub struct Desk {
    pub(crate) gate: Arc<Gate>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) samples: watch::Receiver<Arc<Sample>>,
    pub(crate) workers: watch::Receiver<Vec<u32>>,
    pub(crate) lessons: watch::Receiver<Arc<BTreeMap<String, Vec<Lesson>>>>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Desk {
    /// How everything stood a moment ago.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// The sequence of the newest change in the life cycle (measurements do not count).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// What changes with every measurement. Before the first one: an empty sample.
    pub fn samples(&self) -> watch::Receiver<Arc<Sample>> {
        self.samples.clone()
    }

    /// The processes that hold models, for the sampler to watch.
    pub fn workers(&self) -> watch::Receiver<Vec<u32>> {
        self.workers.clone()
    }

    /// What was learned of files, by what they are; for whoever keeps it over restarts.
    pub fn lessons(&self) -> watch::Receiver<Arc<BTreeMap<String, Vec<Lesson>>>> {
        self.lessons.clone()
    }

    /// Ledger events from now on. Whoever reads too slowly misses the oldest and is told so.
    pub fn ledger(&self) -> broadcast::Receiver<Arc<LedgerEvent>> {
        self.ledger.follow()
    }

    /// Loads a model, or joins a load in progress, or counts as a use of a loaded one.
    pub async fn load(&self, model: ModelId, wish: LoadWish) -> Result<Model, Problem> {
        self.model(|ticket| Event::Load { ticket, model, wish }).await
    }

    /// The same for every model that is loaded: each counts as used now.
    pub async fn load_all(&self, wish: LoadWish) -> Vec<Result<Model, Problem>> {
        join_all(self.loaded().into_iter().map(|model| self.load(model, wish.clone()))).await
    }

    /// What a load would take and whom it would push out, or why it would be refused; by the decision that the load
    /// itself would take. Changes nothing.
    pub async fn plan(&self, model: ModelId, context: Option<u32>) -> Result<Plan, Problem> {
        match self.gate.ask(|ticket| Event::Plan { ticket, model, context }).await? {
            Answer::Plan(plan) => Ok(*plan),
            other => Err(words::wrong_answer(&other)),
        }
    }

    /// Unloads a model and answers when its memory is back (or is known not to come back).
    pub async fn unload(&self, model: ModelId, force: bool, by: String) -> Result<Receipt, Problem> {
        match self.gate.ask(|ticket| Event::Unload { ticket, model, manner: manner(force), by }).await? {
            Answer::Receipt(receipt) => Ok(*receipt),
            other => Err(words::wrong_answer(&other)),
        }
    }

    /// Unloads every model that is loaded, all at the same time.
    pub async fn unload_all(&self, force: bool, by: String) -> Vec<Receipt> {
        let all = self.loaded().into_iter().map(|model| self.unload(model, force, by.clone()));
        join_all(all).await.into_iter().flatten().collect()
    }

    /// Reinitialises a model: drain, unload, verify, load. Answers when the new instance is ready.
    pub async fn reload(&self, model: ModelId, by: String) -> Result<Reloaded, Problem> {
        match self.gate.ask(|ticket| Event::Reload { ticket, model, by }).await? {
            Answer::Reloaded(reloaded) => Ok(*reloaded),
            other => Err(words::wrong_answer(&other)),
        }
    }

    /// Reinitialises every model that is loaded, all at the same time.
    pub async fn reload_all(&self, by: String) -> Vec<(ModelId, Result<Reloaded, Problem>)> {
        let all = self.loaded().into_iter().map(|model| async {
            let outcome = self.reload(model.clone(), by.clone()).await;
            (model, outcome)
        });
        join_all(all).await
    }

    /// Unloads what is idle (and with `force`, where all is looked at, what is busy too), all at the same time;
    /// or, as a dry run, says what would go. Pinned models stay.
    pub async fn clean_up(
        &self,
        scope: CleanUpScope,
        force: bool,
        dry_run: bool,
        by: String,
    ) -> Result<CleanUp, Problem> {
        let manner = manner(force && scope == CleanUpScope::All);
        let all = self.loaded().into_iter().map(|model| async {
            let (id, by) = (model.clone(), by.clone());
            let asked =
                self.gate.ask(|ticket| Event::CleanUp { ticket, model: id, manner, dry: dry_run, by }).await;
            (model, asked)
        });
        let (mut receipts, mut would_unload, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (model, asked) in join_all(all).await {
            match asked? {
                Answer::Receipt(receipt) => receipts.push(*receipt),
                Answer::Would(expected_bytes) => would_unload.push(Expected { model, expected_bytes }),
                Answer::Kept(reason) => kept.push(Kept { model, reason }),
                other => return Err(words::wrong_answer(&other)),
            }
        }
        Ok(if dry_run { CleanUp::Dry { would_unload, kept } } else { CleanUp::Done { receipts, kept } })
    }

    /// Gives a model its own idle timeout (`None`: that of models which have none), which rules a loaded instance at once.
    pub async fn set_idle_timeout(
        &self,
        model: ModelId,
        timeout: Option<IdleTimeout>,
        by: String,
    ) -> Result<Model, Problem> {
        self.model(|ticket| Event::IdleTimeout { ticket, model, timeout, by }).await
    }

    /// Makes a model worth more or less than others when room is made.
    pub async fn set_weight(&self, model: ModelId, weight: Weight, by: String) -> Result<Model, Problem> {
        self.model(|ticket| Event::Weigh { ticket, model, weight, by }).await
    }

    /// Exempts a model from idle unload and clean-up, or no longer.
    pub async fn pin(&self, model: ModelId, pinned: bool, by: String) -> Result<Model, Problem> {
        self.model(|ticket| Event::Pin { ticket, model, pinned, by }).await
    }

    /// Tells a request to stop, waiting or running. Whether there was such a request. Answers when it has ended, so that
    /// a page that is drawn next does not show it any more; one that takes longer than a second shows as cancelling.
    pub async fn cancel_request(&self, request: &str) -> bool {
        let found = self.found(|ticket| Event::CancelRequest { ticket, request: request.to_owned() }).await;
        if found {
            let mut snapshots = self.snapshots.clone();
            let ended = snapshots.wait_for(|now| now.requests.iter().all(|shown| shown.id != request));
            // Neither a late end nor the manager's own changes that the request was told.
            let _ = timeout(CANCEL_SHOWN, ended).await;
        }
        found
    }

    /// Says what is on disk now. A loaded model that vanished stays until it is unloaded.
    pub async fn stock(&self, shelf: Vec<ShelfModel>) {
        // Refused only at the manager's end, when nothing is left that could be loaded.
        let _ = self.gate.ask(|ticket| Event::Stock { ticket, shelf }).await;
    }

    /// Writes a line into the ledger about something that happened outside.
    pub async fn note(&self, note: Note) {
        let _ = self.gate.ask(|ticket| Event::Note { ticket, note }).await;
    }

    /// Changes defaults; they rule loaded models at once.
    pub async fn set_defaults(&self, defaults: Defaults) {
        let _ = self.gate.ask(|ticket| Event::Defaults { ticket, defaults }).await;
    }

    /// Says that a browser's page opened or closed. An open page keeps its session known, not busy; a while after
    /// the last one has closed the session ends. Never waits, so that a page's drop guard can call it.
    pub fn presence(&self, key: String, kind: SessionKind, label: String, open: bool) {
        self.gate.tell(Event::Presence { key, kind, label, open });
    }

    /// Says that a browser's page, which then holds no stream, was hidden, came back or was closed.
    pub fn page_hidden(&self, key: String, what: Hidden) {
        self.gate.tell(Event::PageHidden { key, what });
    }

    /// Ends a session (the id is the shown one) and has its conversations forgotten. Whether there was one.
    pub async fn end_session(&self, id: &str, by: String) -> bool {
        self.found(|ticket| Event::EndSession { ticket, id: id.to_owned(), by }).await
    }

    /// Gives the machine's memory to others for so many minutes: everything is unloaded, and no load begins before. 0 ends
    /// it. Returns when what was loaded is gone.
    pub async fn yield_memory(&self, minutes: u32, by: String) -> Result<(), Problem> {
        let asked_by = by.clone();
        self.gate.ask(|ticket| Event::Yield { ticket, minutes, by: asked_by }).await?;
        if minutes > 0 {
            self.unload_all(false, by).await;
        }
        Ok(())
    }

    /// Stops: nothing new is taken, every model is unloaded, all at the same time. Returns when nothing is left,
    /// or nothing but what is stuck. May be called more than once.
    pub async fn shut_down(&self) {
        let _ = self.gate.ask(|ticket| Event::ShutDown { ticket }).await;
    }

    fn loaded(&self) -> Vec<ModelId> {
        let loaded = |m: &&Model| m.state.holds_memory() || m.state == ModelState::Waiting;
        self.snapshots.borrow().models.iter().filter(loaded).map(|m| m.id.clone()).collect()
    }

    async fn model(&self, event: impl FnOnce(Ticket) -> Event) -> Result<Model, Problem> {
        match self.gate.ask(event).await? {
            Answer::Model(model) => Ok(*model),
            other => Err(words::wrong_answer(&other)),
        }
    }

    async fn found(&self, event: impl FnOnce(Ticket) -> Event) -> bool {
        matches!(self.gate.ask(event).await, Ok(Answer::Found(true)))
    }
}

fn manner(force: bool) -> Manner {
    if force { Manner::Force } else { Manner::Gentle }
}

//! The core: `step` is the only writer of life-cycle state. Pure and total; whatever happens is one [`Event`], and
//! whatever comes of it is a list of [`Action`]s that somebody else carries out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use protocol::{LedgerEvent, Lesson, Model, ModelId, Problem, Receipt, Time};

use crate::{
    config::Config,
    event::{Action, Answer, Event, Line, Ticket},
    model::{Await, Draining, Loading, Ready, Record, Retry, State},
    policy::Due,
    ports::{Epoch, MemorySample, Now},
    pressure::Guard,
    queue::{Queue, Waiter},
    sessions::Sessions,
    view,
};

mod asks;
mod ends;
mod estimates;
mod loads;
mod news;
mod plans;
mod room;
mod time;
mod usage;
mod wishes;

pub(crate) use time::unload_at;

/// Receipts kept for the snapshot.
const RECEIPTS: usize = 20;

/// All life-cycle state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct House {
    pub(crate) config: Config,
    pub(crate) models: BTreeMap<ModelId, Record>,
    pub(crate) sessions: Sessions,
    /// Newest first.
    pub(crate) receipts: VecDeque<Receipt>,
    pub(crate) sample: Option<Arc<MemorySample>>,
    /// Between the last two measurements.
    pub(crate) between_samples: Option<Duration>,
    /// Once the server stops: those who wait for the end of it.
    pub(crate) stopping: Option<Vec<Ticket>>,
    /// What came back after the last measurement.
    pub(crate) freed: Option<Freed>,
    /// No load begins before.
    pub(crate) yield_until: Option<Due>,
    /// Whether the machine runs short.
    pub(crate) pressure: Guard,
    next_epoch: u64,
    next_event: u64,
    next_place: u64,
}

/// Bytes that came back after the last measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Freed {
    /// When the last of them did, on the monotonic clock.
    pub(crate) at: Duration,
    pub(crate) ram: u64,
    /// Of each GPU.
    pub(crate) gpus: BTreeMap<u32, u64>,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Actions {
    /// In this order.
    pub(crate) list: Vec<Action>,
    /// Whether life-cycle state may have changed.
    pub(crate) changed: bool,
    /// Whether something was learned that is worth keeping.
    pub(crate) learned: bool,
}

/// Lets one thing happen.
pub(crate) fn step(house: &mut House, event: Event, now: Now) -> Actions {
    let mut turn = Turn { house, now, actions: Actions::default() };
    turn.take(event);
    turn.pass_time();
    turn.let_in();
    turn.end_of_stop();
    turn.actions
}

impl House {
    /// An empty house; `salt` is drawn by the caller and never shown.
    pub(crate) fn new(config: Config, salt: u64) -> Self {
        Self {
            models: BTreeMap::new(),
            sessions: Sessions::new(salt),
            receipts: VecDeque::new(),
            sample: None,
            between_samples: None,
            stopping: None,
            freed: None,
            yield_until: None,
            pressure: Guard::default(),
            next_epoch: 1,
            next_place: 1,
            next_event: config.first_event,
            config,
        }
    }

    /// Bytes that models have reserved: a fold, since the reservations live in the states.
    pub(crate) fn reserved(&self) -> u64 {
        self.models.values().filter_map(|r| r.state.worker()).map(|w| w.reserved()).sum()
    }

    /// The same of a GPU.
    pub(crate) fn reserved_of_gpu(&self, index: u32) -> u64 {
        self.models.values().filter_map(|r| r.state.worker()).map(|w| w.reserved_of_gpu(index)).sum()
    }

    /// What was learned of files, by what they are.
    pub(crate) fn lessons(&self) -> BTreeMap<String, Vec<Lesson>> {
        let taught =
            self.models.values().map(|record| &record.shelf).filter(|shelf| !shelf.lessons.is_empty());
        taught.map(|shelf| (shelf.files.clone(), shelf.lessons.clone())).collect()
    }

    /// The processes that hold models.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.models.values().filter_map(|record| record.state.worker()?.pid).collect()
    }

    /// Whether an instance is still somebody's.
    pub(crate) fn knows(&self, epoch: Epoch) -> bool {
        self.models.values().filter_map(|r| r.state.worker()).any(|worker| worker.epoch == epoch)
    }

    /// Keys of the sessions that wait for something or run something.
    pub(crate) fn busy_sessions(&self) -> BTreeSet<&str> {
        let callers = self.models.values().flat_map(|record| {
            let held = record.state.leases().into_iter().flatten().map(|(_, (caller, _))| caller);
            held.chain(record.state.queue().into_iter().flat_map(|q| q.iter().filter_map(Waiter::caller)))
        });
        callers.filter_map(|caller| Some(caller.session.as_ref()?.key.as_str())).collect()
    }

    /// What a session's conversations take in all instances, in bytes.
    pub(crate) fn held_by(&self, session: &str) -> u64 {
        let workers = self.models.values().filter_map(|record| record.state.worker());
        workers.filter_map(|worker| worker.held.get(session)).sum()
    }
}

/// One step under way.
struct Turn<'a> {
    house: &'a mut House,
    now: Now,
    actions: Actions,
}

impl Turn<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Lease { ticket, wish } => self.lease(ticket, wish),
            Event::Leave { ticket } => self.leave(ticket),
            Event::LeaseBack { lease, model } => self.lease_back(lease, &model),
            Event::Load { ticket, model, wish } => self.load(ticket, &model, wish),
            Event::Plan { ticket, model, context } => self.plan(ticket, &model, context),
            Event::Unload { ticket, model, manner, by } => self.unload(ticket, &model, manner, by),
            Event::CleanUp { ticket, model, manner, dry, by } => {
                self.clean_up(ticket, &model, manner, dry, by);
            }
            Event::Reload { ticket, model, by } => self.reload(ticket, &model, by),
            Event::Pin { ticket, model, pinned, by } => self.pin(ticket, &model, pinned, by),
            Event::IdleTimeout { ticket, model, timeout, by } => {
                self.set_idle_timeout(ticket, &model, timeout, by);
            }
            Event::Weigh { ticket, model, weight, by } => self.weigh(ticket, &model, weight, by),
            Event::CancelRequest { ticket, request } => self.cancel_request(ticket, &request),
            Event::Stock { ticket, shelf } => self.stock(ticket, shelf),
            Event::Note { ticket, note } => self.note(ticket, note),
            Event::Defaults { ticket, defaults } => self.set_defaults(ticket, defaults),
            Event::Presence { key, kind, label, open } => self.presence(&key, kind, &label, open),
            Event::PageHidden { key, what } => self.page_hidden(&key, what),
            Event::EndSession { ticket, id, by } => self.end_session_by_id(ticket, &id, &by),
            Event::Yield { ticket, minutes, by } => self.yield_memory(ticket, minutes, by),
            Event::ShutDown { ticket } => self.shut_down(ticket),
            Event::News { epoch, heard } => self.news(epoch, heard),
            Event::Sampled(sample, speeds) => self.sampled(sample, &speeds),
            Event::Timer => self.end_sessions(),
        }
    }

    /// Works on one model, which is out of the house meanwhile (so that folds over the house are over the others).
    /// A model whose file is gone goes too when it has nothing left to keep.
    fn with<R>(
        &mut self,
        model: &ModelId,
        work: impl FnOnce(&mut Self, &ModelId, &mut Record) -> R,
    ) -> Option<R> {
        let (id, mut record) = self.house.models.remove_entry(model)?;
        let outcome = work(self, &id, &mut record);
        if record.on_shelf || !matches!(record.state, State::Unloaded | State::Failed(_)) {
            self.house.models.insert(id, record);
        }
        Some(outcome)
    }

    /// The same for every model.
    fn with_each(&mut self, mut work: impl FnMut(&mut Self, &ModelId, &mut Record)) {
        let ids: Vec<ModelId> = self.house.models.keys().cloned().collect();
        for id in ids {
            self.with(&id, &mut work);
        }
    }

    fn deadlines(&self) -> crate::config::Deadlines {
        self.house.config.deadlines
    }

    fn stops(&self) -> bool {
        self.house.stopping.is_some()
    }

    fn act(&mut self, action: Action) {
        self.actions.list.push(action);
    }

    fn changed(&mut self) {
        self.actions.changed = true;
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Problem>) {
        self.act(Action::Answer { ticket, answer });
    }

    fn answer_model(&mut self, ticket: Ticket, model: &ModelId, record: &Record) {
        let shown = self.shown(model, record);
        self.answer(ticket, Ok(Answer::Model(Box::new(shown))));
    }

    fn shown(&self, model: &ModelId, record: &Record) -> Model {
        view::model(model, record, self.house, &self.house.busy_sessions(), self.now)
    }

    fn refuse(&mut self, waiters: Vec<Waiter>, problem: &Problem) {
        for waiter in waiters {
            self.answer(waiter.ticket, Err(problem.clone()));
        }
    }

    fn next_epoch(&mut self) -> Epoch {
        let epoch = Epoch(self.house.next_epoch);
        self.house.next_epoch += 1;
        epoch
    }

    fn next_place(&mut self) -> u64 {
        let place = self.house.next_place;
        self.house.next_place += 1;
        place
    }

    fn next_event(&mut self) -> u64 {
        let id = self.house.next_event;
        self.house.next_event += 1;
        id
    }

    fn wall(&self) -> Time {
        Time::from_unix_ms(self.now.wall_ms)
    }

    /// Writes a line into the ledger.
    fn log(&mut self, line: Line) {
        let id = self.next_event();
        self.log_as(id, line, None);
    }

    fn log_as(&mut self, id: u64, line: Line, receipt: Option<Receipt>) {
        let Line { kind, model, reason, by, duration_ms, bytes_before, bytes_after, detail } = line;
        self.act(Action::Ledger(Box::new(LedgerEvent {
            id,
            at: self.wall(),
            kind,
            model,
            reason,
            asked_by: by,
            duration_ms,
            bytes_before,
            bytes_after,
            receipt,
            detail,
        })));
    }

    fn keep_receipt(&mut self, receipt: Receipt) {
        self.house.receipts.push_front(receipt);
        self.house.receipts.truncate(RECEIPTS);
    }
}

/// Takes the state out of a record, to put another one in.
fn take(record: &mut Record) -> State {
    mem::replace(&mut record.state, State::Unloaded)
}

/// Takes a loading model's data, if it is loading, to put another state in.
fn take_loading(record: &mut Record) -> Option<Loading> {
    match take(record) {
        State::Loading(loading) => Some(*loading),
        other => put_back(record, other),
    }
}

/// The same for a ready model.
fn take_ready(record: &mut Record) -> Option<Ready> {
    match take(record) {
        State::Ready(ready) => Some(*ready),
        other => put_back(record, other),
    }
}

/// The same for a draining model.
fn take_draining(record: &mut Record) -> Option<Draining> {
    match take(record) {
        State::Draining(draining) => Some(*draining),
        other => put_back(record, other),
    }
}

/// Takes those who wait. After a crash the model is failed again, and may be tried when the pause is over.
fn take_waiting(record: &mut Record) -> Option<Queue> {
    match take(record) {
        State::Waiting { queue, what: Await::Pause(until) } => {
            record.state = State::Failed(Retry::At(until));
            Some(queue)
        }
        State::Waiting { queue, what: Await::Room(_) } => Some(queue),
        other => put_back(record, other),
    }
}

fn put_back<T>(record: &mut Record, state: State) -> Option<T> {
    record.state = state;
    None
}

/// The next moment at which a deadline comes, on the boot clock; `None`: nothing is under way.
pub(crate) fn next_deadline(house: &House, now: Now) -> Option<Duration> {
    time::next_deadline(house, now)
}

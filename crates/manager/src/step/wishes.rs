//! What people wish: load, unload, clean up, reload, pin, settings, stop.

use protocol::{EventKind, IdleTimeout, ModelId, Reason, Receipt};

use super::{Turn, take_loading, take_waiting};
use crate::{
    Weight,
    desk::{Defaults, LoadWish, Note},
    event::{Action, Answer, Line, Manner, Ticket},
    lessons,
    model::{Phase, Record, State, Wished},
    policy,
    ports::{ShelfModel, StopOrder},
    queue::{Queue, Waiter, Want},
    words,
};

impl Turn<'_> {
    /// Does something to a model, or says that there is none.
    pub(super) fn to(
        &mut self,
        ticket: Ticket,
        model: &ModelId,
        work: impl FnOnce(&mut Self, &ModelId, &mut Record),
    ) {
        if self.with(model, work).is_none() {
            self.answer(ticket, Err(words::unknown_model(model)));
        }
    }

    pub(super) fn load(&mut self, ticket: Ticket, model: &ModelId, wish: LoadWish) {
        if self.stops() {
            return self.answer(ticket, Err(words::stopped()));
        }
        let LoadWish { idle_timeout, context, wait, anyway, by } = wish;
        let want = Want::Load { anyway };
        let waiter = Waiter { ticket, since: self.now, idle_timeout, context, by, saw_load: false, want };
        self.to(ticket, model, |turn, id, record| {
            match &mut record.state {
                State::Unloaded | State::Failed(_) => {
                    let mut queue = Queue::default();
                    queue.push(waiter);
                    turn.load_or_wait(id, record, queue);
                }
                State::Stuck(stuck) => {
                    let problem = words::stuck(id, stuck.worker.pid);
                    turn.log_refusal(id, record, &problem, waiter.by, context, None);
                    return turn.answer(ticket, Err(problem));
                }
                State::Ready(ready) => {
                    if idle_timeout.is_some() {
                        ready.worker.idle_timeout = idle_timeout;
                    }
                    ready.queue.push(waiter);
                    turn.serve(id, record);
                }
                state => {
                    let Some(queue) = state.queue_mut() else { return };
                    queue.push(waiter);
                    turn.changed();
                }
            }
            let waiting = !wait && record.state.queue_mut().and_then(|queue| queue.leave(ticket)).is_some();
            if waiting {
                turn.answer_model(ticket, id, record);
            }
        });
    }

    pub(super) fn unload(&mut self, ticket: Ticket, model: &ModelId, manner: Manner, by: String) {
        self.to(ticket, model, |turn, id, record| turn.unload_record(ticket, id, record, manner, by));
    }

    /// The later wish wins: who waits for a next instance is told that there will be none.
    fn unload_record(
        &mut self,
        ticket: Ticket,
        id: &ModelId,
        record: &mut Record,
        manner: Manner,
        by: String,
    ) {
        let cancelled = words::load_cancelled(id, &by);
        if let Some(queue) = record.state.queue_mut() {
            let waiters = queue.clear();
            self.refuse(waiters, &cancelled);
        }
        match &mut record.state {
            State::Unloaded | State::Failed(_) => self.answer_not_loaded(ticket, id, by),
            State::Waiting { .. } => {
                self.changed();
                self.stop_waiting_in_vain(record);
                self.answer_not_loaded(ticket, id, by);
            }
            State::Loading(_) => {
                let Some(loading) = take_loading(record) else { return };
                let farewell = self.farewell(Reason::Asked, by, Some(ticket));
                record.state = self.stop(loading.worker, farewell, Queue::default(), true);
            }
            State::Ready(_) => {
                let grace = match manner {
                    Manner::Gentle => self.deadlines().grace,
                    Manner::Force => std::time::Duration::ZERO,
                };
                self.say_goodbye(id, record, Reason::Asked, by, grace, Some(ticket));
            }
            State::Draining(draining) => {
                self.actions.changed = true;
                draining.farewell.watchers.push(ticket);
                if draining.farewell.reason == Reason::Reload {
                    draining.farewell.reason = Reason::Asked;
                    draining.farewell.by = by;
                }
                if manner == Manner::Force && matches!(draining.phase, Phase::Grace(_)) {
                    self.cut(id, record);
                }
            }
            State::Unloading(unloading) => {
                self.actions.changed = true;
                unloading.farewell.watchers.push(ticket);
            }
            State::Stuck(stuck) => {
                let receipt = Box::new(stuck.receipt.clone());
                // Perhaps it can be killed by now.
                let again = StopOrder { epoch: stuck.worker.epoch, at_once: true };
                self.act(Action::Stop(again));
                self.answer(ticket, Ok(Answer::Receipt(receipt)));
            }
        }
    }

    fn answer_not_loaded(&mut self, ticket: Ticket, id: &ModelId, by: String) {
        let receipt = Receipt::not_loaded(id.clone(), by, self.wall());
        self.answer(ticket, Ok(Answer::Receipt(Box::new(receipt))));
    }

    pub(super) fn clean_up(
        &mut self,
        ticket: Ticket,
        model: &ModelId,
        manner: Manner,
        dry: bool,
        by: String,
    ) {
        self.to(ticket, model, |turn, id, record| match policy::spared(record, manner) {
            Some(reason) => turn.answer(ticket, Ok(Answer::Kept(reason))),
            None if dry => {
                let memory = record.state.worker().and_then(|worker| worker.memory);
                turn.answer(ticket, Ok(Answer::Would(memory.map(|memory| memory.private_bytes))));
            }
            None => match record.state.farewell_mut() {
                // It is going already; who waits for its next instance is none of a clean-up's business.
                Some(farewell) => farewell.watchers.push(ticket),
                None => turn.unload_record(ticket, id, record, manner, by),
            },
        });
    }

    /// Drain, unload, verify, load; of a model that is not loaded: load, whatever happened to it before.
    pub(super) fn reload(&mut self, ticket: Ticket, model: &ModelId, by: String) {
        if self.stops() {
            return self.answer(ticket, Err(words::stopped()));
        }
        self.to(ticket, model, |turn, id, record| {
            record.past.crashes.clear();
            record.past.strikes = 0;
            record.past.starved = None;
            let mut waiter = Waiter {
                ticket,
                since: turn.now,
                idle_timeout: None,
                context: None,
                by: by.clone(),
                saw_load: false,
                want: Want::Reload(None),
            };
            match &mut record.state {
                State::Unloaded | State::Failed(_) | State::Waiting { .. } => {
                    let mut queue = take_waiting(record).unwrap_or_default();
                    let none = Receipt::not_loaded(id.clone(), by, turn.wall());
                    waiter.want = Want::Reload(Some(Box::new(none)));
                    queue.push(waiter);
                    record.state = State::Unloaded;
                    turn.begin_load(id, record, queue);
                }
                State::Loading(_) => {
                    let Some(mut loading) = take_loading(record) else { return };
                    loading.queue.push(waiter);
                    let farewell = turn.farewell(Reason::Reload, by, None);
                    record.state = turn.stop(loading.worker, farewell, loading.queue, true);
                }
                State::Ready(ready) => {
                    ready.queue.push(waiter);
                    let grace = turn.deadlines().grace;
                    turn.say_goodbye(id, record, Reason::Reload, by, grace, None);
                }
                State::Draining(draining) => {
                    turn.actions.changed = true;
                    draining.next.push(waiter);
                }
                State::Unloading(unloading) => {
                    turn.actions.changed = true;
                    unloading.farewell.retry = None;
                    unloading.next.push(waiter);
                }
                State::Stuck(stuck) => {
                    let problem = words::stuck(id, stuck.worker.pid);
                    turn.log_refusal(id, record, &problem, by, None, None);
                    turn.answer(ticket, Err(problem));
                }
            }
        });
    }

    pub(super) fn pin(&mut self, ticket: Ticket, model: &ModelId, pinned: bool, by: String) {
        self.to(ticket, model, |turn, id, record| {
            record.pinned = Some(pinned);
            turn.changed();
            turn.log_wish(id, if pinned { "pinned" } else { "no longer pinned" }.to_owned(), by);
            turn.answer_model(ticket, id, record);
        });
    }

    pub(super) fn set_idle_timeout(
        &mut self,
        ticket: Ticket,
        model: &ModelId,
        timeout: Option<IdleTimeout>,
        by: String,
    ) {
        self.to(ticket, model, |turn, id, record| {
            record.idle_timeout = timeout.map_or(Wished::Usual, Wished::Own);
            // The newest word counts: it also replaces what a request had said for this instance.
            if let Some(worker) = record.state.worker_mut() {
                worker.idle_timeout = None;
            }
            turn.changed();
            let reason =
                timeout.map_or("idle timeout as usual".to_owned(), |own| format!("idle timeout {own}"));
            turn.log_wish(id, reason, by);
            turn.answer_model(ticket, id, record);
        });
    }

    pub(super) fn weigh(&mut self, ticket: Ticket, model: &ModelId, weight: Weight, by: String) {
        self.to(ticket, model, |turn, id, record| {
            record.weight = Some(weight);
            turn.changed();
            turn.log_wish(id, format!("weight {weight}"), by);
            turn.answer_model(ticket, id, record);
        });
    }

    fn log_wish(&mut self, id: &ModelId, reason: String, by: String) {
        self.log(Line {
            kind: EventKind::Settings,
            model: Some(id.clone()),
            reason,
            by,
            duration_ms: None,
            bytes_before: None,
            bytes_after: None,
            detail: String::new(),
        });
    }

    /// What is on disk now.
    pub(super) fn stock(&mut self, ticket: Ticket, shelf: Vec<ShelfModel>) {
        self.changed();
        for record in self.house.models.values_mut() {
            record.on_shelf = false;
        }
        for found in shelf {
            match self.house.models.get_mut(&found.id) {
                Some(record) => {
                    record.on_shelf = true;
                    let same = record.shelf.files == found.files;
                    if !same && matches!(record.state, State::Failed(_)) {
                        // Another file has taken its place: what the old one did is not held against it.
                        record.state = State::Unloaded;
                        record.past = Default::default();
                    }
                    let mut learned = std::mem::replace(&mut record.shelf, found).lessons;
                    if same {
                        lessons::join(&mut learned, &record.shelf.lessons);
                        record.shelf.lessons = learned;
                    }
                }
                None => {
                    self.house.models.insert(found.id.clone(), Record::new(found));
                }
            }
        }
        self.with_each(|turn, id, record| {
            if !record.on_shelf
                && let Some(mut queue) = take_waiting(record)
            {
                let problem = words::unknown_model(id);
                turn.refuse(queue.clear(), &problem);
            }
        });
        self.answer(ticket, Ok(Answer::Done));
    }

    pub(super) fn note(&mut self, ticket: Ticket, note: Note) {
        let Note { kind, model, reason, by, bytes_before, bytes_after, detail } = note;
        let duration_ms = None;
        self.log(Line { kind, model, reason, by, duration_ms, bytes_before, bytes_after, detail });
        self.answer(ticket, Ok(Answer::Done));
    }

    pub(super) fn set_defaults(&mut self, ticket: Ticket, defaults: Defaults) {
        self.changed();
        let config = &mut self.house.config;
        config.idle_timeout = defaults.idle_timeout.unwrap_or(config.idle_timeout);
        config.session_timeout = defaults.session_timeout.unwrap_or(config.session_timeout);
        config.after_last_session = defaults.after_last_session.unwrap_or(config.after_last_session);
        config.ram_limit_bytes = defaults.ram_limit_bytes.unwrap_or(config.ram_limit_bytes);
        config.reserve_bytes = defaults.reserve_bytes.unwrap_or(config.reserve_bytes);
        config.gpu_limit = defaults.gpu_limit.unwrap_or(config.gpu_limit);
        self.answer(ticket, Ok(Answer::Done));
    }

    /// The machine is somebody else's for a while. What is loaded is unloaded by whoever asks for this.
    pub(super) fn yield_memory(&mut self, ticket: Ticket, minutes: u32, by: String) {
        self.changed();
        self.house.yield_until = (minutes > 0).then(|| policy::after(self.now, u64::from(minutes) * 60_000));
        let reason = match minutes {
            0 => "loads are allowed again".to_owned(),
            minutes => format!("no loads for {minutes} min"),
        };
        let (model, duration_ms, bytes_before, bytes_after, detail) = (None, None, None, None, String::new());
        let kind = EventKind::Settings;
        self.log(Line { kind, model, reason, by, duration_ms, bytes_before, bytes_after, detail });
        self.answer(ticket, Ok(Answer::Done));
    }

    /// The server stops: nobody waits any more, everything goes.
    pub(super) fn shut_down(&mut self, ticket: Ticket) {
        self.changed();
        if let Some(waiting) = &mut self.house.stopping {
            return waiting.push(ticket);
        }
        self.house.stopping = Some(vec![ticket]);
        let (by, deadlines, stopped) = ("server stop", self.deadlines(), words::stopped());
        self.with_each(|turn, id, record| {
            if let Some(queue) = record.state.queue_mut() {
                let waiters = queue.clear();
                turn.refuse(waiters, &stopped);
            }
            match &mut record.state {
                State::Waiting { .. } => drop(take_waiting(record)),
                State::Loading(_) => {
                    let Some(loading) = take_loading(record) else { return };
                    let farewell = turn.farewell(Reason::Shutdown, by.to_owned(), None);
                    record.state = turn.stop(loading.worker, farewell, Queue::default(), true);
                }
                State::Ready(_) => {
                    let grace = deadlines.shutdown_grace;
                    turn.say_goodbye(id, record, Reason::Shutdown, by.to_owned(), grace, None);
                }
                State::Draining(draining) => match &mut draining.phase {
                    Phase::Grace(until) => {
                        *until = (*until).min(turn.now.mono + deadlines.shutdown_grace);
                    }
                    Phase::Cutting(until) => {
                        *until = (*until).min(turn.now.mono + deadlines.shutdown_cancel);
                    }
                },
                State::Unloading(unloading) => {
                    let sooner = turn.now.mono + deadlines.shutdown_unload;
                    unloading.deadline = unloading.deadline.min(sooner);
                }
                State::Unloaded | State::Failed(_) | State::Stuck(_) => {}
            }
        });
    }
}

//! How a load begins, becomes ready, and serves those who waited.

use std::time::Duration;

use protocol::{EventKind, ModelId, Problem, Reason};

use super::{Turn, room::Ask, take_loading, take_ready};
use crate::{
    admission::Admission,
    event::{Action, Line},
    lessons,
    model::{Await, Leases, Loading, Ready, Record, Retry, State, Worker, ms},
    policy,
    ports::{ReadyFacts, StartOrder},
    queue::{Queue, Waiter, Want},
    words,
};

impl Turn<'_> {
    /// Begins a load for those who wait, or lets them wait for room, or refuses them all. The record's state must be
    /// one without a worker, and stays as it is after a refusal.
    pub(super) fn begin_load(&mut self, id: &ModelId, record: &mut Record, mut queue: Queue) {
        if !queue.is_wanted() {
            return;
        }
        match self.decide(id, record, Ask::of(&queue, None)) {
            Ok(Admission::Now) => self.start_load(id, record, queue),
            Ok(Admission::Evict(victims)) => {
                let later = self.make_room(id, &victims);
                self.line_up_for_room(id, record, queue, &later);
            }
            Ok(Admission::Later(later)) => self.line_up_for_room(id, record, queue, &later),
            Err(problem) => {
                self.changed();
                self.turn_away(id, record, &mut queue, &problem);
            }
        }
    }

    /// Refuses everybody who waits, and writes that down.
    pub(super) fn turn_away(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        queue: &mut Queue,
        problem: &Problem,
    ) {
        let (by, context) = (queue.reason().1, queue.context());
        let waited = queue.iter().map(|waiter| self.now.mono.saturating_sub(waiter.since.mono)).max();
        self.log_refusal(id, record, problem, by, context, waited);
        self.refuse(queue.clear(), problem);
    }

    /// There is room: the reservation stands from here on, before there is a process.
    pub(super) fn start_load(&mut self, id: &ModelId, record: &mut Record, queue: Queue) {
        self.changed();
        let (loaded_for, asked) = (queue.reason(), queue.context());
        let context = asked.or(record.shelf.context);
        let epoch = self.next_epoch();
        let need = record.forecast(asked).need();
        let worker = Worker {
            epoch,
            pid: None,
            begun: self.now,
            loaded_for,
            files: record.shelf.files.clone(),
            expected: record.expected(asked),
            reserve_bytes: need.ram,
            gpu: need.gpu,
            context,
            facts: None,
            ready: None,
            memory: None,
            idle_timeout: None,
            tokens_per_second: None,
            held: Default::default(),
        };
        self.act(Action::Start(StartOrder { model: id.clone(), epoch, context }));
        let heard = self.now.mono;
        record.state = State::Loading(Box::new(Loading { worker, progress: None, heard, queue }));
    }

    /// Whether a load may begin at all, room left aside.
    pub(super) fn may_load(&self, id: &ModelId, record: &Record) -> Result<(), Problem> {
        if self.stops() {
            return Err(words::stopped());
        }
        if !record.on_shelf {
            return Err(words::unknown_model(id));
        }
        if let Some(trouble) = &record.shelf.trouble {
            return Err(trouble.clone());
        }
        if let Some(until) = self.house.yield_until {
            let seconds = until.boot.saturating_sub(self.now.boot).as_secs() + 1;
            return Err(words::yields(id, seconds));
        }
        match self.house.pressure.refuses(self.now.mono) {
            Some(sign) => Err(words::under_pressure(id, sign)),
            None => Ok(()),
        }
    }

    /// Writes a refusal down, with what it would have taken and how long it had been waited for, unless the same one was
    /// written a moment ago.
    pub(super) fn log_refusal(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        problem: &Problem,
        by: String,
        context: Option<u32>,
        waited: Option<Duration>,
    ) {
        let quiet = Duration::from_secs(10);
        let just_said = |(code, at)| code == problem.code && self.now.mono < quiet.saturating_add(at);
        if self.stops() || record.past.refusal.is_some_and(just_said) {
            return;
        }
        record.past.refusal = Some((problem.code, self.now.mono));
        self.log(Line {
            kind: EventKind::Refuse,
            model: Some(id.clone()),
            reason: problem.message.clone(),
            by,
            duration_ms: waited.map(ms),
            bytes_before: None,
            bytes_after: record.expected(context).map(|expected| expected.reserve_bytes()),
            detail: problem.code.word().to_owned(),
        });
    }

    /// Loads, or waits until the pause after a crash is over, or refuses.
    pub(super) fn load_or_wait(&mut self, id: &ModelId, record: &mut Record, mut queue: Queue) {
        match self.held_back(id, record) {
            Ok(None) => self.begin_load(id, record, queue),
            Ok(Some(until)) => {
                self.changed();
                record.state = State::Waiting { queue, what: Await::Pause(until) };
            }
            Err(problem) => self.turn_away(id, record, &mut queue, &problem),
        }
    }

    /// Whether earlier failures hold a load back: until when, on the monotonic clock, or for good.
    pub(super) fn held_back(&self, id: &ModelId, record: &Record) -> Result<Option<Duration>, Problem> {
        match record.state {
            State::Failed(Retry::At(until)) if until > self.now.mono && record.on_shelf && !self.stops() => {
                Ok(Some(until))
            }
            State::Failed(Retry::Quarantined) => Err(match &record.past.failure {
                Some(failure) if policy::is_final(failure) => words::load_failed(id, failure),
                failure => words::quarantined(id, failure.as_ref()),
            }),
            _ => Ok(None),
        }
    }

    /// The instance can answer.
    pub(super) fn ready(&mut self, id: &ModelId, record: &mut Record, facts: ReadyFacts) {
        let Some(Loading { mut worker, mut queue, .. }) = take_loading(record) else { return };
        self.changed();
        worker.pid = Some(facts.pid);
        worker.memory = facts.memory.or(worker.memory);
        worker.ready = Some(self.now);
        let (reason, by) = worker.loaded_for.clone();
        self.log(Line {
            kind: EventKind::Load,
            model: Some(id.clone()),
            reason: reason.to_owned(),
            by: by.clone(),
            duration_ms: worker.load_ms(),
            bytes_before: Some(0),
            bytes_after: worker.memory.map(|memory| memory.private_bytes),
            detail: format!("{}, {} threads, context {}", facts.device, facts.threads, facts.context),
        });
        self.learn_at_ready(record, &mut worker, &facts);
        worker.facts = Some(facts);
        if let Some(wish) = queue.wish() {
            worker.idle_timeout = wish.idle_timeout;
        }
        record.past.failure = None;
        record.past.starved = None;
        record.past.ready_again(self.now.mono);
        queue.iter_mut().for_each(|waiter| waiter.saw_load = true);
        let (leases, sessions) = (Leases::new(), Default::default());
        let last_reset_by = format!("load by {by}");
        let idle_since = self.now;
        let ready = Ready {
            worker,
            leases,
            queue,
            idle_since,
            last_reset_by,
            used: false,
            sessions,
            sessions_over: None,
        };
        record.state = State::Ready(Box::new(ready));
        self.serve(id, record);
    }

    /// What it took corrects the next prediction, and its own reservation if it was more than expected.
    fn learn_at_ready(&mut self, record: &mut Record, worker: &mut Worker, facts: &ReadyFacts) {
        let (Some(expected), Some(memory)) = (worker.expected, facts.memory) else { return };
        worker.reserve_bytes = worker.reserve_bytes.max(expected.reserve_at_ready(memory.private_bytes));
        if worker.files == record.shelf.files {
            let of = (facts.device.as_str(), facts.context);
            let (header, predicted) = (expected.header_bytes(), expected.predicted_bytes);
            lessons::at_ready(&mut record.shelf.lessons, of, header, predicted, memory.private_bytes);
            self.actions.learned = true;
        }
    }

    /// Gives everybody in a ready model's queue what they wait for, as far as there are places; whoever needs
    /// another context makes it go and waits for the next instance.
    pub(super) fn serve(&mut self, id: &ModelId, record: &mut Record) {
        let Some(mut ready) = take_ready(record) else { return };
        self.changed();
        ready.queue.forget_wish();
        let for_ready = ready.queue.extract(|waiter| waiter.caller().is_none());
        let misfits = ready.queue.extract(|waiter| !ready.worker.suits(waiter.context));
        let places = usize::try_from(self.house.config.in_flight.max(1)).unwrap_or(usize::MAX);
        while ready.leases.len() < places
            && let Some(waiter) = ready.queue.pop()
        {
            self.grant(&mut ready, waiter);
        }
        if let Some(last) = for_ready.last() {
            ready.idle_since = self.now;
            ready.last_reset_by = words::for_whom(last);
        }
        record.state = State::Ready(Box::new(ready));
        for waiter in for_ready {
            match waiter.want {
                Want::Reload(Some(receipt)) => self.answer_reload(waiter.ticket, id, record, *receipt),
                _ => self.answer_model(waiter.ticket, id, record),
            }
        }
        if let Some(first) = misfits.first() {
            let by = format!("{} (another context)", first.by);
            let grace = self.deadlines().grace;
            self.say_goodbye(id, record, Reason::Reload, by, grace, None);
            let Some(next) = record.state.queue_mut() else { return };
            next.put_first(misfits);
        }
    }

    /// Grants a lease.
    pub(super) fn grant(&mut self, ready: &mut Ready, waiter: Waiter) {
        let Waiter { ticket, since, idle_timeout, saw_load, want, .. } = waiter;
        let Want::Lease(caller) = want else { return };
        self.changed();
        if idle_timeout.is_some() {
            ready.worker.idle_timeout = idle_timeout;
        }
        if let Some(session) = &caller.session {
            ready.sessions.insert(session.key.clone());
            ready.sessions_over = None;
        }
        ready.used = true;
        ready.last_reset_by = caller.words();
        let load_ms = ready.worker.load_ms().filter(|_| saw_load);
        let queue_ms = ms(self.now.mono.saturating_sub(since.mono));
        self.act(Action::Grant { ticket, epoch: ready.worker.epoch, queue_ms, load_ms });
        ready.leases.insert(ticket, (caller, since));
    }
}

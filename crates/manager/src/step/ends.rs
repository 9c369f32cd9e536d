//! How an instance ends: one way for every reason. Draining, then the launcher's ladder, then the proof.

use std::{collections::BTreeMap, mem, time::Duration};

use protocol::{EventKind, Failure, Method, ModelId, RamReturn, Reason, Receipt, Reloaded, Verdict};

use super::{Freed, Turn, take, take_ready};
use crate::{
    event::{Action, Answer, Line, Ticket},
    model::{Draining, Farewell, Leases, Phase, Record, Retry, State, Stuck, Unloading, Worker, ms},
    policy,
    ports::{Release, StopOrder},
    queue::{Queue, Want},
    view, words,
};

impl Turn<'_> {
    /// A decision to end an instance.
    pub(super) fn farewell(&self, reason: Reason, by: String, watcher: Option<Ticket>) -> Farewell {
        let watchers = watcher.into_iter().collect();
        Farewell { reason, by, begun: self.now, cut_off: 0, watchers, retry: None }
    }

    /// A ready instance goes: at once if nobody uses it, else when its leases are back or the grace has ended. Who
    /// waits for a place in it waits for the next one.
    pub(super) fn say_goodbye(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        reason: Reason,
        by: String,
        grace: Duration,
        watcher: Option<Ticket>,
    ) {
        let Some(ready) = take_ready(record) else { return };
        self.changed();
        let farewell = self.farewell(reason, by, watcher);
        if ready.leases.is_empty() {
            record.state = self.stop(ready.worker, farewell, ready.queue, false);
            return;
        }
        record.state = State::Draining(Box::new(Draining {
            worker: ready.worker,
            leases: ready.leases,
            farewell,
            phase: Phase::Grace(self.now.mono + grace),
            next: ready.queue,
        }));
        if grace.is_zero() {
            self.cut(id, record);
        }
    }

    /// The grace has ended: everybody who is still in flight is told to stop.
    pub(super) fn cut(&mut self, id: &ModelId, record: &mut Record) {
        let stops = self.stops();
        let deadlines = self.deadlines();
        let State::Draining(draining) = &mut record.state else { return };
        let span = if stops { deadlines.shutdown_cancel } else { deadlines.cancel };
        draining.phase = Phase::Cutting(self.now.mono + span);
        draining.farewell.cut_off += u32::try_from(draining.leases.len()).unwrap_or(u32::MAX);
        let why = if stops { words::stopped() } else { words::cut_off(id, &draining.farewell.by) };
        let (epoch, leases) = (draining.worker.epoch, draining.leases.keys().copied().collect::<Vec<_>>());
        self.changed();
        for lease in leases {
            self.act(Action::StopRequest { lease, why: why.clone() });
        }
        self.act(Action::CancelAll(epoch));
    }

    /// Hands an instance to the launcher's ladder.
    pub(super) fn stop(&mut self, worker: Worker, farewell: Farewell, next: Queue, at_once: bool) -> State {
        self.changed();
        self.act(Action::Stop(StopOrder { epoch: worker.epoch, at_once }));
        self.await_release(worker, farewell, next)
    }

    /// Waits for the launcher's word that the process is gone.
    pub(super) fn await_release(&mut self, worker: Worker, farewell: Farewell, next: Queue) -> State {
        let deadlines = self.deadlines();
        let span = if self.stops() { deadlines.shutdown_unload } else { deadlines.unload };
        let deadline = self.now.mono + span;
        State::Unloading(Box::new(Unloading { worker, farewell, since: self.now.mono, deadline, next }))
    }

    /// Requests of an instance that is gone or going are told so.
    pub(super) fn bereave(&mut self, id: &ModelId, leases: &Leases, failure: Option<&Failure>) {
        for (lease, (caller, _)) in leases {
            let why = words::worker_died(id, failure);
            self.act(Action::StopRequest { lease: *lease, why });
            self.rest_session(caller);
        }
    }

    /// Writes a crash down and says when the model may be tried again. What the model is not to blame for is not counted
    /// against it: that there was no process for it, or that its files could not be opened at the moment.
    pub(super) fn crash(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        mut failure: Failure,
        worker: &Worker,
    ) -> Retry {
        let deadlines = self.deadlines();
        let proved = worker.ready.is_some_and(|ready| self.now.mono >= ready.mono + deadlines.crash_window);
        let retry = if policy::is_final(&failure) {
            Retry::Quarantined
        } else if worker.pid.is_none() || policy::is_passing(&failure) {
            Retry::At(self.now.mono + deadlines.back_off)
        } else {
            policy::strike(&mut record.past, proved, self.now, &deadlines)
        };
        failure.retry_at = match retry {
            Retry::At(until) => Some(view::later(self.now, until.saturating_sub(self.now.mono))),
            Retry::Quarantined => None,
        };
        self.log(Line {
            kind: EventKind::Crash,
            model: Some(id.clone()),
            reason: failure.message.clone(),
            by: "worker".to_owned(),
            duration_ms: None,
            bytes_before: worker.memory.map(|memory| memory.private_bytes),
            bytes_after: None,
            detail: if retry == Retry::Quarantined {
                format!("{}; quarantined", failure.code)
            } else {
                failure.code.clone()
            },
        });
        record.past.failure = Some(failure);
        retry
    }

    /// The process is gone and what it held was looked for: the receipt, then whatever was to come next.
    pub(super) fn conclude(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        worker: Worker,
        farewell: Farewell,
        mut next: Queue,
        release: Release,
    ) {
        self.changed();
        self.act(Action::Forget(worker.epoch));
        let nothing_held = release.pid.is_none() && release.held.is_none();
        let untold = nothing_held && farewell.reason == Reason::Failed;
        let number = if untold { 0 } else { self.next_event() };
        let receipt = self.receipt(id, number, &worker, &farewell, release);
        if self.house.sample.is_some() {
            let at = self.now.mono;
            let nothing = Freed { at, ram: 0, gpus: BTreeMap::new() };
            let freed = self.house.freed.get_or_insert(nothing);
            freed.at = at;
            freed.ram = freed.ram.saturating_add(receipt.ram.returned_bytes);
            for gpu in &receipt.gpus {
                let before = freed.gpus.entry(gpu.index).or_default();
                *before = before.saturating_add(gpu.returned_bytes);
            }
        }
        if !untold {
            self.log_receipt(&receipt, record.past.failure.as_ref().filter(|_| farewell.retry.is_some()));
        }
        for watcher in farewell.watchers {
            self.answer(watcher, Ok(Answer::Receipt(Box::new(receipt.clone()))));
        }
        for waiter in next.iter_mut() {
            if let Want::Reload(proof @ None) = &mut waiter.want {
                *proof = Some(Box::new(receipt.clone()));
            }
        }
        record.state = farewell.retry.map_or(State::Unloaded, State::Failed);
        if next.is_wanted() {
            self.load_or_wait(id, record, next);
        }
    }

    fn receipt(
        &self,
        id: &ModelId,
        number: u64,
        worker: &Worker,
        farewell: &Farewell,
        release: Release,
    ) -> Receipt {
        let held_bytes = release.held.or(worker.memory).map_or(0, |held| held.private_bytes);
        let residual_bytes = release.residual_bytes.min(held_bytes);
        Receipt {
            id: number,
            model: id.clone(),
            pid: release.pid.or(worker.pid),
            reason: farewell.reason,
            asked_by: farewell.by.clone(),
            at: self.wall(),
            duration_ms: ms(self.now.mono.saturating_sub(farewell.begun.mono)),
            method: release.method,
            ram: RamReturn { held_bytes, returned_bytes: held_bytes - residual_bytes, residual_bytes },
            verdict: policy::verdict_of_all(held_bytes, release.residual_bytes, &release.gpus),
            gpus: release.gpus,
            cut_off_requests: farewell.cut_off,
            left: release.left,
            evidence: release.evidence,
            server_bytes: self.house.sample.as_ref().and_then(|sample| Some(sample.server?.private_bytes)),
        }
    }

    fn log_receipt(&mut self, receipt: &Receipt, failure: Option<&Failure>) {
        let reason = failure.map_or(receipt.reason.word().to_owned(), |failure| failure.message.clone());
        let line = Line {
            kind: if receipt.reason == Reason::Evicted { EventKind::Evict } else { EventKind::Unload },
            model: Some(receipt.model.clone()),
            reason,
            by: receipt.asked_by.clone(),
            duration_ms: Some(receipt.duration_ms),
            bytes_before: Some(receipt.ram.held_bytes),
            bytes_after: Some(receipt.ram.residual_bytes),
            detail: receipt.left.join(" "),
        };
        self.log_as(receipt.id, line, Some(receipt.clone()));
        self.keep_receipt(receipt.clone());
    }

    /// The worker cannot be ended: everybody is told, its reservation stays.
    pub(super) fn stick(&mut self, id: &ModelId, record: &mut Record, pid: Option<u32>) {
        let (mut worker, farewell, leases, mut queue) = match take(record) {
            State::Loading(s) => (s.worker, None, Leases::new(), s.queue),
            State::Ready(s) => (s.worker, None, s.leases, s.queue),
            State::Draining(s) => (s.worker, Some(s.farewell), s.leases, s.next),
            State::Unloading(s) => (s.worker, Some(s.farewell), Leases::new(), s.next),
            other => {
                record.state = other;
                return;
            }
        };
        self.changed();
        worker.pid = pid.or(worker.pid);
        let mut farewell =
            farewell.unwrap_or_else(|| self.farewell(Reason::Failed, "worker".to_owned(), None));
        let number = self.next_event();
        let held_bytes = worker.memory.map_or(0, |memory| memory.private_bytes);
        let left = words::left_by_stuck(worker.pid, worker.memory.map(|memory| memory.private_bytes));
        let release = Release {
            pid: worker.pid,
            method: Method::Killed,
            held: None,
            residual_bytes: held_bytes,
            gpus: Vec::new(),
            left,
            evidence: None,
        };
        let mut receipt = self.receipt(id, number, &worker, &farewell, release);
        receipt.verdict = Verdict::Stuck;
        self.log_receipt(&receipt, None);
        for watcher in mem::take(&mut farewell.watchers) {
            self.answer(watcher, Ok(Answer::Receipt(Box::new(receipt.clone()))));
        }
        let problem = words::stuck(id, worker.pid);
        self.bereave(id, &leases, None);
        self.refuse(queue.clear(), &problem);
        record.state = State::Stuck(Box::new(Stuck { worker, farewell, receipt }));
    }

    /// Tells somebody who wanted a fresh instance that it is there.
    pub(super) fn answer_reload(&mut self, ticket: Ticket, id: &ModelId, record: &Record, receipt: Receipt) {
        let model = self.shown(id, record);
        self.answer(ticket, Ok(Answer::Reloaded(Box::new(Reloaded { receipt, model }))));
    }
}

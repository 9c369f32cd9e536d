//! What the launcher and the sampler tell.

use std::sync::Arc;

use protocol::{Code, Failure, ModelId, Reason};

use super::{Turn, take};
use crate::{
    event::{Action, Heard},
    model::{Record, State, Worker, ms},
    past::Starved,
    ports::{Epoch, MemorySample, Release},
    queue::Queue,
    sessions::MOST,
    words,
};

impl Turn<'_> {
    /// The launcher told something. The word of an instance that is no longer anybody's changes nothing.
    pub(super) fn news(&mut self, epoch: Epoch, heard: Heard) {
        let of = |record: &Record| record.state.worker().is_some_and(|worker| worker.epoch == epoch);
        let model = self.house.models.iter().find(|(_, record)| of(record)).map(|(id, _)| id.clone());
        let Some(model) = model else { return };
        self.with(&model, |turn, id, record| match heard {
            Heard::Spawned { pid } => turn.spawned(record, pid),
            Heard::Progress(progress) => {
                let State::Loading(loading) = &mut record.state else { return };
                turn.changed();
                loading.goes_on(progress, turn.now.mono);
            }
            Heard::Ready(facts) if matches!(record.state, State::Loading(_)) => turn.ready(id, record, facts),
            // It was told to go before it said this.
            Heard::Ready(_) => {}
            Heard::Failed(failure) => turn.failed(id, record, failure),
            Heard::Released(release) => turn.released(id, record, release),
            Heard::Stuck { pid } => turn.stick(id, record, Some(pid)),
            Heard::Held { session, bytes } => turn.held(epoch, record, session, bytes),
            Heard::Peak { bytes } => turn.actions.learned |= record.learn_peak(bytes),
            Heard::AtRest { grown_bytes, kept_bytes, full } => {
                turn.actions.learned |= record.learn_rest(grown_bytes, kept_bytes, full);
            }
        });
    }

    fn spawned(&mut self, record: &mut Record, pid: u32) {
        self.changed();
        if let State::Loading(loading) = &mut record.state {
            loading.heard = self.now.mono;
        }
        if let Some(worker) = record.state.worker_mut() {
            worker.pid = Some(pid);
        }
    }

    /// A load failed, or a worker died; the launcher is ending it by itself.
    pub(super) fn failed(&mut self, id: &ModelId, record: &mut Record, failure: Failure) {
        let (worker, leases, queue, farewell) = match take(record) {
            State::Loading(mut loading) => {
                if !self.is_worth_another_try(id, record, &loading.worker, &failure) {
                    // Those who waited for this very load are told how it ended.
                    self.refuse(loading.queue.clear(), &words::load_failed(id, &failure));
                }
                (loading.worker, None, loading.queue, None)
            }
            State::Ready(ready) => (ready.worker, Some(ready.leases), ready.queue, None),
            State::Draining(draining) => {
                let draining = *draining;
                (draining.worker, Some(draining.leases), draining.next, Some(draining.farewell))
            }
            // It was told to go; how it went stands in its release.
            other => {
                record.state = other;
                return;
            }
        };
        self.changed();
        if let Some(leases) = &leases {
            self.bereave(id, leases, Some(&failure));
        }
        let retry = self.crash(id, record, failure, &worker);
        let farewell = farewell.unwrap_or_else(|| {
            let mut farewell = self.farewell(Reason::Failed, "worker".to_owned(), None);
            farewell.retry = Some(retry);
            farewell
        });
        record.state = self.await_release(worker, farewell, queue);
    }

    /// Whether a load that failed is tried again at once: it ran out of memory for the first time. Idle models go for
    /// it, since the books that said there was room were wrong.
    fn is_worth_another_try(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        worker: &Worker,
        failure: &Failure,
    ) -> bool {
        if failure.code != Code::OutOfMemory.word() {
            return false;
        }
        let before = record.past.starved.take();
        let again = before.is_some_and(|before| before.covers(&worker.files, worker.context));
        record.past.starved = Some(Starved { files: worker.files.clone(), context: worker.context, again });
        if !again {
            self.evict_idle(&words::starving(id));
        }
        !again
    }

    /// A process is gone and what it held was looked for.
    fn released(&mut self, id: &ModelId, record: &mut Record, release: Release) {
        if matches!(record.state, State::Loading(_) | State::Ready(_)) {
            // Nobody told it to go, and it did not say why.
            let (code, message, hint) = words::vanished();
            let failure = self.failure(code, message, hint);
            self.failed(id, record, failure);
        }
        if let Some(held) = release.held {
            self.actions.learned |= record.learn_peak(held.private_bytes);
        }
        match take(record) {
            State::Unloading(s) => {
                record.past.release_ms = Some(ms(self.now.mono.saturating_sub(s.since)));
                self.conclude(id, record, s.worker, s.farewell, s.next, release);
            }
            State::Draining(s) => {
                let s = *s;
                self.bereave(id, &s.leases, None);
                self.conclude(id, record, s.worker, s.farewell, s.next, release);
            }
            State::Stuck(s) => {
                self.conclude(id, record, s.worker, s.farewell, Queue::default(), release);
            }
            other => record.state = other,
        }
    }

    /// A failure that the manager itself found.
    pub(super) fn failure(&self, code: &str, message: String, hint: String) -> Failure {
        Failure {
            code: code.to_owned(),
            message,
            hint,
            at: self.wall(),
            retry_at: None,
            log_tail: Vec::new(),
        }
    }

    /// A load that makes no progress, or never comes to its end, is a failed one, and its worker is killed.
    pub(super) fn stall(&mut self, id: &ModelId, record: &mut Record) {
        let State::Loading(loading) = &record.state else { return };
        let stage = loading.progress.as_ref().map(|progress| progress.stage.as_str());
        let deadlines = self.deadlines();
        let stands = self.now.mono >= loading.heard + deadlines.load_stall;
        let span = if stands { deadlines.load_stall } else { deadlines.load_most };
        let (code, message, hint) = words::stalled(stands, span.as_secs(), stage);
        let failure = self.failure(code, message, hint);
        self.failed(id, record, failure);
        if let State::Unloading(unloading) = take(record) {
            let unloading = *unloading;
            record.state = self.stop(unloading.worker, unloading.farewell, unloading.next, true);
        }
    }

    /// What a session keeps in an instance. If the session has ended meanwhile it is to be forgotten.
    fn held(&mut self, epoch: Epoch, record: &mut Record, session: String, bytes: u64) {
        let known = self.house.sessions.uses_models(&session);
        let Some(worker) = record.state.worker_mut() else { return };
        if worker.held.len() >= 2 * MOST && !worker.held.contains_key(&session) {
            // No honest worker keeps this many.
            return;
        }
        self.changed();
        if bytes == 0 {
            worker.held.remove(&session);
        } else if worker.held.insert(session.clone(), bytes).is_none() && !known {
            self.act(Action::EndSession { epoch, session });
        }
    }

    /// The sampler measured.
    pub(super) fn sampled(&mut self, sample: Arc<MemorySample>, speeds: &[(Epoch, f64)]) {
        for record in self.house.models.values_mut() {
            let Some(worker) = record.state.worker_mut() else { continue };
            let measured = sample.workers.iter().find(|(pid, _)| Some(*pid) == worker.pid);
            if let Some((_, measured)) = measured {
                worker.memory = Some(*measured);
                self.actions.learned |= record.learn_peak(measured.private_bytes);
            }
            let Some(worker) = record.state.worker_mut() else { continue };
            worker.tokens_per_second =
                speeds.iter().find(|(epoch, _)| *epoch == worker.epoch).map(|(_, speed)| *speed);
        }
        if self.house.freed.as_ref().is_some_and(|freed| freed.at <= sample.begun) {
            self.house.freed = None;
        }
        if let Some(before) = &self.house.sample {
            self.house.between_samples = sample.begun.checked_sub(before.begun);
        }
        let reserve = self.house.config.reserve_bytes;
        let relieve = self.house.pressure.look(&sample.host, reserve, self.now.mono);
        self.house.sample = Some(sample);
        if relieve {
            self.relieve();
        }
    }
}

//! Leases: asked for, left, given back, cancelled.

use protocol::ModelId;

use super::{Turn, take_draining, take_waiting};
use crate::{
    event::{Action, Answer, Ticket},
    lease::LeaseWish,
    model::{Record, State, ms},
    queue::{Caller, Queue, Waiter, Want},
    words,
};

impl Turn<'_> {
    /// Somebody wants a lease.
    pub(super) fn lease(&mut self, ticket: Ticket, wish: LeaseWish) {
        if self.stops() {
            return self.answer(ticket, Err(words::stopped()));
        }
        let LeaseWish { model, request, client, session, idle_timeout, context } = wish;
        if let (Some(session), true) = (&session, self.house.models.contains_key(&model)) {
            self.touch_session(session, &model);
        }
        let by = client.clone();
        let want = Want::Lease(Caller { request, client, session });
        let waiter = Waiter { ticket, since: self.now, idle_timeout, context, by, saw_load: false, want };
        let known = self.with(&model, |turn, id, record| turn.line_up(id, record, waiter));
        if known.is_none() {
            self.answer(ticket, Err(words::unknown_model(&model)));
        }
    }

    fn line_up(&mut self, id: &ModelId, record: &mut Record, waiter: Waiter) {
        let places = usize::try_from(self.house.config.in_flight.max(1)).unwrap_or(usize::MAX);
        match &mut record.state {
            State::Unloaded | State::Failed(_) => {
                let mut queue = Queue::default();
                queue.push(waiter);
                self.load_or_wait(id, record, queue);
            }
            State::Stuck(stuck) => {
                let problem = words::stuck(id, stuck.worker.pid);
                self.log_refusal(id, record, &problem, waiter.by, waiter.context, None);
                self.answer(waiter.ticket, Err(problem));
            }
            State::Ready(ready)
                if ready.queue.is_empty()
                    && ready.leases.len() < places
                    && ready.worker.suits(waiter.context) =>
            {
                self.grant(ready, waiter);
            }
            state => {
                let Some(queue) = state.queue_mut() else { return };
                let waiting = queue.requests();
                if waiting >= self.house.config.queue {
                    let problem = words::queue_full(id, waiting);
                    self.log_refusal(id, record, &problem, waiter.by, waiter.context, None);
                    return self.answer(waiter.ticket, Err(problem));
                }
                queue.push(waiter);
                self.changed();
                // Who needs another context need not wait for a place to come free.
                self.serve(id, record);
            }
        }
    }

    /// Whoever asked waits no more. What was begun for them goes on where somebody else wants it too, or where it
    /// was asked for by itself.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(waiting) = &mut self.house.stopping {
            waiting.retain(|other| *other != ticket);
        }
        self.with_each(|turn, _, record| {
            if let Some(farewell) = record.state.farewell_mut() {
                farewell.watchers.retain(|other| *other != ticket);
            }
            if record.state.queue_mut().and_then(|queue| queue.leave(ticket)).is_some() {
                turn.changed();
                turn.stop_waiting_in_vain(record);
            }
        });
    }

    /// Nobody wants it any more: the model is failed or unloaded, not waiting.
    pub(super) fn stop_waiting_in_vain(&mut self, record: &mut Record) {
        if let State::Waiting { queue, .. } = &record.state
            && !queue.is_wanted()
        {
            drop(take_waiting(record));
        }
    }

    /// A lease came back. One of an instance that has gone changes nothing.
    pub(super) fn lease_back(&mut self, lease: Ticket, model: &ModelId) {
        self.with(model, |turn, id, record| match &mut record.state {
            State::Ready(ready) => {
                let Some((caller, since)) = ready.leases.remove(&lease) else { return };
                let begun = ready.worker.ready.map_or(since.mono, |ready| ready.mono.max(since.mono));
                record.past.used_for(ms(turn.now.mono.saturating_sub(begun)));
                ready.idle_since = turn.now;
                ready.last_reset_by = caller.words();
                turn.rest_session(&caller);
                turn.serve(id, record);
            }
            State::Draining(draining) => {
                let Some((caller, _)) = draining.leases.remove(&lease) else { return };
                turn.changed();
                turn.rest_session(&caller);
                if draining.leases.is_empty() {
                    turn.stop_drained(record);
                }
            }
            _ => {}
        });
    }

    /// All leases of a draining model are back, or their time is up.
    pub(super) fn stop_drained(&mut self, record: &mut Record) {
        let Some(draining) = take_draining(record) else { return };
        draining.leases.values().for_each(|(caller, _)| self.rest_session(caller));
        record.state = self.stop(draining.worker, draining.farewell, draining.next, false);
    }

    /// Somebody wants a request to stop: one that waits is refused, one that runs is told.
    pub(super) fn cancel_request(&mut self, ticket: Ticket, request: &str) {
        let mut found = false;
        let why = words::cancelled("somebody who watches the server");
        self.with_each(|turn, _, record| {
            let running = record.state.leases().into_iter().flatten();
            let hit = running.filter(|(_, (caller, _))| caller.request == request);
            for lease in hit.map(|(lease, _)| *lease).collect::<Vec<_>>() {
                found = true;
                turn.changed();
                turn.act(Action::StopRequest { lease, why: why.clone() });
            }
            let Some(queue) = record.state.queue_mut() else { return };
            let waiting = queue.extract(|w| w.caller().is_some_and(|caller| caller.request == request));
            if !waiting.is_empty() {
                found = true;
                turn.changed();
                turn.refuse(waiting, &why);
                turn.stop_waiting_in_vain(record);
            }
        });
        self.answer(ticket, Ok(Answer::Found(found)));
    }
}

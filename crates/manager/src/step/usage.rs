//! Sessions: touched by requests, kept by open pages, ended by time or by a person.

use protocol::{EventKind, ModelId, SessionKind};

use super::Turn;
use crate::{
    event::{Action, Answer, Line, Ticket},
    lease::SessionWish,
    model::State,
    queue::Caller,
    sessions::Hidden,
    words,
};

impl Turn<'_> {
    /// A request came.
    pub(super) fn touch_session(&mut self, wish: &SessionWish, model: &ModelId) {
        self.changed();
        self.house.sessions.touch(wish, model, self.now);
        let surplus = self.house.sessions.surplus(&self.house.busy_sessions());
        if let Some(key) = surplus.filter(|key| *key != wish.key) {
            self.end_session(&key, "too many sessions", "server");
        }
    }

    /// A request ended.
    pub(super) fn rest_session(&mut self, caller: &Caller) {
        if let Some(session) = &caller.session {
            self.house.sessions.rest(&session.key, self.now);
        }
    }

    pub(super) fn presence(&mut self, key: &str, kind: SessionKind, label: &str, open: bool) {
        self.changed();
        self.house.sessions.presence(key, kind, label, open, self.now);
        let surplus = self.house.sessions.surplus(&self.house.busy_sessions());
        if let Some(key) = surplus {
            self.end_session(&key, "too many sessions", "server");
        }
    }

    pub(super) fn page_hidden(&mut self, key: &str, what: Hidden) {
        self.changed();
        self.house.sessions.hidden(key, what, self.now);
    }

    /// Ends the sessions whose time has come.
    pub(super) fn end_sessions(&mut self) {
        let house = &*self.house;
        let busy = house.busy_sessions();
        let over = |key: &str| {
            let due = house.sessions.ends_at(key, &busy, &house.config);
            due.is_some_and(|due| due.boot <= self.now.boot)
        };
        let ended: Vec<String> =
            house.sessions.iter().filter(|(key, _)| over(key)).map(|(key, _)| key.clone()).collect();
        for key in ended {
            self.end_session(&key, "no request and no open page any more", "session timer");
        }
    }

    /// Somebody ends a session; what it still runs is told to stop.
    pub(super) fn end_session_by_id(&mut self, ticket: Ticket, id: &str, by: &str) {
        let key = self.house.sessions.key_of(id);
        if let Some(key) = &key {
            self.stop_requests_of(key, by);
            self.end_session(key, "asked", by);
        }
        self.answer(ticket, Ok(Answer::Found(key.is_some())));
    }

    fn stop_requests_of(&mut self, key: &str, by: &str) {
        let why = words::session_ended(by);
        let theirs = |caller: &Caller| caller.session.as_ref().is_some_and(|session| session.key == key);
        self.with_each(|turn, _, record| {
            let running = record.state.leases().into_iter().flatten();
            let hit: Vec<Ticket> =
                running.filter(|(_, (caller, _))| theirs(caller)).map(|(lease, _)| *lease).collect();
            for lease in hit {
                turn.act(Action::StopRequest { lease, why: why.clone() });
            }
            let Some(queue) = record.state.queue_mut() else { return };
            let waiting = queue.extract(|waiter| waiter.caller().is_some_and(theirs));
            turn.refuse(waiting, &why);
            turn.stop_waiting_in_vain(record);
        });
    }

    /// A session is over: its conversations are forgotten, and where it was the last user the model's time begins
    /// to run out.
    fn end_session(&mut self, key: &str, reason: &str, by: &str) {
        self.changed();
        let held = self.house.held_by(key);
        let now = self.now;
        let Some(session) = self.house.sessions.end(key, now) else { return };
        self.with_each(|turn, _, record| {
            if let State::Ready(ready) = &mut record.state
                && ready.sessions.remove(key)
                && ready.sessions.is_empty()
            {
                ready.sessions_over = Some(now);
            }
            let Some(worker) = record.state.worker() else { return };
            if worker.held.contains_key(key) {
                let epoch = worker.epoch;
                turn.act(Action::EndSession { epoch, session: key.to_owned() });
            }
        });
        if session.requests == 0 {
            // A browser that only looked around is nothing to remember.
            return;
        }
        self.log(Line {
            kind: EventKind::Session,
            model: session.model,
            reason: reason.to_owned(),
            by: by.to_owned(),
            duration_ms: Some(crate::model::ms(now.boot.saturating_sub(session.started.boot))),
            bytes_before: Some(held),
            bytes_after: None,
            detail: format!("{} ({}), {} requests", session.id, session.label, session.requests),
        });
    }
}

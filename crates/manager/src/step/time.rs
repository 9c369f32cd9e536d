//! Deadlines: what they do when they come, and when the next one comes.

use std::time::Duration;

use protocol::Reason;

use super::{House, Turn, take_waiting};
use crate::{
    event::Answer,
    model::{Await, Phase, Record, State},
    policy::{self, Due},
    ports::Now,
    words,
};

impl Turn<'_> {
    /// Lets every deadline of a model that has come do what it is there for.
    pub(super) fn pass_time(&mut self) {
        let now = self.now;
        if self.house.yield_until.is_some_and(|until| until.boot <= now.boot) {
            self.house.yield_until = None;
            self.changed();
        }
        let queue_wait = self.deadlines().queue_wait;
        self.with_each(|turn, id, record| {
            let late = record.state.queue_mut().map(|queue| queue.expired(now, queue_wait));
            if let Some(late) = late.filter(|late| !late.is_empty()) {
                turn.changed();
                let problem = words::waited_too_long(id, queue_wait.as_secs());
                if let Some(first) = late.first() {
                    let (by, context) = (first.by.clone(), first.context);
                    turn.log_refusal(id, record, &problem, by, context, Some(queue_wait));
                }
                turn.refuse(late, &problem);
                turn.stop_waiting_in_vain(record);
            }
            match &record.state {
                State::Waiting { what: Await::Pause(until), .. } if *until <= now.mono => {
                    let Some(queue) = take_waiting(record) else { return };
                    turn.begin_load(id, record, queue);
                }
                State::Loading(s) if now.mono >= s.due(&turn.deadlines()) => {
                    turn.stall(id, record);
                }
                State::Ready(_) => {
                    let due = unload_at(turn.house, record, |_| None);
                    if due.is_some_and(|due| due.boot <= now.boot) {
                        let by = who_let_go(turn.house, record, now).to_owned();
                        turn.say_goodbye(id, record, Reason::Idle, by, Duration::ZERO, None);
                    }
                }
                State::Draining(s) => match s.phase {
                    Phase::Grace(until) if until <= now.mono => turn.cut(id, record),
                    Phase::Cutting(until) if until <= now.mono => turn.stop_drained(record),
                    _ => {}
                },
                State::Unloading(s) if s.deadline <= now.mono => turn.stick(id, record, None),
                _ => {}
            }
        });
    }

    /// Tells those who wait for the stop when nothing is left but what is stuck.
    pub(super) fn end_of_stop(&mut self) {
        let at_rest =
            |record: &Record| record.state.worker().is_none() || matches!(record.state, State::Stuck(_));
        if !self.house.models.values().all(at_rest) {
            return;
        }
        let waiting = self.house.stopping.as_mut().map(std::mem::take).unwrap_or_default();
        for ticket in waiting {
            self.answer(ticket, Ok(Answer::Done));
        }
    }
}

/// Which of the two rules lets an idle instance go now: its own timeout, or the end of the last session that used it.
fn who_let_go(house: &House, record: &Record, now: Now) -> &'static str {
    let State::Ready(ready) = &record.state else { return "idle timer" };
    let (config, timeout) = (&house.config, record.idle_timeout(house.config.idle_timeout));
    let by_timer = policy::unload_at(
        ready,
        record.is_pinned(),
        timeout,
        None,
        config.after_last_session,
        &config.deadlines,
    );
    let over = by_timer.is_some_and(|due| due.boot <= now.boot);
    if over { "idle timer" } else { protocol::LAST_SESSION }
}

/// When a model's idle instance goes. `ends` says when a session that has not ended will.
pub(crate) fn unload_at(house: &House, record: &Record, ends: impl Fn(&str) -> Option<Due>) -> Option<Due> {
    let State::Ready(ready) = &record.state else { return None };
    let config = &house.config;
    let over = ready.sessions_over.map(|over| policy::after(over, 0));
    let to_come = || {
        let all: Option<Vec<Due>> = ready.sessions.iter().map(|key| ends(key)).collect();
        all.and_then(|all| all.into_iter().max())
    };
    policy::unload_at(
        ready,
        record.is_pinned(),
        record.idle_timeout(config.idle_timeout),
        over.or_else(to_come),
        config.after_last_session,
        &config.deadlines,
    )
}

/// The next moment at which something is due, on the boot clock.
///
/// A deadline on the monotonic clock is looked at when it could come at the earliest: if the machine sleeps before
/// that, the look comes too early, does nothing, and the next one is set.
pub(super) fn next_deadline(house: &House, now: Now) -> Option<Duration> {
    let on_boot = |mono: Duration| now.boot + mono.saturating_sub(now.mono);
    let deadlines = &house.config.deadlines;
    let of_model = |record: &Record| {
        let state = match &record.state {
            State::Waiting { what: Await::Pause(until), .. } => Some(on_boot(*until)),
            State::Waiting { what: Await::Room(line), .. } => Some(on_boot(line.until)),
            State::Loading(s) => Some(on_boot(s.due(deadlines))),
            State::Ready(_) => unload_at(house, record, |_| None).map(|due| due.boot),
            State::Draining(s) => match s.phase {
                Phase::Grace(until) | Phase::Cutting(until) => Some(on_boot(until)),
            },
            State::Unloading(s) => Some(on_boot(s.deadline)),
            State::Unloaded | State::Failed(_) | State::Stuck(_) => None,
        };
        let queue = record.state.queue().and_then(|queue| queue.expires(deadlines.queue_wait)).map(on_boot);
        state.into_iter().chain(queue).min()
    };
    let busy = house.busy_sessions();
    let sessions = house
        .sessions
        .iter()
        .filter_map(|(key, _)| house.sessions.ends_at(key, &busy, &house.config).map(|due| due.boot));
    let of_age = house.next_of_age(now).map(on_boot);
    house
        .models
        .values()
        .filter_map(of_model)
        .chain(sessions)
        .chain(of_age)
        .chain(house.yield_until.map(|due| due.boot))
        .min()
}

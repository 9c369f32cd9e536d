//! Room for loads: who holds what, who waits for it in which order, and who is asked to go for it. Decides by
//! [`admission`]; every load and every plan comes through [`Turn::decide`].

use std::time::Duration;

use protocol::{ModelId, Problem, Reason};

use super::{House, Turn, take_waiting};
use crate::{
    admission::{self, Admission, Holder, Later, Room, Standing},
    model::{Await, InLine, Record, State, Worker, ms},
    policy,
    ports::Now,
    pressure,
    queue::Queue,
    words,
};

/// A load that is to be decided about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ask {
    /// Positions; `None`: as usual.
    pub(super) context: Option<u32>,
    /// A person takes it on themselves to go past the limit.
    pub(super) anyway: bool,
    /// Its place in the line; `None`: behind everybody.
    pub(super) place: Option<u64>,
}

impl Ask {
    /// What those want who wait.
    pub(super) fn of(queue: &Queue, place: Option<u64>) -> Self {
        Self { context: queue.context(), anyway: queue.anyway(), place }
    }
}

impl House {
    /// Those who wait for room, first come first.
    fn line(&self) -> Vec<(u64, ModelId)> {
        let places =
            self.models.iter().filter_map(|(id, record)| Some((record.in_line()?.place, id.clone())));
        let mut line: Vec<_> = places.collect();
        line.sort_unstable();
        line
    }

    /// What counts against a load. One that goes past the limit leaves other programs no more than they need to go on.
    pub(super) fn room(&self, ask: Ask) -> Room {
        let sample = self.sample.as_deref();
        let total = sample.map_or(0, |sample| sample.host.memory_total_bytes);
        let floor = pressure::floor(self.config.reserve_bytes, total);
        // What was not taken yet when the measurement was made: newer numbers are not in `available`.
        let taken = |worker: &Worker| {
            let seen = sample.into_iter().flat_map(|sample| sample.workers.iter());
            seen.filter(|(pid, _)| Some(*pid) == worker.pid).map(|(_, measured)| measured.private_bytes).sum()
        };
        let workers = || self.models.values().filter_map(|record| record.state.worker());
        let before = |line: &&InLine| ask.place.is_none_or(|place| line.place < place);
        Room {
            limit: if ask.anyway { u64::MAX } else { self.config.ram_limit_bytes },
            reserved: self.reserved(),
            outstanding: workers().map(|worker| worker.reserved().saturating_sub(taken(worker))).sum(),
            promised: self
                .models
                .values()
                .filter_map(Record::in_line)
                .filter(before)
                .map(|line| line.need)
                .sum(),
            available: sample.map(|sample| sample.available()),
            kept_back: if ask.anyway { floor } else { self.config.reserve_bytes.max(floor) },
            returning: self.freed.map_or(0, |(_, bytes)| bytes),
        }
    }

    /// Who holds what, and who may be asked to go.
    fn holders(&self, now: Now) -> Vec<Holder> {
        let stay = self.config.deadlines.min_stay;
        let of = |(model, record): (&ModelId, &Record)| {
            let worker = record.state.worker()?;
            let standing = match &record.state {
                State::Stuck(_) => Standing::Stuck,
                State::Draining(_) | State::Unloading(_) => Standing::Leaving,
                _ if record.is_pinned() => Standing::Pinned,
                State::Ready(ready) if ready.is_idle() => {
                    let since = worker.ready.map_or(now.mono, |ready| ready.mono);
                    match (since + stay).checked_sub(now.mono).filter(|left| !left.is_zero()) {
                        Some(left) => Standing::Young { ms: ms(left).max(1) },
                        None => Standing::Idle {
                            idle_ms: ms(now.boot.saturating_sub(ready.idle_since.boot)),
                            load_ms: worker.load_ms().unwrap_or(0),
                        },
                    }
                }
                _ => Standing::Busy,
            };
            Some(Holder { model: model.clone(), bytes: worker.reserved(), standing })
        };
        self.models.iter().filter_map(of).collect()
    }

    /// When somebody who waits for room will find a model old enough to be asked, on the monotonic clock.
    pub(super) fn next_of_age(&self, now: Now) -> Option<Duration> {
        self.models.values().find_map(Record::in_line)?;
        let stay = self.config.deadlines.min_stay;
        let of_age = |record: &Record| match &record.state {
            State::Ready(ready) => Some(ready.worker.ready?.mono + stay).filter(|at| *at > now.mono),
            _ => None,
        };
        self.models.values().filter_map(of_age).min()
    }
}

impl Turn<'_> {
    /// What is to be done about a load, or why it is refused: the one decision, for loads and for plans. The record is
    /// out of the house, so that the room is what the others leave.
    pub(super) fn decide(&self, id: &ModelId, record: &Record, ask: Ask) -> Result<Admission, Problem> {
        self.may_load(id, record)?;
        let need = record.forecast(ask.context).reserve_bytes();
        let (room, holders) = (self.house.room(ask), self.house.holders(self.now));
        admission::admit(need, &room, &holders).map_err(|why| {
            let held = holders.into_iter().filter(|holder| holder.standing == Standing::Pinned);
            let pinned: Vec<ModelId> = held.map(|holder| holder.model).collect();
            words::no_room(id, need, why, &pinned, ask.anyway)
        })
    }

    /// Asks others to go for a load, which then waits for all who are going.
    pub(super) fn make_room(&mut self, id: &ModelId, victims: &[ModelId]) -> Later {
        let by = words::room_for(id);
        for victim in victims {
            self.evict(victim, &by);
        }
        let holders = self.house.holders(self.now);
        let leaving = holders.into_iter().filter(|holder| holder.standing == Standing::Leaving);
        Later::Leaving(leaving.map(|holder| holder.model).collect())
    }

    fn evict(&mut self, victim: &ModelId, by: &str) {
        self.with(victim, |turn, id, record| {
            turn.say_goodbye(id, record, Reason::Evicted, by.to_owned(), Duration::ZERO, None);
        });
    }

    /// Lets a load wait for room, behind everybody who waits already, or refuses it where the line is full.
    pub(super) fn line_up_for_room(
        &mut self,
        id: &ModelId,
        record: &mut Record,
        mut queue: Queue,
        later: &Later,
    ) {
        let waiting = self.house.line().len();
        if waiting >= usize::try_from(self.house.config.queue).unwrap_or(usize::MAX) {
            let (problem, by) = (words::line_full(id, waiting), queue.reason().1);
            self.log_refusal(id, record, &problem, by);
            return self.refuse(queue.clear(), &problem);
        }
        self.changed();
        let need = record.forecast(queue.context()).reserve_bytes();
        let until = self.now.mono + self.deadlines().queue_wait;
        let (place, (reason, due)) = (self.next_place(), self.reason(later));
        let what = Await::Room(InLine { place, need, until, reason, due });
        record.state = State::Waiting { queue, what };
    }

    /// The wait in words, and when it will be over, where that is known.
    fn reason(&self, later: &Later) -> (String, Option<policy::Due>) {
        let due = match later {
            Later::Young { ms, .. } => Some(policy::after(self.now, *ms)),
            _ => None,
        };
        (words::waits_for(later), due)
    }

    /// Looks at everybody who waits for room, in their order.
    pub(super) fn let_in(&mut self) {
        for (_, id) in self.house.line() {
            self.with(&id, |turn, id, record| turn.next_in_line(id, record));
        }
    }

    fn next_in_line(&mut self, id: &ModelId, record: &mut Record) {
        let State::Waiting { queue, what: Await::Room(line) } = &record.state else { return };
        let (ask, until) = (Ask::of(queue, Some(line.place)), line.until);
        let decision = if until <= self.now.mono {
            Err(words::waited_for_room(id, self.deadlines().queue_wait.as_secs(), &line.reason))
        } else {
            self.decide(id, record, ask)
        };
        match decision {
            Ok(Admission::Later(later)) => self.still_waits(record, &later),
            Ok(Admission::Evict(victims)) => {
                let later = self.make_room(id, &victims);
                self.still_waits(record, &later);
            }
            Ok(Admission::Now) => {
                let Some(queue) = take_waiting(record) else { return };
                self.start_load(id, record, queue);
            }
            Err(problem) => {
                let Some(mut queue) = take_waiting(record) else { return };
                self.changed();
                let by = queue.reason().1;
                self.log_refusal(id, record, &problem, by);
                self.refuse(queue.clear(), &problem);
            }
        }
    }

    fn still_waits(&mut self, record: &mut Record, later: &Later) {
        let (now_reason, now_due) = self.reason(later);
        let State::Waiting { what: Await::Room(InLine { reason, due, .. }), .. } = &mut record.state else {
            return;
        };
        if *reason != now_reason {
            (*reason, *due) = (now_reason, now_due);
            self.changed();
        }
    }

    /// The machine runs short: the idle model that is worth least to keep goes.
    pub(super) fn relieve(&mut self) {
        let holders = self.house.holders(self.now);
        if holders.iter().any(|holder| holder.standing == Standing::Leaving) {
            return;
        }
        if let Some(victim) = admission::least_worth(&holders) {
            self.house.pressure.act(self.now.mono);
            self.evict(&victim, words::PRESSURE);
        }
    }
}

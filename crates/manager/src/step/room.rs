//! Room for loads: who holds what, who waits for it in which order, and who is asked to go for it. Decides by
//! [`admission`]; every load and every plan comes through [`Turn::decide`].

use std::time::Duration;

use protocol::{ModelId, Problem, Reason};

use super::{House, Turn, take_waiting};
use crate::{
    admission::{self, Admission, Bytes, Holder, Later, Need, Room, Rooms, Standing},
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
                .map(|line| line.need.ram)
                .sum(),
            available: sample.map(|sample| sample.available()),
            kept_back: if ask.anyway { floor } else { self.config.reserve_bytes.max(floor) },
            returning: self.freed.as_ref().map_or(0, |freed| freed.ram),
        }
    }

    /// The same of a GPU; `None`: its driver does not speak of it. What is not known to be taken counts as still to come.
    fn room_of_gpu(&self, index: u32, ask: Ask) -> Option<Room> {
        let sample = self.sample.as_deref()?;
        let gpu = sample.gpus.iter().find(|gpu| gpu.index == index)?;
        let (total, used) = (gpu.memory_total_bytes, gpu.memory_used_bytes);
        let taken = |worker: &Worker| -> u64 {
            let uses = sample.gpu_uses.iter().filter(|held| held.index == index);
            uses.filter(|held| Some(held.pid) == worker.pid).filter_map(|held| held.bytes).sum()
        };
        let workers = self.models.values().filter_map(|record| record.state.worker());
        let to_come = workers.map(|worker| worker.reserved_of_gpu(index).saturating_sub(taken(worker)));
        let lines = self.models.values().filter_map(Record::in_line);
        let before = lines.filter(|line| ask.place.is_none_or(|place| line.place < place));
        let returning = self.freed.as_ref().and_then(|freed| freed.gpus.get(&index));
        Some(Room {
            limit: if ask.anyway { u64::MAX } else { self.config.gpu_limit.of(total) },
            reserved: self.reserved_of_gpu(index),
            outstanding: to_come.sum(),
            promised: before.map(|line| line.need.of_gpu(index)).sum(),
            available: Some(gpu.memory_free_bytes.unwrap_or_else(|| total.saturating_sub(used))),
            kept_back: pressure::floor(0, total),
            returning: returning.copied().unwrap_or(0),
        })
    }

    /// Who holds what, and who may be asked to go.
    fn holders(&self, now: Now, gpu: Option<u32>) -> Vec<Holder> {
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
                            worth: worker
                                .load_ms()
                                .unwrap_or(0)
                                .max(1)
                                .saturating_mul(record.weight().thousandths().into()),
                        },
                    }
                }
                _ => Standing::Busy,
            };
            let of_gpu = gpu.map_or(0, |index| worker.reserved_of_gpu(index));
            let bytes = Bytes { ram: worker.reserved(), gpu: of_gpu };
            Some(Holder { model: model.clone(), bytes, standing })
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

/// Until the first measurement.
const UNMEASURED: Admission = Admission::Later(Later::Leaving(Vec::new()));

fn leaving(holders: &[Holder]) -> Vec<ModelId> {
    let leaving = holders.iter().filter(|holder| holder.standing == Standing::Leaving);
    leaving.map(|holder| holder.model.clone()).collect()
}

impl Turn<'_> {
    /// What is to be done about a load, or why it is refused: the one decision, for loads and for plans. The record is
    /// out of the house, so that the room is what the others leave.
    pub(super) fn decide(&self, id: &ModelId, record: &Record, ask: Ask) -> Result<Admission, Problem> {
        self.may_load(id, record)?;
        let need = record.forecast(ask.context).need();
        let gpu = need.gpu.map(|(index, _)| index);
        let holders = self.house.holders(self.now, gpu);
        let context = ask.context.or(record.shelf.context);
        if let Some(starved) = &record.past.starved
            && starved.covers(&record.shelf.files, context)
        {
            if starved.again {
                return Err(words::starved(id));
            }
            // What the books say did not help the first time; the others are to be gone in truth.
            let leaving = leaving(&holders);
            if !leaving.is_empty() {
                return Ok(Admission::Later(Later::Leaving(leaving)));
            }
        }
        let mut rooms = Rooms { ram: self.house.room(ask), gpu: None };
        if let Some(index) = gpu {
            rooms.gpu = self.house.room_of_gpu(index, ask);
            if rooms.gpu.is_none() {
                // Nothing is promised of a device of which nothing is known.
                let measured = self.house.sample.is_some();
                return if measured { Err(words::no_gpu(id, index)) } else { Ok(UNMEASURED) };
            }
        }
        admission::admit(need, &rooms, &holders).map_err(|why| {
            let held = holders.into_iter().filter(|holder| holder.standing == Standing::Pinned);
            let there = held.filter(|holder| !why.on_gpu || holder.bytes.gpu > 0);
            let pinned: Vec<ModelId> = there.map(|holder| holder.model).collect();
            words::no_room(id, need, why, &pinned, ask.anyway)
        })
    }

    /// Asks others to go for a load, which then waits for all who are going.
    pub(super) fn make_room(&mut self, id: &ModelId, victims: &[ModelId]) -> Later {
        let by = words::room_for(id);
        for victim in victims {
            self.evict(victim, &by);
        }
        Later::Leaving(leaving(&self.house.holders(self.now, None)))
    }

    /// Asks every idle model to go.
    pub(super) fn evict_idle(&mut self, by: &str) {
        let holders = self.house.holders(self.now, None);
        for holder in holders.iter().filter(|holder| matches!(holder.standing, Standing::Idle { .. })) {
            self.evict(&holder.model, by);
        }
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
            return self.turn_away(id, record, &mut queue, &words::line_full(id, waiting));
        }
        self.changed();
        let need = record.forecast(queue.context()).need();
        let until = self.now.mono + self.deadlines().queue_wait;
        let (reason, due) = (words::waits_for(later), self.due(later, None));
        let place = self.next_place();
        let what = Await::Room(InLine { place, need, until, reason, due });
        record.state = State::Waiting { queue, what };
    }

    /// When a wait will be over, as far as something measured says so.
    fn due(&self, later: &Later, place: Option<u64>) -> Option<policy::Due> {
        Some(policy::after(self.now, self.wait_ms(later, place)?))
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
                self.turn_away(id, record, &mut queue, &problem);
            }
        }
    }

    fn still_waits(&mut self, record: &mut Record, later: &Later) {
        let place = record.in_line().map(|line| line.place);
        let (now_reason, now_due, now) = (words::waits_for(later), self.due(later, place), self.now);
        let context = record.state.queue().and_then(Queue::context);
        let now_needs: Need = record.forecast(context).need();
        let State::Waiting { what: Await::Room(InLine { reason, due, need, .. }), .. } = &mut record.state
        else {
            return;
        };
        // Somebody may have asked for another context meanwhile, or something was learned of the file.
        *need = now_needs;
        if *reason != now_reason || is_news(*due, now_due, now) {
            (*reason, *due) = (now_reason, now_due);
            self.changed();
        }
    }

    /// The machine runs short: the idle model that is worth least to keep goes.
    pub(super) fn relieve(&mut self) {
        let holders = self.house.holders(self.now, None);
        if holders.iter().any(|holder| holder.standing == Standing::Leaving) {
            return;
        }
        if let Some(victim) = admission::least_worth(&holders) {
            self.house.pressure.act(self.now.mono);
            self.evict(&victim, words::PRESSURE);
        }
    }
}

/// Whether an estimate came, went before its time, or moved by a second. One that is over is not shown anyway.
fn is_news(old: Option<policy::Due>, new: Option<policy::Due>, now: Now) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.boot.abs_diff(new.boot) >= Duration::from_secs(1),
        (Some(old), None) => old.boot > now.boot,
        (None, new) => new.is_some(),
    }
}

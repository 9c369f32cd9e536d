//! When a load that waits for room will have it, as far as something measured says so: how long a model took to go, how long
//! requests use it, how often memory is measured. Estimates of what is waited for now; what comes after that is another wait.

use protocol::ModelId;

use super::Turn;
use crate::{
    admission::Later,
    model::{Leases, Phase, Record, State, ms},
    past::Past,
};

impl Turn<'_> {
    /// From now until what is waited for has come; `None`: nothing that was measured says when. `place` is the waiter's in the
    /// line; `None`: behind everybody.
    pub(super) fn wait_ms(&self, later: &Later, place: Option<u64>) -> Option<u64> {
        match later {
            Later::Leaving(models) if models.is_empty() => self.next_sample_ms(),
            Later::Leaving(models) => self.longest(models, Self::gone_ms),
            Later::Young { model, ms } => {
                Some(ms + self.past(model).and_then(|past| past.release_ms).unwrap_or(0))
            }
            Later::Busy(models) => models.iter().filter_map(|model| self.free_ms(self.record(model)?)).min(),
            Later::Line => self.before_ms(place),
        }
    }

    /// Until these, who are to be pushed out, have gone.
    pub(super) fn eviction_ms(&self, victims: &[ModelId]) -> Option<u64> {
        self.longest(victims, |_, record| record.past.release_ms)
    }

    fn longest(&self, models: &[ModelId], of: impl Fn(&Self, &Record) -> Option<u64>) -> Option<u64> {
        let all: Option<Vec<u64>> = models.iter().map(|model| of(self, self.record(model)?)).collect();
        all?.into_iter().max()
    }

    fn record(&self, model: &ModelId) -> Option<&Record> {
        self.house.models.get(model)
    }

    fn past(&self, model: &ModelId) -> Option<&Past> {
        Some(&self.record(model)?.past)
    }

    /// Until a model that is going has gone: as long as it took the last time.
    fn gone_ms(&self, record: &Record) -> Option<u64> {
        let release = record.past.release_ms?;
        match &record.state {
            State::Unloading(going) => release.checked_sub(ms(self.now.mono.saturating_sub(going.since))),
            State::Draining(draining) => {
                // Its requests end by themselves, or when their time is over.
                let (Phase::Grace(until) | Phase::Cutting(until)) = draining.phase;
                let at_most = ms(until.saturating_sub(self.now.mono));
                let by_themselves = self.used_up_ms(record, &draining.leases).unwrap_or(at_most);
                Some(by_themselves.min(at_most) + release)
            }
            _ => None,
        }
    }

    /// Until a model in use is not any more and has gone: unknown where others wait for it already.
    fn free_ms(&self, record: &Record) -> Option<u64> {
        let State::Ready(ready) = &record.state else { return None };
        let idle =
            if ready.queue.is_empty() { self.used_up_ms(record, &ready.leases)? } else { return None };
        Some(idle + record.past.release_ms.unwrap_or(0))
    }

    /// Until those who hold leases have had them for as long as others did. `None`: one has had it longer already, so nobody
    /// knows.
    fn used_up_ms(&self, record: &Record, leases: &Leases) -> Option<u64> {
        let usual = record.past.use_ms?;
        let ready = record.state.worker()?.ready?.mono;
        let left = leases
            .values()
            .map(|(_, since)| usual.checked_sub(ms(self.now.mono.saturating_sub(since.mono.max(ready)))));
        left.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// Until memory is measured again.
    fn next_sample_ms(&self) -> Option<u64> {
        let next = self.house.sample.as_ref()?.begun + self.house.between_samples?;
        Some(ms(next.checked_sub(self.now.mono)?))
    }

    /// Until whoever stands before that place need wait no longer.
    fn before_ms(&self, place: Option<u64>) -> Option<u64> {
        let lines = self.house.models.values().filter_map(Record::in_line);
        let before = lines.filter(|line| place.is_none_or(|place| line.place < place));
        let due = before.max_by_key(|line| line.place)?.due?;
        Some(ms(due.boot.checked_sub(self.now.boot)?))
    }
}

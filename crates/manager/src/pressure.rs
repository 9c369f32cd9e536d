//! When the machine runs short of memory: loads are refused and idle models go before the kernel must act. Pure; knows
//! no model.

use std::time::Duration;

use protocol::Host;

/// After the last sign of a shortage it counts for so long.
const HYSTERESIS: Duration = Duration::from_secs(10);
/// A stall share is an average over so long: after a model went for it, the next one goes only when it can have fallen.
const STALL_WINDOW: Duration = Duration::from_secs(10);
/// Percent of the last ten seconds in which some task waited for memory.
const SOME: f64 = 10.0;
/// The same for all tasks at once.
const FULL: f64 = 5.0;

/// Memory without which other programs cannot go on, whatever is asked of us: half of the reserve, or 2 % of the
/// machine (256 MiB at most) where the reserve is smaller.
pub(crate) fn floor(reserve_bytes: u64, total_bytes: u64) -> u64 {
    (reserve_bytes / 2).max((total_bytes / 50).min(256 << 20))
}

/// The sign of a shortage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sign {
    /// So few bytes are available, under this floor.
    Short { available: u64, floor: u64 },
    /// Tasks stall waiting for memory, in percent of the time, and not much of it is available.
    Stalls { percent: f64 },
}

/// Watches the measurements.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Guard {
    /// The last sign, and when, on the monotonic clock.
    seen: Option<(Sign, Duration)>,
    /// When a model went for it.
    acted: Option<Duration>,
}

impl Guard {
    /// Takes a measurement; returns whether an idle model should go now.
    pub(crate) fn look(&mut self, host: &Host, reserve_bytes: u64, now: Duration) -> bool {
        let Some(sign) = sign(host, reserve_bytes) else {
            if self.seen.is_some_and(|(_, at)| now >= at + HYSTERESIS) {
                *self = Self::default();
            }
            return false;
        };
        self.seen = Some((sign, now));
        match sign {
            Sign::Short { .. } => true,
            Sign::Stalls { .. } => self.acted.is_none_or(|at| now >= at + STALL_WINDOW),
        }
    }

    /// A model goes for it.
    pub(crate) fn act(&mut self, now: Duration) {
        self.acted = Some(now);
    }

    /// Why loads are refused at the moment; `None`: they are not.
    pub(crate) fn refuses(&self, now: Duration) -> Option<Sign> {
        self.seen.filter(|(_, at)| now < *at + HYSTERESIS).map(|(sign, _)| sign)
    }
}

fn sign(host: &Host, reserve_bytes: u64) -> Option<Sign> {
    let (available, floor) = (host.memory_available_bytes, floor(reserve_bytes, host.memory_total_bytes));
    if available < floor {
        return Some(Sign::Short { available, floor });
    }
    // Stalls while much is free are somebody else's: another container's limit, a slow swap of long ago.
    let scarce = available < reserve_bytes.max(floor).saturating_mul(2);
    let pressure = host.pressure.filter(|_| scarce)?;
    let stalls = pressure.some_avg10 >= SOME || pressure.full_avg10 >= FULL;
    stalls.then_some(Sign::Stalls { percent: pressure.some_avg10.max(pressure.full_avg10) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::Pressure;

    const GIB: u64 = 1 << 30;

    fn host(available: u64, some: f64, full: f64) -> Host {
        Host {
            memory_total_bytes: 24 * GIB,
            memory_available_bytes: available,
            swap_used_bytes: 0,
            cpu_count: 2,
            cpu_percent: 0.0,
            pressure: Some(Pressure { some_avg10: some, full_avg10: full }),
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_shortage_refuses_loads_at_once_and_until_ten_seconds_after_its_last_sign() {
        let mut guard = Guard::default();
        assert!(!guard.look(&host(9 * GIB, 0.0, 0.0), GIB, at(0)));
        assert_eq!(guard.refuses(at(0)), None);
        assert!(guard.look(&host(GIB / 4, 0.0, 0.0), GIB, at(1000)), "an idle model should go");
        assert!(!guard.look(&host(9 * GIB, 0.0, 0.0), GIB, at(2000)));
        assert!(guard.refuses(at(10_999)).is_some());
        assert_eq!(guard.refuses(at(11_000)), None);
    }

    #[test]
    fn stalls_count_only_where_memory_is_scarce_and_take_one_model_a_window() {
        let mut guard = Guard::default();
        assert!(!guard.look(&host(9 * GIB, 80.0, 60.0), GIB, at(0)), "somebody else stalls");
        assert!(guard.look(&host(GIB, 12.0, 0.0), GIB, at(1000)));
        guard.act(at(1000));
        assert!(!guard.look(&host(GIB, 12.0, 0.0), GIB, at(2000)), "the average has not had time to fall");
        assert!(guard.look(&host(GIB, 0.0, 6.0), GIB, at(11_000)));
    }

    #[test]
    fn the_floor_is_half_of_the_reserve_and_never_nothing() {
        assert_eq!(floor(GIB, 24 * GIB), GIB / 2);
        assert_eq!(floor(0, 24 * GIB), 256 << 20);
        assert_eq!(floor(0, GIB), GIB / 50);
    }

    proptest! {
        #[test]
        fn loads_are_refused_exactly_while_the_last_sign_is_younger_than_ten_seconds(
            looks in proptest::collection::vec((1_u64..4000, 0_u64..3 * GIB, 0.0_f64..20.0), 1..60),
        ) {
            let (mut guard, mut now, mut last) = (Guard::default(), 0, None);
            for (ms, available, some) in looks {
                now += ms;
                let host = host(available, some, 0.0);
                let is_sign = available < GIB / 2 || (available < 2 * GIB && some >= 10.0);
                let goes = guard.look(&host, GIB, at(now));
                last = if is_sign { Some(now) } else { last };
                prop_assert!(!goes || is_sign, "a model goes only while there is a sign");
                if goes { guard.act(at(now)); }
                let refuses = last.is_some_and(|last| now < last + 10_000);
                prop_assert_eq!(guard.refuses(at(now)).is_some(), refuses);
            }
        }
    }
}

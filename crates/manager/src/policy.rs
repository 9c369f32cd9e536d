//! The rules that are matters of taste: when an idle model goes, what a clean-up spares, how long to wait after a
//! crash, when memory counts as returned. Pure functions of what they are given.

use std::time::Duration;

use protocol::{Code, DeviceReturn, Failure, IdleTimeout, Verdict};

use crate::{
    config::Deadlines,
    event::Manner,
    model::{Ready, Record, Retry, State},
    past::Past,
    ports::Now,
};

/// A moment that is to come, on the clock that goes on in suspend and on the one that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) boot: Duration,
    pub(crate) wall_ms: i64,
}

/// A span after a moment.
pub(crate) fn after(from: Now, ms: u64) -> Due {
    let wall_ms = from.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
    Due { boot: from.boot + Duration::from_millis(ms), wall_ms }
}

/// When an idle instance goes; `None`: not by itself.
///
/// `timeout` is the model's. `sessions_end` is when the last session that used it will have ended or has ended, and
/// `after_last_session` how much longer it may stay then; a timeout that a request gave to the instance stands above
/// that, since it was meant for this very instance.
pub(crate) fn unload_at(
    ready: &Ready,
    pinned: bool,
    timeout: IdleTimeout,
    sessions_end: Option<Due>,
    after_last_session: IdleTimeout,
    deadlines: &Deadlines,
) -> Option<Due> {
    if pinned || !ready.is_idle() {
        return None;
    }
    let span = match timeout.ms()? {
        0 if !ready.used => u64::try_from(deadlines.unused.as_millis()).unwrap_or(u64::MAX),
        ms => ms,
    };
    let by_timer = after(ready.idle_since, span);
    let by_sessions = match (sessions_end, after_last_session.ms(), ready.worker.idle_timeout) {
        (Some(end), Some(ms), None) => {
            // Whoever used it without a session after that has used it too.
            let end = end.max(after(ready.idle_since, 0));
            let wall_ms = end.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
            Some(Due { boot: end.boot + Duration::from_millis(ms), wall_ms })
        }
        _ => None,
    };
    Some(by_sessions.map_or(by_timer, |by_sessions| by_timer.min(by_sessions)))
}

/// Why a clean-up leaves a model alone; `None`: it goes.
pub(crate) fn spared(record: &Record, manner: Manner) -> Option<String> {
    if record.is_pinned() {
        return Some("pinned".to_owned());
    }
    let gentle = manner == Manner::Gentle;
    match &record.state {
        State::Unloaded | State::Failed(_) => Some("not loaded".to_owned()),
        State::Waiting { .. } if gentle => Some("waiting to load".to_owned()),
        State::Loading(_) if gentle => Some("loading".to_owned()),
        State::Ready(ready) if gentle && !ready.is_idle() => {
            Some(requests(ready.leases.len(), ready.queue.requests()))
        }
        State::Stuck(stuck) => Some(match stuck.worker.pid {
            Some(pid) => format!("stuck: process {pid} cannot be ended"),
            None => "stuck: its worker cannot be ended".to_owned(),
        }),
        _ => None,
    }
}

fn requests(in_flight: usize, queued: u32) -> String {
    let flight = format!("{in_flight} request{} in flight", if in_flight == 1 { "" } else { "s" });
    if queued == 0 { flight } else { format!("{flight}, {queued} waiting") }
}

/// Counts a crash and says when the model may be tried again: after a pause that doubles with each crash in a row,
/// or not before somebody reloads it, if it was the third within the window. `proved` is whether the instance had
/// been ready long enough for the row to begin anew.
pub(crate) fn strike(past: &mut Past, proved: bool, now: Now, deadlines: &Deadlines) -> Retry {
    past.crashes.retain(|crash| now.mono.saturating_sub(*crash) < deadlines.crash_window);
    past.crashes.push(now.mono);
    past.strikes = if proved { 1 } else { past.strikes.saturating_add(1) };
    if past.crashes.len() >= 3 {
        return Retry::Quarantined;
    }
    let doubled = 2_u32.saturating_pow(past.strikes.saturating_sub(1));
    Retry::At(now.mono + deadlines.back_off.saturating_mul(doubled).min(deadlines.back_off_most))
}

/// Whether trying again is of no use before somebody has mended something.
pub(crate) fn is_final(failure: &Failure) -> bool {
    failure.code == Code::UnsupportedModel.word()
}

/// Whether the reason lies in the present state of things around the model, and not in the model.
pub(crate) fn is_passing(failure: &Failure) -> bool {
    failure.code == Code::Conflict.word()
}

/// Whether what was held is back: at least 95 % of it.
pub(crate) fn verdict(held_bytes: u64, residual_bytes: u64) -> Verdict {
    if u128::from(residual_bytes) * 20 <= u128::from(held_bytes) {
        Verdict::Returned
    } else {
        Verdict::Residual
    }
}

/// The same over RAM and every GPU: what is left anywhere is left.
pub(crate) fn verdict_of_all(held_bytes: u64, residual_bytes: u64, gpus: &[DeviceReturn]) -> Verdict {
    let of_gpus = gpus.iter().map(|gpu| verdict(gpu.held_bytes, gpu.residual_bytes));
    let all = of_gpus.chain([verdict(held_bytes, residual_bytes)]);
    if all.into_iter().all(|one| one == Verdict::Returned) { Verdict::Returned } else { Verdict::Residual }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        let mono = Duration::from_millis(mono_ms);
        Now { boot: mono, mono, wall_ms: 0 }
    }

    #[test]
    fn pauses_double_and_have_an_end() {
        let (mut past, deadlines) = (Past::default(), Deadlines::default());
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            now += 40_000;
            let Retry::At(until) = strike(&mut past, false, at(now), &deadlines) else {
                panic!("quarantined")
            };
            pauses.push(until.as_millis() - u128::from(now));
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn an_instance_that_proved_itself_begins_a_new_row() {
        let (mut past, deadlines) = (Past::default(), Deadlines::default());
        strike(&mut past, false, at(0), &deadlines);
        assert_eq!(
            strike(&mut past, true, at(500_000), &deadlines),
            Retry::At(Duration::from_millis(500_500))
        );
    }

    #[test]
    fn the_third_crash_within_the_window_is_one_too_many() {
        let (mut past, deadlines) = (Past::default(), Deadlines::default());
        assert_ne!(strike(&mut past, false, at(0), &deadlines), Retry::Quarantined);
        assert_ne!(strike(&mut past, false, at(59_999), &deadlines), Retry::Quarantined);
        assert_ne!(strike(&mut past, false, at(60_000), &deadlines), Retry::Quarantined, "the first is over");
        assert_eq!(strike(&mut past, false, at(60_001), &deadlines), Retry::Quarantined);
    }

    #[test]
    fn five_percent_left_is_returned_and_more_is_a_residual() {
        assert_eq!(verdict(100, 5), Verdict::Returned);
        assert_eq!(verdict(100, 6), Verdict::Residual);
        assert_eq!(verdict(0, 0), Verdict::Returned);
        assert_eq!(verdict(0, 1), Verdict::Residual);
        assert_eq!(verdict(u64::MAX, u64::MAX), Verdict::Residual);
    }

    #[test]
    fn what_is_left_on_one_gpu_is_a_residual_whatever_came_back_elsewhere() {
        let gpu = |index, held_bytes, residual_bytes| DeviceReturn {
            index,
            held_bytes,
            returned_bytes: held_bytes - residual_bytes,
            residual_bytes,
        };
        assert_eq!(verdict_of_all(100, 5, &[gpu(0, 100, 0), gpu(1, 100, 5)]), Verdict::Returned);
        assert_eq!(verdict_of_all(100, 0, &[gpu(0, 100, 0), gpu(1, 10, 1)]), Verdict::Residual);
        assert_eq!(verdict_of_all(10, 1, &[gpu(0, 1 << 40, 0)]), Verdict::Residual);
    }
}

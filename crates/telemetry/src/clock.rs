//! The product's clock: three kernel clocks, and a timer that goes on while the machine sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use manager::ports::{Clock, Now};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Manager's [`Clock`] on a CLOCK_BOOTTIME timerfd. Needs a tokio runtime with I/O and time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { boot: read(ClockId::Boottime), mono: monotonic(), wall_ms: wall_ms() }
    }

    async fn sleep_until(&self, boot: Duration) {
        // A timer that wakes early or cannot be had must not turn the caller's loop into a spin.
        while let Some(left) = boot.checked_sub(read(ClockId::Boottime)).filter(|left| !left.is_zero()) {
            if let Err(error) = timer(boot).await {
                tracing::warn!(%error, "no boot-time timer; waiting on the monotonic clock instead");
                tokio::time::sleep(left).await;
            }
        }
    }
}

/// Wall time in Unix milliseconds, negative before 1970; only ever shown. By the C library, as programs do: so the wall clock of
/// one process can be set from outside, which `cargo xtask harm --only jumps` does.
#[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]
pub(crate) fn wall_ms() -> i64 {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => ms(after),
        Err(before) => -ms(before.duration()),
    }
}

/// The monotonic clock, for spans.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

/// A clock that starts at 0 with the machine.
fn read(id: ClockId) -> Duration {
    let now = clock_gettime(id);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Waits on a timerfd of its own, which goes with the future.
async fn timer(boot: Duration) -> std::io::Result<()> {
    let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let at = Timespec {
        // Beyond 2^33 seconds some file systems and kernels round; no machine stays up for 272 years.
        tv_sec: i64::try_from(boot.as_secs()).unwrap_or(i64::MAX).min(1 << 33),
        tv_nsec: i64::from(boot.subsec_nanos()),
    };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    timerfd_settime(&fd, TimerfdTimerFlags::ABSTIME, &once)?;
    #[expect(
        deprecated,
        reason = "the successor is unsafe; an OwnedFd stays open and the same, which is all that it asks for"
    )]
    let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
    fd.readable().await?.retain_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_clocks_go_forward_and_boot_time_is_never_behind_monotonic() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second.boot >= first.boot && second.mono >= first.mono);
        // Boot time counts suspend, monotonic does not; a millisecond allows for reading one after the other.
        assert!(second.boot + Duration::from_millis(1) >= first.mono);
        assert!(first.wall_ms > 1_700_000_000_000, "{first:?}");
    }

    #[tokio::test]
    async fn a_sleep_ends_after_its_moment_and_soon_after_it() {
        let until = SystemClock.now().boot + Duration::from_millis(60);
        SystemClock.sleep_until(until).await;
        let late = SystemClock.now().boot.checked_sub(until).expect("it woke too early");
        assert!(late < Duration::from_secs(2), "{late:?} late");
    }

    #[tokio::test]
    async fn a_moment_that_has_passed_is_not_waited_for() {
        let before = SystemClock.now().mono;
        SystemClock.sleep_until(Duration::ZERO).await;
        SystemClock.sleep_until(before / 2).await;
        assert!(SystemClock.now().mono - before < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_moment_beyond_all_machines_is_waited_for_without_harm() {
        let sleep = SystemClock.sleep_until(Duration::MAX);
        let woke = tokio::time::timeout(Duration::from_millis(50), sleep).await.is_ok();
        assert!(!woke, "the end of time came early");
    }
}

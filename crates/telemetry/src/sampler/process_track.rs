//! Numbers of one process from second to second: exact as long as nothing has changed since it was measured, else
//! the exact ones carried on by what the cheap counters moved.

use std::{collections::HashMap, path::Path, time::Duration};

use manager::ports::Measured;
use protocol::Quality;

use crate::{
    clock::monotonic,
    process::{cheap, exact},
};

/// An exact measurement is made at most this often.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// And so seldom that its share of one processor stays under one in so many: the walk holds the process's map.
const LEAST_RATIO: u32 = 200;

/// The processes that are looked at.
#[derive(Debug, Default)]
pub(crate) struct Tracks(HashMap<u32, Track>);

/// The last exact measurement, with what the cheap counters said at the same time.
#[derive(Clone, Copy, Debug)]
struct Track {
    exact: Measured,
    cheap_then: Measured,
    next_exact: Duration,
}

impl Tracks {
    /// Forgets those that are no longer looked at.
    pub(crate) fn keep(&mut self, wanted: impl Fn(u32) -> bool) {
        self.0.retain(|pid, _| wanted(*pid));
    }

    /// What a process holds; `None`: it cannot be read, mostly because it has ended.
    pub(crate) fn measure(&mut self, proc: &Path, pid: u32, now: Duration) -> Option<Measured> {
        let current = cheap(proc, pid).ok()?;
        let track = self.0.get(&pid).copied();
        let due = track.is_none_or(|track| !same(&track.cheap_then, &current) && now >= track.next_exact);
        if due {
            let begun = monotonic();
            if let Ok(exact) = exact(proc, pid) {
                let cost = monotonic().saturating_sub(begun);
                let next_exact = now.saturating_add(LEAST_PAUSE.max(cost.saturating_mul(LEAST_RATIO)));
                self.0.insert(pid, Track { exact, cheap_then: current, next_exact });
                return Some(exact);
            }
        }
        // Where exact numbers are refused (another user's process, an old kernel), the cheap ones must do.
        Some(track.map_or(current, |track| carried(&track, current)))
    }
}

fn same(a: &Measured, b: &Measured) -> bool {
    (a.private_bytes, a.mapped_bytes) == (b.private_bytes, b.mapped_bytes)
}

fn carried(track: &Track, current: Measured) -> Measured {
    let moved = |exact: u64, then: u64, now: u64| exact.saturating_add(now).saturating_sub(then);
    let quality = if same(&track.cheap_then, &current) { Quality::Exact } else { Quality::Derived };
    Measured {
        private_bytes: moved(
            track.exact.private_bytes,
            track.cheap_then.private_bytes,
            current.private_bytes,
        ),
        mapped_bytes: moved(track.exact.mapped_bytes, track.cheap_then.mapped_bytes, current.mapped_bytes),
        quality,
        ..current
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A `/proc` with one process whose numbers the test sets.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("7")).unwrap();
            Self(root)
        }

        fn set(&self, anon_kib: u64, exact_anon_kib: u64) {
            let process = self.0.path().join("7");
            let status = format!("RssAnon: {anon_kib} kB\nRssFile: 50 kB\nRssShmem: 0 kB\nVmSwap: 0 kB\n");
            let rollup =
                format!("Pss_Anon: {exact_anon_kib} kB\nPss_File: 10 kB\nPss_Shmem: 0 kB\nSwapPss: 0 kB\n");
            fs::write(process.join("status"), status).unwrap();
            fs::write(process.join("smaps_rollup"), rollup).unwrap();
        }

        fn measure(&self, tracks: &mut Tracks, second: u64) -> (u64, u64, Quality) {
            let measured = tracks.measure(self.0.path(), 7, Duration::from_secs(second)).unwrap();
            (measured.private_bytes >> 10, measured.mapped_bytes >> 10, measured.quality)
        }
    }

    #[test]
    fn a_number_stays_exact_until_something_moves_and_is_measured_again_later() {
        let (process, mut tracks) = (Fake::new(), Tracks::default());
        process.set(100, 90);
        assert_eq!(process.measure(&mut tracks, 0), (90, 10, Quality::Exact));
        assert_eq!(process.measure(&mut tracks, 100), (90, 10, Quality::Exact));
        process.set(140, 131);
        // The last exact measurement was 100 seconds ago, so a new one is due at once, and then not for a while.
        assert_eq!(process.measure(&mut tracks, 101), (131, 10, Quality::Exact));
        process.set(150, 142);
        assert_eq!(process.measure(&mut tracks, 102), (141, 10, Quality::Derived));
        assert_eq!(process.measure(&mut tracks, 107), (142, 10, Quality::Exact));
    }

    #[test]
    fn without_exact_numbers_the_cheap_ones_are_shown_as_derived() {
        let (process, mut tracks) = (Fake::new(), Tracks::default());
        process.set(100, 90);
        fs::remove_file(process.0.path().join("7/smaps_rollup")).unwrap();
        assert_eq!(process.measure(&mut tracks, 0), (100, 50, Quality::Derived));
    }

    #[test]
    fn a_process_that_ended_is_forgotten() {
        let (process, mut tracks) = (Fake::new(), Tracks::default());
        process.set(100, 90);
        process.measure(&mut tracks, 0);
        tracks.keep(|_| false);
        assert!(tracks.0.is_empty());
        assert_eq!(tracks.measure(process.0.path(), 8, Duration::ZERO), None);
    }
}

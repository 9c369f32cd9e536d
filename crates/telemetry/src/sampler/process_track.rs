//! Numbers of one process from second to second: exact as long as nothing has changed since it was measured, else
//! the exact ones carried on by what the cheap counters moved.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use manager::ports::Measured;
use protocol::Quality;

use crate::{
    clock::monotonic,
    process::{cheap, exact},
};

/// An exact measurement is made at most this often.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// And so seldom that its share of one processor stays under one in so many: the walk holds the process's map.
const LEAST_RATIO: u32 = 400;
/// A reading waits so long for all its exact measurements together. One that takes longer counts when it comes: a process
/// whose map is held by somebody else must not keep the machine's own totals from being seen.
const PATIENCE: Duration = Duration::from_millis(300);

/// The processes that are looked at.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    known: HashMap<u32, Track>,
    /// Of this reading, what is left.
    patience: Duration,
    /// At rest.
    walker: Option<Walker>,
    /// Those who were not waited for any longer, by the process that they look at.
    late: HashMap<u32, Walker>,
}

/// The last exact measurement, with what the cheap counters said at the same time.
#[derive(Clone, Copy, Debug)]
struct Track {
    exact: Measured,
    cheap_then: Measured,
    next_exact: Duration,
}

impl Tracks {
    /// A new reading begins, of these processes.
    pub(crate) fn begin(&mut self, wanted: impl Fn(u32) -> bool) {
        self.known.retain(|pid, _| wanted(*pid));
        self.late.retain(|pid, _| wanted(*pid));
        self.patience = PATIENCE;
    }

    /// What a process holds; `None`: it cannot be read, mostly because it has ended.
    pub(crate) fn measure(&mut self, proc: &Path, pid: u32, now: Duration) -> Option<Measured> {
        let current = cheap(proc, pid).ok()?;
        self.hear(pid, now);
        let track = self.known.get(&pid).copied();
        let due = track.is_none_or(|track| !same(&track.cheap_then, &current) && now >= track.next_exact);
        if due && let Some(exact) = self.walk(proc, pid, now) {
            return Some(exact);
        }
        // Where exact numbers are refused (another user's process, an old kernel), the cheap ones must do.
        Some(track.map_or(current, |track| carried(&track, current)))
    }

    /// Measures exactly, unless that takes too long.
    fn walk(&mut self, proc: &Path, pid: u32, now: Duration) -> Option<Measured> {
        if self.patience.is_zero() || self.late.contains_key(&pid) {
            return None;
        }
        let walker = self.walker.take().or_else(|| Walker::start().ok())?;
        let begun = monotonic();
        walker.ask.send((proc.to_owned(), pid)).ok()?;
        let answer = walker.answers.recv_timeout(self.patience);
        self.patience = self.patience.saturating_sub(monotonic().saturating_sub(begun));
        match answer {
            Ok(walked) => {
                self.walker = Some(walker);
                self.take(pid, walked, now)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.late.insert(pid, walker);
                None
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes what came late of this process.
    fn hear(&mut self, pid: u32, now: Duration) {
        let answer = self.late.get(&pid).map(|walker| walker.answers.try_recv());
        match answer {
            None | Some(Err(mpsc::TryRecvError::Empty)) => {}
            Some(Err(mpsc::TryRecvError::Disconnected)) => drop(self.late.remove(&pid)),
            Some(Ok(walked)) => {
                self.walker = self.late.remove(&pid);
                self.take(pid, walked, now);
            }
        }
    }

    fn take(&mut self, pid: u32, walked: Walked, now: Duration) -> Option<Measured> {
        let exact = walked.exact.ok()?;
        let next_exact = now.saturating_add(LEAST_PAUSE.max(walked.cost.saturating_mul(LEAST_RATIO)));
        self.known.insert(pid, Track { exact, cheap_then: walked.cheap, next_exact });
        Some(exact)
    }
}

/// A thread that measures exactly, which may take as long as somebody holds the process's map. It ends when nobody waits
/// for it any more.
#[derive(Debug)]
struct Walker {
    ask: mpsc::Sender<(PathBuf, u32)>,
    answers: mpsc::Receiver<Walked>,
}

/// What it found.
#[derive(Debug)]
struct Walked {
    cheap: Measured,
    exact: io::Result<Measured>,
    cost: Duration,
}

impl Walker {
    fn start() -> io::Result<Self> {
        let (ask, asked) = mpsc::channel::<(PathBuf, u32)>();
        let (tell, answers) = mpsc::channel();
        thread::Builder::new().name("exact".to_owned()).spawn(move || {
            for (proc, pid) in asked {
                let Ok(cheap) = cheap(&proc, pid) else { return };
                let begun = monotonic();
                let exact = exact(&proc, pid);
                let cost = monotonic().saturating_sub(begun);
                if tell.send(Walked { cheap, exact, cost }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers })
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
            tracks.begin(|_| true);
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
        tracks.begin(|_| false);
        assert!(tracks.known.is_empty());
        assert_eq!(tracks.measure(process.0.path(), 8, Duration::ZERO), None);
    }

    #[test]
    fn a_process_whose_map_is_held_keeps_nobody_waiting_and_counts_when_it_is_let_go() {
        let (process, mut tracks) = (Fake::new(), Tracks::default());
        process.set(100, 90);
        assert_eq!(process.measure(&mut tracks, 0), (90, 10, Quality::Exact));
        process.set(140, 131);
        // Whoever opens a pipe for reading waits for somebody to write.
        let (rollup, held) =
            (process.0.path().join("7/smaps_rollup"), process.0.path().join("7/smaps_rollup.held"));
        fs::rename(&rollup, &held).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &rollup,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(process.measure(&mut tracks, 10), (130, 10, Quality::Derived));
        assert_eq!(process.measure(&mut tracks, 11), (130, 10, Quality::Derived));
        assert_eq!(tracks.patience, PATIENCE, "it is not asked again meanwhile");
        assert_eq!(tracks.late.len(), 1);
        fs::write(&rollup, fs::read(&held).unwrap()).unwrap();
        let end = monotonic() + Duration::from_secs(10);
        while process.measure(&mut tracks, 12) != (131, 10, Quality::Exact) {
            assert!(monotonic() < end, "what came late was not taken");
            thread::yield_now();
        }
        assert!(tracks.late.is_empty() && tracks.walker.is_some());
    }
}

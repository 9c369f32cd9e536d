//! The run folder: the lock that keeps a second server out, and a record of every worker from before it is spawned
//! until it is reaped, by which the next start finds what was left over.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{procfs, spawn::mark};

/// How long a left-over may take to go after SIGKILL.
const RECLAIM_WAIT: Duration = Duration::from_secs(8);
/// How long the lock of a server that is gone may be held on.
const LET_GO: Duration = Duration::from_secs(2);

/// Why the run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server holds it.
    #[error(
        "another Innkeeper{} already uses {}. Stop it first, or give this one another --data-dir.",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    Held {
        /// Its process, if it wrote it down.
        holder: Option<u32>,
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be made, opened or locked.
    #[error("the run folder {} cannot be used: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A worker as it stands on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Empty: it has none.
    pub(crate) model: String,
    /// It is started ahead, and has no model yet.
    #[serde(default)]
    pub(crate) waits: bool,
    pub(crate) nonce: String,
    pub(crate) epoch: u64,
    /// `None`: not spawned yet, or the server died in between.
    pub(crate) pid: Option<u32>,
    /// Clock ticks since boot, as `/proc/PID/stat` has it.
    pub(crate) start_time: Option<u64>,
}

/// A worker that an earlier server left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Of which model; empty: it was only looking into a file, or waited for a model.
    pub model: String,
    /// Its process.
    pub pid: u32,
    /// Private bytes that it held.
    pub bytes: u64,
    /// Whether it is gone now. If not, the next start tries again.
    pub gone: bool,
}

/// The locked run folder. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Takes the folder for this server; makes it when it is not there.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path.join("intents")).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                drop(lock.read_to_string(&mut holder));
                let holder = holder.trim().parse().ok();
                if !(holder.is_some_and(is_gone) && lets_go(&lock).map_err(failed)?) {
                    return Err(LockError::Held { holder, path: path.to_owned() });
                }
                lock.rewind().map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Writes a worker down, whole or not at all.
    pub(crate) fn record(&self, intent: &Intent) -> io::Result<()> {
        let path = self.intent_path(&intent.nonce);
        let new = path.with_extension("new");
        let written = fs::write(&new, serde_json::to_vec(intent)?).and_then(|()| fs::rename(&new, path));
        // On a full disk there is a file without contents.
        written.inspect_err(|_| drop(fs::remove_file(new)))
    }

    /// Strikes a worker out.
    pub(crate) fn erase(&self, nonce: &str) {
        // One that stays by accident names a process that is gone, and the next start strikes it out.
        drop(fs::remove_file(self.intent_path(nonce)));
    }

    fn intent_path(&self, nonce: &str) -> PathBuf {
        self.path.join("intents").join(format!("{nonce}.json"))
    }

    fn intents(&self) -> Vec<(PathBuf, Option<Intent>)> {
        let Ok(entries) = fs::read_dir(self.path.join("intents")) else { return Vec::new() };
        let read = |path: PathBuf| {
            let intent = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            (path, intent)
        };
        entries.flatten().map(|entry| read(entry.path())).collect()
    }
}

fn is_gone(pid: u32) -> bool {
    procfs::stat(pid).is_none_or(|stat| stat.is_zombie)
}

/// A server that was killed in the middle of a spawn leaves a copy of itself that is on its way out, and has the lock
/// until it is there. Whether it let go in time.
fn lets_go(lock: &File) -> io::Result<bool> {
    let (same, (done, waited)) = (lock.try_clone()?, mpsc::channel());
    thread::Builder::new().name("lock".into()).spawn(move || {
        // Nobody hears it that comes too late, and then this process is about to end.
        let _ = done.send(flock(&same, FlockOperation::LockExclusive));
    })?;
    Ok(matches!(waited.recv_timeout(LET_GO), Ok(Ok(()))))
}

/// Ends what an earlier server left behind, workers and what they had started, and says what that was. Call it once at the
/// start, before any spawn; it blocks for as long as all of them together take to go, at most 8 s.
pub fn reclaim(run: &RunDir) -> Vec<Reclaimed> {
    let found: Vec<(PathBuf, Vec<LeftOver>)> = run
        .intents()
        .into_iter()
        .map(|(path, intent)| (path, intent.map(|intent| left_over(&intent)).unwrap_or_default()))
        .collect();
    // Each of them has its signal before the first is waited for.
    let until = Instant::now() + RECLAIM_WAIT;
    let mut told = Vec::new();
    for (path, processes) in found {
        let before = told.len();
        told.extend(processes.into_iter().map(|one| one.gone_by(until)));
        if told[before..].iter().all(|one| one.gone) {
            drop(fs::remove_file(path));
        }
    }
    told
}

/// A process that was told to end.
struct LeftOver {
    told: Reclaimed,
    process: rustix::fd::OwnedFd,
}

impl LeftOver {
    fn gone_by(self, until: Instant) -> Reclaimed {
        let gone = wait_for_end(&self.process, until.saturating_duration_since(Instant::now()));
        Reclaimed { gone, ..self.told }
    }
}

/// Everybody who belongs to a record, each with SIGKILL on its way.
fn left_over(intent: &Intent) -> Vec<LeftOver> {
    let assignment = {
        let (name, value) = mark(&intent.nonce);
        format!("{name}={value}")
    };
    let is_worker = |pid: u32| {
        let same = match (intent.pid, intent.start_time) {
            (None, _) => true,
            (Some(worker), None) => worker == pid,
            (Some(worker), Some(start)) => {
                worker == pid && procfs::stat(pid).is_some_and(|stat| stat.start_time == start)
            }
        };
        same && procfs::has_argument(pid, &intent.nonce)
    };
    // What a worker starts inherits its mark.
    let is_it = |pid: u32| is_worker(pid) || procfs::has_variable(pid, &assignment);
    let found = procfs::pids().into_iter().filter(|&pid| is_it(pid)).collect::<Vec<_>>();
    found.into_iter().filter_map(|pid| kill(pid, &intent.model, is_it)).collect()
}

/// Looks once more through the descriptor, which cannot come to mean another process, before it kills.
fn kill(pid: u32, model: &str, is_it: impl Fn(u32) -> bool) -> Option<LeftOver> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let process = pidfd_open(raw, PidfdFlags::empty()).ok()?;
    if !is_it(pid) {
        return None;
    }
    let bytes = procfs::private_bytes(pid).unwrap_or(0);
    let _ = pidfd_send_signal(&process, Signal::KILL);
    Some(LeftOver { told: Reclaimed { model: model.to_owned(), pid, bytes, gone: false }, process })
}

/// Whether a process ended within this time.
pub(crate) fn wait_for_end(process: &rustix::fd::OwnedFd, most: Duration) -> bool {
    let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&most)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_second_lock_says_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::lock(folder.path()).unwrap();
        let second = RunDir::lock(folder.path()).unwrap_err();
        let me = std::process::id();
        assert!(matches!(second, LockError::Held { holder: Some(pid), .. } if pid == me));
        assert!(second.to_string().contains(&format!("process {me}")), "{second}");
        drop(first);
    }

    #[test]
    fn a_lock_that_a_dead_servers_copy_still_has_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunDir::lock(folder.path()).unwrap());
        let mut dead = sleeper("a server");
        dead.kill().unwrap();
        dead.wait().unwrap();
        fs::write(folder.path().join("lock"), format!("{}\n", dead.id())).unwrap();
        let copy = File::open(folder.path().join("lock")).unwrap();
        flock(&copy, FlockOperation::LockExclusive).unwrap();
        let waiting = thread::spawn({
            let path = folder.path().to_owned();
            move || RunDir::lock(&path).map(drop)
        });
        thread::park_timeout(Duration::from_millis(100));
        drop(copy);
        waiting.join().unwrap().unwrap();
        let written = fs::read_to_string(folder.path().join("lock")).unwrap();
        assert_eq!(written.trim(), std::process::id().to_string());
        // One that does not let go is told all the same.
        fs::write(folder.path().join("lock"), format!("{}\n", dead.id())).unwrap();
        let copy = File::open(folder.path().join("lock")).unwrap();
        flock(&copy, FlockOperation::LockExclusive).unwrap();
        assert!(matches!(RunDir::lock(folder.path()), Err(LockError::Held { .. })));
    }

    fn sleeper(nonce: &str) -> std::process::Child {
        // The nonce stands in the arguments, as it does for a worker. The shell itself waits, so that nobody is left of it.
        let shell =
            Command::new("sh").args(["-c", "read -r word", nonce]).stdin(Stdio::piped()).spawn().unwrap();
        // The system gives a process its arguments a moment after its program.
        while !procfs::has_argument(shell.id(), nonce) {
            thread::yield_now();
        }
        shell
    }

    fn intent(nonce: &str, pid: Option<u32>, start_time: Option<u64>) -> Intent {
        Intent { model: "smollm2".into(), waits: false, nonce: nonce.into(), epoch: 3, pid, start_time }
    }

    #[test]
    fn a_left_over_on_record_is_ended_and_told_and_struck_out() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::lock(folder.path()).unwrap();
        let mut known = sleeper("nonce-known");
        let mut unknown = sleeper("nonce-unknown");
        let start = procfs::stat(known.id()).unwrap().start_time;
        run.record(&intent("nonce-known", Some(known.id()), Some(start))).unwrap();
        run.record(&intent("nonce-unknown", None, None)).unwrap();
        let mut told: Vec<u32> = reclaim(&run)
            .into_iter()
            .map(|one| {
                assert!(one.gone && one.model == "smollm2", "{one:?}");
                one.pid
            })
            .collect();
        told.sort_unstable();
        let mut expected = [known.id(), unknown.id()];
        expected.sort_unstable();
        assert_eq!(told, expected);
        assert!(!known.wait().unwrap().success() && !unknown.wait().unwrap().success());
        assert!(reclaim(&run).is_empty(), "it is struck out");
    }

    #[test]
    fn what_a_left_over_had_started_is_ended_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::lock(folder.path()).unwrap();
        let (name, value) = mark("nonce-parent");
        // Its worker is gone; nothing but the environment says whose it was.
        let mut child = Command::new("sh")
            .args(["-c", "read -r word"])
            .env(name, value)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        while !procfs::has_variable(child.id(), "INNKEEPER_WORKER=nonce-parent") {
            thread::yield_now();
        }
        run.record(&intent("nonce-parent", Some(u32::MAX >> 1), Some(1))).unwrap();
        let told = reclaim(&run);
        assert_eq!(told.iter().map(|one| (one.pid, one.gone)).collect::<Vec<_>>(), [(child.id(), true)]);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_stranger_who_got_the_same_pid_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::lock(folder.path()).unwrap();
        let mut stranger = sleeper("somebody-else");
        let start = procfs::stat(stranger.id()).unwrap().start_time;
        run.record(&intent("nonce-a", Some(stranger.id()), Some(start))).unwrap();
        run.record(&intent("somebody-else", Some(stranger.id()), Some(start + 1))).unwrap();
        assert_eq!(reclaim(&run), []);
        assert!(stranger.try_wait().unwrap().is_none(), "it lives");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

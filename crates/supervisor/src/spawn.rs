//! Starts worker processes, all from one thread that never ends: PR_SET_PDEATHSIG kills a child when the THREAD that
//! forked it ends, and a runtime's threads come and go.

use std::{
    collections::HashSet,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, setrlimit,
    },
    thread::set_no_new_privs,
};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    process::reap,
    procfs,
    run_dir::{Intent, RunDir, wait_for_end},
};

/// Where a worker finds its channel.
const CHANNEL: RawFd = 3;

/// Orders that may wait for the spawner.
const ORDERS: usize = 64;

/// For a spawn, which takes milliseconds; a disk that stands can hold it.
const SPAWN: Duration = Duration::from_secs(10);
/// For the end of a worker that nobody waits for any more.
const UNWANTED: Duration = Duration::from_secs(1);
/// A spawn that is not wanted any more comes to its own end in so long, or is held up.
const GRACE: Duration = Duration::from_secs(1);
/// Between the two looks that tell a copy of this process that is held up from one that is on its way.
const HELD: Duration = Duration::from_millis(500);

/// Variables that a worker gets from the server's own environment; all others are taken away.
const INHERITED: [&str; 3] = ["RUST_BACKTRACE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"];

/// The program that workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProgram {
    /// The file. `/proc/self/exe` survives an upgrade of the file on disk.
    pub path: PathBuf,
    /// What comes before the worker's own arguments: `worker`.
    pub args: Vec<String>,
}

impl WorkerProgram {
    /// This very program, called as `innkeeper worker ...`.
    pub fn this() -> Self {
        Self { path: "/proc/self/exe".into(), args: vec!["worker".into()] }
    }
}

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: UnixStream,
    pub(crate) stderr: OwnedFd,
}

struct Order {
    intent: Intent,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

/// The thread's door. The thread ends when the last one is gone, and takes its children along.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    orders: mpsc::SyncSender<Order>,
}

impl Spawner {
    pub(crate) fn start(program: WorkerProgram, threads: u32, run: Arc<RunDir>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel::<Order>(ORDERS);
        // Takes the number of the channel if nobody has it, so that what the standard library opens for a spawn never
        // gets it and is not replaced in the child.
        let lowest = fs::File::open("/dev/null")?;
        thread::Builder::new().name("spawner".into()).spawn(move || {
            let _lowest = lowest;
            for Order { intent, reply } in inbox {
                let nonce = intent.nonce.clone();
                if let Err(Ok(unwanted)) = reply.send(spawn(&program, threads, &run, intent)) {
                    end_unwanted(&unwanted, &run, &nonce);
                }
            }
        })?;
        Ok(Self { orders })
    }

    /// Spawns a worker. Its record is on disk before, and stays until [`RunDir::erase`]. What is held between its fork and
    /// its exec holds everybody else's spawn too, so it is ended when its time is over, or soon after it is `given_up`.
    pub(crate) async fn spawn(
        &self,
        intent: Intent,
        given_up: impl Future<Output = ()>,
    ) -> io::Result<Spawned> {
        let (reply, mut replied) = oneshot::channel();
        let busy =
            |_| io::Error::new(io::ErrorKind::WouldBlock, "too many workers are being started at once");
        self.orders.try_send(Order { intent, reply }).map_err(busy)?;
        let gone = |_| io::Error::other("the thread that starts workers is gone");
        let given_up = async {
            given_up.await;
            sleep(GRACE).await;
        };
        let why = tokio::select! {
            biased;
            answer = &mut replied => return answer.map_err(gone)?,
            () = sleep(SPAWN) => "the system has not started it in 10 s",
            () = given_up => "the system had not started it when it was not wanted any more",
        };
        let before = unborn();
        sleep(HELD).await;
        // From here on what comes is ended by the thread that started it; what has come is handed out.
        replied.close();
        if let Ok(answer) = replied.try_recv() {
            return answer;
        }
        unborn().intersection(&before).copied().for_each(end);
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

/// Ends whatever is on its way from its fork to its program: nobody will be there to take it.
pub(crate) fn end_unborn() {
    unborn().into_iter().for_each(end);
}

/// Copies of this process that have not become another program yet.
fn unborn() -> HashSet<procfs::Key> {
    let ours = procfs::program(std::process::id());
    let alike = |(pid, _): &procfs::Key| ours.is_some() && procfs::program(*pid) == ours;
    procfs::children(std::process::id()).into_iter().filter(alike).collect()
}

fn end((pid, start_time): procfs::Key) {
    // The number may be another's by now; by the descriptor it is always the one that was looked at.
    let Some(pidfd) =
        Pid::from_raw(pid.cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return;
    };
    if procfs::stat(pid).is_some_and(|stat| stat.start_time == start_time) {
        tracing::warn!(pid, "a worker is held between its fork and its program, and is ended");
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// Whoever wanted it has gone, or has waited for too long.
fn end_unwanted(worker: &Spawned, run: &RunDir, nonce: &str) {
    let _ = pidfd_send_signal(&worker.pidfd, Signal::KILL);
    // The next spawn waits for this. One that cannot be killed stays on record, and is an orphan when it ends.
    if wait_for_end(&worker.pidfd, UNWANTED) {
        reap(&worker.pidfd);
        run.erase(nonce);
    }
}

/// The variable that marks a worker and whatever it starts.
pub(crate) fn mark(nonce: &str) -> (&'static str, String) {
    ("INNKEEPER_WORKER", nonce.to_owned())
}

fn spawn(program: &WorkerProgram, threads: u32, run: &RunDir, mut intent: Intent) -> io::Result<Spawned> {
    run.record(&intent)?;
    let spawned = start_process(program, threads, &intent).inspect_err(|_| run.erase(&intent.nonce))?;
    intent.pid = Some(spawned.pid);
    intent.start_time = procfs::stat(spawned.pid).map(|stat| stat.start_time);
    // A record without a pid still finds the process, by its nonce.
    drop(run.record(&intent));
    Ok(spawned)
}

/// The model as the system's list of processes shows it. One that waits for its model has room for any name there.
fn shown(intent: &Intent) -> String {
    const LONGEST_NAME: usize = 128;
    if intent.waits { format!("{:LONGEST_NAME$}", "(none yet)") } else { intent.model.clone() }
}

fn start_process(program: &WorkerProgram, threads: u32, intent: &Intent) -> io::Result<Spawned> {
    let (ours, theirs) = UnixStream::pair()?;
    let (mark, nonce) = mark(&intent.nonce);
    let mut command = Command::new(&program.path);
    command
        .arg0("innkeeper")
        .args(&program.args)
        .args(["--nonce", &intent.nonce, "--model", &shown(intent)])
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env(mark, nonce)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    confine_at_exec(&mut command, theirs.as_raw_fd());
    let mut child = command.spawn()?;
    drop(theirs);
    let pid = child.id();
    let stderr = child.stderr.take().map(OwnedFd::from);
    let pidfd = Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match (pidfd, stderr) {
        (Some(Ok(pidfd)), Some(stderr)) => Ok(Spawned { pid, pidfd, channel: ours, stderr }),
        (pidfd, _) => {
            // Nobody can have reaped it yet, so the pid is still its own.
            drop(child.kill());
            drop(child.wait());
            Err(pidfd
                .and_then(Result::err)
                .map_or_else(|| io::Error::other("a worker without stderr"), Into::into))
        }
    }
}

#[expect(unsafe_code, reason = "what a worker must not inherit can only be dropped between fork and exec")]
fn confine_at_exec(command: &mut Command, channel: RawFd) {
    let server = getpid();
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are allowed. It makes system
    // calls alone, through rustix (no libc state) and libc's bare wrappers; it allocates nothing, takes no lock, and
    // touches nothing but the two integers that it captured.
    unsafe { command.pre_exec(move || in_child(server, channel)) };
}

/// Between fork and exec. System calls alone; an error makes the spawn fail with it.
fn in_child(server: Pid, channel: RawFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Had the server died before that call, nobody would ever kill us.
    if getppid() != Some(server) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_no_new_privs(true)?;
    prefer_in_oom();
    signals_to_default()?;
    keep_only(channel)
}

/// When memory runs out, the kernel takes a worker rather than the server. Where `/proc` is read-only it stays undone.
fn prefer_in_oom() {
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty()) {
        let _ = rustix::io::write(&file, b"500");
    }
}

/// SIGTERM ends a worker at once, without destructors, as it does by default; an ignored or blocked one would not.
#[expect(unsafe_code, reason = "signal dispositions survive exec and can be reset nowhere else")]
fn signals_to_default() -> io::Result<()> {
    // SAFETY: `signal` and `sigprocmask` are async-signal-safe; the set is a local value that `sigemptyset` has
    // initialised before it is read.
    let done = unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::signal(libc::SIGTERM, libc::SIG_DFL) != libc::SIG_ERR
            && libc::sigemptyset(&raw mut none) == 0
            && libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Everything but stdin, stdout, stderr and the channel closes at exec; the channel becomes number 3.
#[expect(unsafe_code, reason = "descriptors by number, between fork and exec")]
fn keep_only(channel: RawFd) -> io::Result<()> {
    // SAFETY: bare system calls on numbers. `close_range` only sets a flag, so that the standard library's own pipe to
    // the parent works until exec. The channel's number is open: its owner in the parent outlives the fork. Number 3,
    // if open, belongs to a copy of the parent's table that exec would close anyway.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, CHANNEL + 1, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0
            && if channel == CHANNEL {
                libc::fcntl(CHANNEL, libc::F_SETFD, 0) == 0
            } else {
                libc::dup2(channel, CHANNEL) == CHANNEL
            }
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A word that nobody else uses: names one spawn for good.
pub(crate) fn new_nonce() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::process::Death;

    /// A worker that ends when its channel does: a shell that reads descriptor 3.
    fn reader() -> WorkerProgram {
        WorkerProgram { path: "/bin/sh".into(), args: vec!["-c".into(), "exec cat <&3".into()] }
    }

    fn intent(nonce: &str) -> Intent {
        Intent {
            model: "model".into(),
            waits: false,
            nonce: nonce.into(),
            epoch: 1,
            pid: None,
            start_time: None,
        }
    }

    #[tokio::test]
    async fn a_worker_sees_its_channel_close_while_another_lives() {
        let folder = tempfile::tempdir().unwrap();
        let run = Arc::new(RunDir::lock(folder.path()).unwrap());
        let spawner = Spawner::start(reader(), 1, run).unwrap();
        let first = spawner.spawn(intent("first"), pending()).await.unwrap();
        let second = spawner.spawn(intent("second"), pending()).await.unwrap();
        // Had the second inherited the first one's channel, in whichever direction, it would stay open.
        drop(first.channel);
        assert!(wait_for_end(&first.pidfd, Duration::from_secs(5)), "the first did not see it");
        assert_eq!(reap(&first.pidfd), Death::Exited(0));
        assert!(!wait_for_end(&second.pidfd, Duration::ZERO), "the second lives");
        drop(second.channel);
        assert!(wait_for_end(&second.pidfd, Duration::from_secs(5)));
        assert_eq!(reap(&second.pidfd), Death::Exited(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spawn_that_does_not_come_about_is_an_error_and_no_wait_for_ever() {
        let (orders, _nobody_takes_them) = mpsc::sync_channel(ORDERS);
        let error = Spawner { orders }.spawn(intent("any"), pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_worker_that_nobody_waits_for_any_more_is_ended_and_struck_out() {
        let folder = tempfile::tempdir().unwrap();
        let run = Arc::new(RunDir::lock(folder.path()).unwrap());
        let spawner = Spawner::start(reader(), 1, run).unwrap();
        let (reply, replied) = oneshot::channel();
        drop(replied);
        spawner.orders.send(Order { intent: intent("unwanted"), reply }).unwrap();
        // Orders are carried out one after another.
        let wanted = spawner.spawn(intent("wanted"), pending()).await.unwrap();
        let left: Vec<_> = fs::read_dir(folder.path().join("intents")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].file_name().to_string_lossy().starts_with("wanted"));
        drop(wanted.channel);
        assert!(wait_for_end(&wanted.pidfd, Duration::from_secs(5)));
        reap(&wanted.pidfd);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_and_leaves_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let run = Arc::new(RunDir::lock(folder.path()).unwrap());
        let program = WorkerProgram { path: folder.path().join("nowhere"), args: Vec::new() };
        let error =
            Spawner::start(program, 1, run).unwrap().spawn(intent("any"), pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(folder.path().join("intents")).unwrap().count(), 0);
    }
}

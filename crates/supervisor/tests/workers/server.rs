//! A server in a process of its own, to be killed: whatever happens to it, no worker may be left.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use manager::ports::News;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use supervisor::{RunDir, reclaim};
use tokio::time::Instant;

use crate::rig::{Rig, children, children_of, program, run, runs, until};

/// `@server FOLDER PROGRAM FILE COUNT`: loads COUNT instances of a file with this text, each in this program, says
/// `worker PID` of each, then waits.
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let mut next = || args.next().unwrap();
    let (folder, worker) = (PathBuf::from(next()), next());
    let (text, count) = (next(), next().parse::<u32>().unwrap());
    let folder_name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    run(async move {
        let folder = tempfile::Builder::new().prefix("server").tempdir_in(folder).unwrap();
        let program = program(&worker.split(' ').collect::<Vec<_>>());
        let mut rig = Rig::in_folder(folder, program, true);
        // Named after the folder, so that a worker can be found by it.
        let model = folder_name;
        rig.put(&model, &text);
        for _ in 0..count {
            let epoch = rig.start(&model);
            if text.contains("slow") {
                let pid = rig.spawned(epoch).await;
                // In the middle of it.
                rig.news(epoch, |news| matches!(news, News::Progress(_)).then_some(())).await;
                println!("worker {pid}");
            } else {
                let (_, facts) = rig.ready(epoch).await;
                println!("worker {}", facts.pid);
            }
        }
        if !text.contains("slow") {
            // One that waits goes the same way.
            let mut spare = rig.supervisor.spare();
            spare.wait_for(Option::is_some).await.unwrap();
        }
        println!("all");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

struct Server {
    process: Child,
    workers: HashSet<u32>,
    folder: tempfile::TempDir,
}

fn start(folder: &Path, worker: &str, text: &str, count: u32) -> Child {
    Command::new("/proc/self/exe")
        .args(["@server".as_ref(), folder.as_os_str()])
        .args([worker, text, &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn server(worker: &str, text: &str, count: u32) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(folder.path(), worker, text, count);
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let workers = lines
        .map(|line| line.unwrap())
        .take_while(|line| line != "all")
        .filter_map(|line| line.strip_prefix("worker ")?.parse().ok())
        .collect::<HashSet<u32>>();
    assert_eq!(workers.len(), count as usize);
    let workers = &workers | &children_of(process.id());
    assert!(workers.iter().all(|&pid| runs(pid)));
    Server { process, workers, folder }
}

impl Server {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Kills it, and gives its workers a second.
    async fn kill(mut self) -> tempfile::TempDir {
        let begin = Instant::now();
        self.signal(Signal::KILL);
        self.process.wait().unwrap();
        until("the workers to end", || !self.workers.iter().any(|&pid| runs(pid))).await;
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(1), "they took {took:?}");
        self.folder
    }
}

pub(crate) fn a_killed_server_takes_its_workers_along() {
    run(async {
        let folder = server("@worker", "ballast 32", 3).kill().await;
        // The next start finds what stands on record, and nobody to end.
        let old = std::fs::read_dir(folder.path()).unwrap().flatten().next().unwrap().path().join("run");
        assert_eq!(std::fs::read_dir(old.join("intents")).unwrap().count(), 4, "with the one that waited");
        assert_eq!(reclaim(&RunDir::lock(&old).unwrap()), []);
        assert_eq!(std::fs::read_dir(old.join("intents")).unwrap().count(), 0);
    });
}

pub(crate) fn a_server_killed_during_loads_takes_its_workers_along() {
    run(async {
        drop(server("@worker", "ballast 1 slow", 3).kill().await);
    });
}

/// Whether any process, forked or risen, has to do with this folder.
fn anybody_in(folder: &Path) -> bool {
    let name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.').as_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).any(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        runs(pid) && arguments.windows(name.len()).any(|part| part == name)
    })
}

pub(crate) fn a_server_killed_at_any_moment_of_its_start_leaves_nobody() {
    run(async {
        // Whoever loses its server becomes ours, named or not.
        set_child_subreaper(Some(getpid())).unwrap();
        // A machine may stand still for a second, once.
        let mut late = Vec::new();
        // Before the first fork, between fork and exec, before the hello, in the load, after it.
        for round in 0..40 {
            let folder = tempfile::tempdir().unwrap();
            let mut process = start(folder.path(), "@worker", "ballast 8", 3);
            tokio::time::sleep(Duration::from_micros(round * 1500)).await;
            process.kill().unwrap();
            let begin = Instant::now();
            process.wait().unwrap();
            let anybody = || anybody_in(folder.path()) || children().into_iter().any(runs);
            until("everybody to end", || !anybody()).await;
            late.extend(Some((round, begin.elapsed())).filter(|(_, took)| *took >= Duration::from_secs(1)));
        }
        assert!(late.len() <= 1, "{late:?}");
    });
}

pub(crate) fn a_worker_ends_with_its_channel_alone() {
    // The signal that comes with the parent's death is taken off, so that the channel alone is left.
    run(async {
        drop(server("@orphan", "ballast 1", 1).kill().await);
    });
}

pub(crate) fn a_worker_that_does_not_look_at_its_channel_dies_with_its_server() {
    // The signal that comes with the parent's death alone is left.
    run(async {
        drop(server("@impostor deaf", "ballast 1", 2).kill().await);
    });
}

pub(crate) fn a_server_that_is_stopped_and_goes_on_loses_nobody() {
    run(async {
        let server = server("@worker", "ballast 1", 2);
        server.signal(Signal::STOP);
        // Longer than the pings of a server that goes on counting would allow.
        tokio::time::sleep(Duration::from_secs(7)).await;
        server.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(server.workers.iter().all(|&pid| runs(pid)));
        drop(server.kill().await);
    });
}

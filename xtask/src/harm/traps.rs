//! Two traps of the system: the signal that comes when a parent's THREAD ends, and a descriptor that a sibling inherits.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};

use super::{
    Ground,
    inn::{Inn, Shelf},
    processes::{self, runs, until},
    report::{Figures, Outcome},
};

pub(super) fn traps(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let shelf =
        Shelf::new(&[("one", Counting::new(0)), ("two", Counting::new(1)), ("three", Counting::new(2))])?;
    let inn = Inn::open(ground, &shelf)?;
    let workers = [inn.load("one")?, inn.load("two")?];
    let mut seen = sockets(inn.pid());
    for &worker in &workers {
        let its = sockets(worker);
        ensure!(its.len() == 1, "a worker has {} sockets", its.len());
        ensure!(seen.is_disjoint(&its), "a worker shares a socket");
        seen.extend(its);
        let open = processes::descriptors(worker);
        ensure!(open <= 16, "a worker has {open} descriptors");
        let status = fs::read_to_string(format!("/proc/{worker}/status"))?;
        ensure!(
            status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
            "a worker is not confined"
        );
        let sandbox = inn.model("one")?["instances"][0]["sandbox"].clone();
        ensure!(!sandbox.as_str().unwrap_or("NOT").contains("NOT"), "the sandbox is not whole: {sandbox}");
    }
    // One closes; the other must not keep it open.
    let (_, receipt) = inn.verb("unload", "model=one")?;
    ensure!(receipt["method"] == "exit", "it did not see its channel close: {receipt}");
    // Threads of the runtime come and go; whoever asked for a worker may be among them.
    for _ in 0..20 {
        inn.verb("load", "model=three")?;
        inn.verb("unload", "model=three")?;
    }
    let before = threads(inn.pid());
    let most = Duration::from_secs(ground.amount(12, 60));
    let went = until("a thread to end", most, || !before.is_subset(&threads(inn.pid())));
    ensure!(runs(workers[1]), "a thread's end took a worker along");
    ensure!(inn.worker("two")? == workers[1], "the worker was replaced");
    Figures::default()
        .with("sockets_shared", 0)
        .with("threads_ended_meanwhile", if went.is_ok() { "yes" } else { "none did" })
        .held()
}

fn threads(pid: u32) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn sockets(pid: u32) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned()));
    targets.filter(|target| target.starts_with("socket:")).collect()
}

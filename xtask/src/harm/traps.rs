//! Two traps of the system: the signal that comes when a parent's THREAD ends, and a descriptor that a sibling inherits.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::{self, runs, until},
    report::{Figures, Outcome},
};

pub(super) fn traps(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let shelf = Shelf::new(&[("one", Counting::new(0)), ("two", Counting::new(1))])?;
    let inn = Inn::open(ground, &shelf)?;
    let names = ["one", "two"];
    let workers = [inn.load(names[0])?, inn.load(names[1])?];
    let mut seen = sockets(inn.pid());
    for (name, worker) in names.into_iter().zip(workers) {
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
        let sandbox = inn.model(name)?["instances"][0]["sandbox"].clone();
        let whole =
            sandbox.as_str().is_some_and(|words| words.contains("no programs") && !words.contains("NOT"));
        ensure!(whole, "the sandbox of {name} is not whole: {sandbox}");
    }
    // One closes; the other must not keep it open.
    let (_, receipt) = inn.verb("unload", "model=one")?;
    ensure!(receipt["method"] == "exit", "it did not see its channel close: {receipt}");
    ensure!(runs(workers[1]) && inn.worker("two")? == workers[1], "its end took another worker along");
    Figures::default()
        .with("workers", workers.len())
        .with("sockets_shared", 0)
        .with("sandboxes", "whole")
        .held()
}

/// The signal that comes with a parent's death comes with the death of the THREAD that forked. Threads of the runtime that
/// have had nothing to do for ten seconds end; whoever asked for a worker may be among them.
pub(super) fn threads(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (one, two) = (Counting::new(0), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let workers = [inn.load("one")?, inn.load("two")?];
    let before = threads_of(inn.pid());
    // Something is to be done every second, so that hardly a thread rests for so long, unless all of them do.
    processes::stand(inn.pid())?;
    processes::pause(11_000);
    inn.signal(Signal::CONT)?;
    let ended = || before.difference(&threads_of(inn.pid())).count();
    if until("threads to end", Duration::from_secs(5), || ended() > 0).is_err() {
        return Ok(Outcome::Skipped(format!("none of {} threads ended, so it was not sprung", before.len())));
    }
    // Long enough for a worker that was killed to be missed.
    processes::pause(2000);
    ensure!(workers.iter().all(|&worker| runs(worker)), "a thread's end took a worker along");
    ensure!(workers == [inn.worker("one")?, inn.worker("two")?], "a worker was replaced");
    for (name, model) in [("one", one), ("two", two)] {
        let heard = clients::chat(inn.port, name, model, 1, 20, |_| {});
        ensure!(heard.end == End::Done("length".into()), "{name}: {heard:?}");
    }
    Figures::default().with("threads_ended", ended()).with("of", before.len()).with("workers_lost", 0).held()
}

fn threads_of(pid: u32) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn sockets(pid: u32) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned()));
    targets.filter(|target| target.starts_with("socket:")).collect()
}

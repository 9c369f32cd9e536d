//! SIGSTOP: of a worker in the middle of an answer, of a worker that is to go, of the server.

use std::{fs, path::PathBuf, sync::mpsc::channel, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::{self, runs},
    report::{Figures, Outcome, ms, now},
};

pub(super) fn stills(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (one, two) = (Counting::new(0), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let given_up = stopped_worker(&inn, one, two)?;
    let ladder = deaf_worker(&inn)?;
    let stuck = match Freezer::new() {
        Some(freezer) => frozen_worker(&inn, two, &freezer)?,
        None => "skipped: no control group v1 freezer".to_owned(),
    };
    stopped_server(&inn, two)?;
    Figures::default()
        .with("stopped_worker_given_up_ms", ms(given_up))
        .with("ladder_of_a_deaf_worker_ms", ms(ladder))
        .with("stuck", stuck)
        .with("server_stopped_for_7_s_lost_workers", 0)
        .held()
}

/// An answer whose worker stands ends with a sentence; another model answers meanwhile.
fn stopped_worker(inn: &Inn, one: Counting, two: Counting) -> Result<Duration> {
    let worker = inn.load("one")?;
    let port = inn.port;
    let (begun, first) = channel();
    let answer =
        thread::spawn(move || clients::chat(port, "one", one, 0, 3500, |_| begun.send(()).unwrap_or(())));
    first.recv_timeout(Duration::from_secs(10)).context("no first token")?;
    processes::signal(worker, Signal::STOP)?;
    let began = now();
    let other = clients::chat(port, "two", two, 1, 200, |_| {});
    ensure!(
        other.fault(two, 1, 200).is_none() && other.end == End::Done("length".into()),
        "another model: {other:?}"
    );
    let heard = answer.join().map_err(|_| anyhow::anyhow!("the client broke"))?;
    let took = began.elapsed();
    if let Some(fault) = heard.fault(one, 0, 3500) {
        anyhow::bail!("{fault}");
    }
    // It may have ended just before the stop; then it was quicker than this test.
    let done = matches!(heard.end, End::Done(_));
    ensure!(done || heard.end == End::Error("worker_died".into()), "it ended with {:?}", heard.end);
    inn.until_state("one", "failed", Duration::from_secs(12))
        .or_else(|why| if done { Ok(took) } else { Err(why) })?;
    ensure!(!runs(worker), "the stopped worker is still there");
    Ok(took)
}

/// Shutdown and SIGTERM do not reach it; SIGKILL does.
fn deaf_worker(inn: &Inn) -> Result<Duration> {
    // A crash earlier on may have left a back-off.
    inn.verb("reload", "model=one")?;
    inn.until_state("one", "ready", Duration::from_secs(10))?;
    let worker = inn.worker("one")?;
    processes::signal(worker, Signal::STOP)?;
    processes::until("it to stand", Duration::from_secs(1), || processes::state(worker) == Some('T'))?;
    let began = now();
    let (status, receipt) = inn.verb("unload", "model=one&force=true")?;
    let took = began.elapsed();
    ensure!(status == 200 && receipt["method"] == "killed", "worker {worker} stood; {status}: {receipt}");
    ensure!(took <= Duration::from_secs(13), "the ladder took {took:?}");
    ensure!(!runs(worker), "it is still there");
    Ok(took)
}

/// What a process in the hands of a broken driver looks like: even SIGKILL waits.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/freezer/innkeeper-harm-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        folder.join("freezer.state").exists().then_some(Self(folder))
    }

    fn say(&self, file: &str, word: &str) -> Result<()> {
        fs::write(self.0.join(file), word).context("the freezer does not obey")
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(self.say("freezer.state", "THAWED"));
        // Empty only once what was in it has died.
        drop(processes::until("an empty freezer", Duration::from_secs(2), || {
            fs::remove_dir(&self.0).is_ok()
        }));
    }
}

fn frozen_worker(inn: &Inn, two: Counting, freezer: &Freezer) -> Result<String> {
    let worker = inn.load("one")?;
    freezer.say("cgroup.procs", &worker.to_string())?;
    freezer.say("freezer.state", "FROZEN")?;
    let (port, began) = (inn.port, now());
    let unload = thread::spawn(move || {
        let form = Some(("application/x-www-form-urlencoded", "model=one&force=true"));
        super::http::ask(port, "POST", "/manage/unload", form)
    });
    inn.until_state("one", "stuck", Duration::from_secs(15))?;
    let took = began.elapsed();
    ensure!(took <= Duration::from_millis(13_500), "stuck after {took:?}");
    let (_, snapshot) = inn.get("/manage/snapshot")?;
    let reserved = snapshot["budget"]["ram_reserved_bytes"].as_u64().unwrap_or(0);
    ensure!(reserved > 0, "its reservation is gone while it lives");
    let other = clients::chat(port, "two", two, 2, 100, |_| {});
    ensure!(other.end == End::Done("length".into()), "another model: {other:?}");
    freezer.say("freezer.state", "THAWED")?;
    inn.until_state("one", "unloaded", Duration::from_secs(5))?;
    drop(unload.join());
    Ok(format!("shown after {} ms, reservation kept, freed when it went", ms(took)))
}

/// A server that stood for longer than its pings allow accuses nobody.
fn stopped_server(inn: &Inn, two: Counting) -> Result<()> {
    let workers = [inn.load("one")?, inn.load("two")?];
    inn.signal(Signal::STOP)?;
    thread::park_timeout(Duration::from_secs(7));
    inn.signal(Signal::CONT)?;
    thread::park_timeout(Duration::from_secs(2));
    ensure!(workers.iter().all(|&pid| runs(pid)), "a worker was lost");
    ensure!(workers == [inn.worker("one")?, inn.worker("two")?], "a worker was replaced");
    let heard = clients::chat(inn.port, "two", two, 3, 50, |_| {});
    ensure!(heard.end == End::Done("length".into()), "{heard:?}");
    Ok(())
}

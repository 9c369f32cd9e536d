//! Workers that not even SIGKILL ends: what a process in the hands of a broken driver looks like. A control group v1
//! freezer makes them; without one, nothing here can be tried.

use std::{fs, sync::mpsc::channel, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    groups::Freezer,
    http,
    inn::{Inn, Shelf, tail},
    processes::{now, runs, until},
    report::{Figures, Outcome, ms},
};

fn skipped() -> Result<Outcome> {
    Ok(Outcome::Skipped(
        "no control group v1 freezer, which stands in for a process that cannot be killed".to_owned(),
    ))
}

/// The ladder to its end, and a stop that meets such a worker.
pub(super) fn stuck(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let Some(freezer) = Freezer::new() else { return skipped() };
    let (one, two) = (Counting::new(0).with_layers(60), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let shown = becomes_stuck(&inn, two, &freezer)?;
    freezer.thaw()?;
    inn.until_state("one", "unloaded", Duration::from_secs(5))?;
    drop(inn);
    let stops = ground.amount(vec![Meets::Answering], vec![Meets::Answering, Meets::Idle, Meets::Stuck]);
    let mut longest = Duration::ZERO;
    for meets in stops {
        let took =
            stop(ground, &shelf, &freezer, one, meets).with_context(|| format!("a stop, {meets:?}"))?;
        longest = longest.max(took);
    }
    Figures::default()
        .with("shown_after_ms", ms(shown))
        .with("reservation", "kept, and freed when it went")
        .with("stop_max_ms", ms(longest))
        .with("named_by_the_stop", "yes, and no clean exit code")
        .held()
}

fn becomes_stuck(inn: &Inn, two: Counting, freezer: &Freezer) -> Result<Duration> {
    let worker = inn.load("one")?;
    freezer.freeze(worker)?;
    let (port, began) = (inn.port, now());
    let unload = thread::spawn(move || {
        let form = Some(("application/x-www-form-urlencoded", "model=one&force=true"));
        http::ask(port, "POST", "/manage/unload", form)
    });
    inn.until_state("one", "stuck", Duration::from_secs(15))?;
    let took = began.elapsed();
    ensure!(took <= Duration::from_millis(13_500), "stuck after {took:?}");
    let shown = inn.worker("one")?;
    ensure!(shown == worker, "the page names process {shown} instead of {worker}");
    let (_, snapshot) = inn.get("/manage/snapshot")?;
    let reserved = snapshot["budget"]["ram_reserved_bytes"].as_u64().unwrap_or(0);
    ensure!(reserved > 0, "its reservation is gone while it lives");
    let other = clients::chat(port, "two", two, 2, 100, |_| {});
    ensure!(other.end == End::Done("length".into()), "another model: {other:?}");
    // It is heard once the worker has thawed; nobody needs to wait for that here.
    drop(unload);
    Ok(took)
}

/// In which state the stop meets the worker.
#[derive(Clone, Copy, Debug)]
enum Meets {
    Answering,
    Idle,
    Stuck,
}

fn stop(
    ground: &Ground<'_>,
    shelf: &Shelf,
    freezer: &Freezer,
    one: Counting,
    meets: Meets,
) -> Result<Duration> {
    let mut inn = Inn::open(ground, shelf)?;
    inn.is_empty(shelf)?;
    let worker = inn.load("one")?;
    if matches!(meets, Meets::Answering) {
        let (port, (begun, first)) = (inn.port, channel());
        drop(thread::spawn(move || {
            clients::chat(port, "one", one, 0, 3500, |_| begun.send(()).unwrap_or(()))
        }));
        first.recv_timeout(Duration::from_secs(10)).context("no first token")?;
    }
    freezer.freeze(worker)?;
    if matches!(meets, Meets::Stuck) {
        let port = inn.port;
        drop(thread::spawn(move || {
            let form = Some(("application/x-www-form-urlencoded", "model=one&force=true"));
            http::ask(port, "POST", "/manage/unload", form)
        }));
        inn.until_state("one", "stuck", Duration::from_secs(15))?;
    }
    inn.signal(Signal::TERM)?;
    let (status, took) = inn.ended(Duration::from_secs(8)).with_context(|| tail(shelf))?;
    ensure!(took <= Duration::from_secs(8), "it took {took:?}");
    ensure!(status.code() == Some(1), "with a worker left, it ended with {status}");
    ensure!(
        shelf.log().contains(&format!("process {worker} could not be ended")),
        "it names nobody: {}",
        tail(shelf)
    );
    ensure!(runs(worker), "the worker went, so nothing was tried");
    freezer.thaw()?;
    shelf.deserted(now()).context("once it thawed")?;
    Ok(took)
}

/// A worker outlives a killed server because nothing can end it: the next server finds it, says so, and ends it.
pub(super) fn reclaim(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let Some(freezer) = Freezer::new() else { return skipped() };
    let shelf = Shelf::new(&[("one", Counting::new(0))])?;
    let inn = Inn::open(ground, &shelf)?;
    let worker = inn.load("one")?;
    freezer.freeze(worker)?;
    inn.kill_alone()?;
    ensure!(runs(worker), "the worker went, so nothing is left over");
    let began = now();
    let mut next = Inn::begin(ground, &shelf, 0, &[])?;
    let looks =
        until("the next server to look at it", Duration::from_secs(10), || watches(next.pid(), worker));
    freezer.thaw()?;
    looks?;
    next.until_it_serves(&shelf)?;
    let start = began.elapsed();
    ensure!(!runs(worker), "it is still there");
    let (_, page) = next.get("/manage/history?kind=reclaim")?;
    let event = &page["events"][0];
    let said = format!("process {worker} was ended");
    ensure!(
        event["model"] == "one"
            && event["detail"] == said.as_str()
            && event["bytes_before"].as_u64() > Some(0)
            && event["bytes_after"] == 0,
        "the ledger says {event}"
    );
    next.is_empty(&shelf)?;
    Figures::default()
        .with("start_ms", ms(start))
        .with("ledger", said.replace(&worker.to_string(), "..."))
        .held()
}

/// Whether a process has another's descriptor, by which it waits for its end.
fn watches(pid: u32, other: u32) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let wanted = format!("Pid:\t{other}");
    entries
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|text| text.lines().any(|line| line == wanted))
}

//! SIGSTOP: of a worker in the middle of an answer, of a worker that is to go, of the server.

use std::{sync::mpsc::channel, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::{self, now, pause, runs},
    report::{Figures, Outcome, ms},
};

pub(super) fn stills(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (one, two) = (Counting::new(0), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let given_up = stopped_worker(&inn, one, two)?;
    let ladder = deaf_worker(&inn)?;
    stopped_server(&inn, one, two)?;
    Figures::default()
        .with("stopped_worker_given_up_ms", ms(given_up))
        .with("ladder_of_a_deaf_worker_ms", ms(ladder))
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
    processes::stand(worker)?;
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
    processes::stand(worker)?;
    let began = now();
    let (status, receipt) = inn.verb("unload", "model=one&force=true")?;
    let took = began.elapsed();
    ensure!(status == 200 && receipt["method"] == "killed", "worker {worker} stood; {status}: {receipt}");
    ensure!(took <= Duration::from_secs(13), "the ladder took {took:?}");
    ensure!(!runs(worker), "it is still there");
    Ok(took)
}

/// A server that stood for longer than its pings allow accuses nobody.
fn stopped_server(inn: &Inn, one: Counting, two: Counting) -> Result<()> {
    let workers = [inn.load("one")?, inn.load("two")?];
    // One of them is in the middle of an answer, the other one idle.
    let (port, (begun, first)) = (inn.port, channel());
    let answer =
        thread::spawn(move || clients::chat(port, "one", one, 1, 3500, |_| begun.send(()).unwrap_or(())));
    first.recv_timeout(Duration::from_secs(10)).context("no first token")?;
    processes::stand(inn.pid())?;
    pause(7000);
    ensure!(processes::state(inn.pid()) == Some('T'), "it did not stand");
    inn.signal(Signal::CONT)?;
    let heard = answer.join().map_err(|_| anyhow::anyhow!("the client broke"))?;
    if let Some(fault) = heard.fault(one, 1, 3500) {
        anyhow::bail!("{fault}");
    }
    ensure!(heard.end == End::Done("length".into()), "its answer ended with {:?}", heard.end);
    // As many seconds as pings that may stay unanswered, and one more: whoever is to be accused is accused by then.
    pause(7000);
    ensure!(workers.iter().all(|&pid| runs(pid)), "a worker was lost");
    ensure!(workers == [inn.worker("one")?, inn.worker("two")?], "a worker was replaced");
    for name in ["one", "two"] {
        ensure!(inn.model(name)?["failure"].is_null(), "{name} was accused");
    }
    let heard = clients::chat(inn.port, "two", two, 3, 50, |_| {});
    ensure!(heard.end == End::Done("length".into()), "{heard:?}");
    Ok(())
}

//! Memory: a worker that has none left, and whether the server grows.

use std::time::Duration;

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::{Resource, Signal};

use super::{
    Ground,
    clients::{self, End},
    groups::Memory,
    inn::{Inn, Shelf},
    processes::{descriptors, limit, pause, private_bytes, runs, signal, threads, until},
    report::{Figures, Outcome},
};

/// A worker that may have no more memory fails alone, and says that it was memory.
pub(super) fn memory(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    // Many layers: the keys and values of an answer take megabytes.
    let (one, two) = (Counting::new(0).with_layers(200), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let (worker, server) = (inn.load("one")?, inn.pid());
    inn.load("two")?;
    limit(worker, Resource::Data, "Max data size", Some(1 << 20))?;
    let heard = clients::chat(inn.port, "one", one, 0, 3500, |_| {});
    ensure!(heard.fault(one, 0, 3500).is_none(), "what it said before was wrong: {heard:?}");
    let End::Error(code) = heard.end else { anyhow::bail!("it was not refused memory: {:?}", heard.end) };
    ensure!(code == "out_of_memory" || code == "insufficient_memory", "the reason given is {code}");
    let other = clients::chat(inn.port, "two", two, 1, 300, |_| {});
    ensure!(other.end == End::Done("length".into()), "another model: {other:?}");
    ensure!(inn.pid() == server, "another server");
    Figures::default().with("reason", code).with("other_model", "answered").held()
}

/// A group of processes whose memory ends: the kernel takes a worker, not the server, and the reason is told as what it is.
pub(super) fn oom(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let Some(memory) = Memory::new() else {
        return Ok(Outcome::Skipped("no control group with a limit on memory can be made here".to_owned()));
    };
    // The first one's keys and values outgrow whatever the kernel could get back from elsewhere.
    let (one, two) = (Counting::new(0).with_layers(200), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let mut inn = Inn::open(ground, &shelf)?;
    memory.group.take(inn.pid())?;
    // It was started outside the group.
    memory.group.take(inn.waiting()?)?;
    let (worker, other) = (inn.load("one")?, inn.load("two")?);
    clients::chat(inn.port, "two", two, 1, 50, |_| {});
    memory.leave_room(2 << 20)?;
    let heard = clients::chat(inn.port, "one", one, 0, 3500, |_| {});
    ensure!(heard.fault(one, 0, 3500).is_none(), "what it said before was wrong: {heard:?}");
    ensure!(heard.end == End::Error("out_of_memory".into()), "the reason given is {:?}", heard.end);
    ensure!(inn.lives(), "the server was taken");
    ensure!(!runs(worker), "the worker lives");
    // The reader hears it a moment before the page.
    let told = |inn: &Inn| inn.model("one").is_ok_and(|model| !model["failure"].is_null());
    until("the failure on the page", Duration::from_secs(2), || told(&inn))?;
    let failure = inn.model("one")?["failure"].clone();
    ensure!(failure["code"] == "out_of_memory", "the page says {failure}");
    let heard = clients::chat(inn.port, "two", two, 1, 300, |_| {});
    ensure!(heard.end == End::Done("length".into()), "another model: {heard:?}");
    ensure!(inn.worker("two")? == other, "another model's worker was replaced");
    // Some seconds later that is nobody's reason any more.
    pause(5000);
    signal(other, Signal::KILL)?;
    inn.until_state("two", "failed", Duration::from_secs(5))?;
    let later = inn.model("two")?["failure"].clone();
    ensure!(later["code"] == "worker_died", "a worker that was killed from outside is told as {later}");
    // The group goes once its processes have.
    drop(inn);
    Figures::default()
        .with("told", failure["message"].clone())
        .with("server", "lives")
        .with("other_model", "answered")
        .held()
}

/// Promise 9: a load, an answer and an unload leave nothing in the server.
pub(super) fn cycles(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (rounds, warm) = ground.amount((60_u32, 20_u32), (1100, 200));
    let one = Counting::new(0);
    let shelf = Shelf::new(&[("one", one)])?;
    let inn = Inn::open(ground, &shelf)?;
    let look = || (descriptors(inn.pid()), threads(inn.pid()));
    let mut points = Vec::new();
    let mut before = None;
    for round in 0..rounds {
        inn.load("one")?;
        let heard = clients::chat(inn.port, "one", one, 0, 10, |_| {});
        ensure!(heard.end == End::Done("length".into()), "round {round}: {heard:?}");
        let (status, receipt) = inn.verb("unload", "model=one")?;
        ensure!(status == 200 && receipt["verdict"] == "returned", "round {round}: {receipt}");
        if round >= warm {
            points.push((f64::from(round), private_bytes(inn.pid()) as f64));
            before.get_or_insert_with(look);
        }
    }
    // Connections and the runtime's spare threads go after some seconds of quiet.
    let flat = until("flat descriptors and threads", Duration::from_secs(15), || {
        let now = look();
        before.is_some_and(|before| now.0 <= before.0 + 1 && now.1 <= before.1 + 1)
    });
    flat?;
    let (slope, bound) = fixtures::slope(&points);
    // Over few cycles, a page that is taken once weighs kilobytes a cycle.
    let most = ground.amount(16_384.0, 1024.0);
    ensure!(bound <= most, "it grows by {slope:.0} bytes a cycle (at most {bound:.0})");
    Figures::default()
        .with("cycles", rounds)
        .with("bytes_a_cycle", slope.round())
        .with("bytes_a_cycle_upper_95", bound.round())
        .with("private_mib", (private_bytes(inn.pid()) as f64 / 1_048_576.0 * 10.0).round() / 10.0)
        .held()
}

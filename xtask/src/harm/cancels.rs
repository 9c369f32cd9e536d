//! Readers that go away: in the middle of an answer, while their prompt is read, in the queue, while the model loads. How
//! long until nobody works for them any more.

use std::{
    env,
    io::BufRead,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Ground, http,
    inn::{Inn, Shelf},
    processes::{self, arguments, children, pause, signal, stand, until},
    report::{Figures, Outcome, spread},
};

/// What 99 of 100 readers may keep a model busy after they went.
const MOST_MS: u64 = 500;

fn begin(inn: &Inn, body: &Value) -> Result<TcpStream> {
    let body = Some(("application/json", body.to_string()));
    let body = body.as_ref().map(|(kind, body)| (*kind, body.as_str()));
    Ok(http::begin(inn.port, "POST", "/v1/chat/completions", body)?)
}

fn chat(model: &str, words: &str) -> Value {
    json!({ "model": model, "stream": true, "temperature": 0, "max_tokens": 4000, "ignore_eos": true,
        "messages": [{ "role": "user", "content": words }] })
}

/// Drops a reader, and waits until it is so.
fn forgotten(reader: impl Sized, what: &str, is_so: impl FnMut() -> bool) -> Result<Duration> {
    drop(reader);
    until(what, Duration::from_secs(10), is_so)
}

pub(super) fn cancels(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let rounds = ground.amount(30, 500);
    let model = Counting::new(0).with_layers(60);
    let shelf = Shelf::new(&[("one", model), ("two", Counting::new(1).with_layers(60))])?;
    let inn = Inn::open(ground, &shelf)?;
    inn.load("one")?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let answer = http::answer(begin(&inn, &chat("one", &model.prompt(random.below(8))))?)?;
        ensure!(answer.status == 200, "an answer was refused with {}", answer.status);
        let pieces = 1 + random.below(20);
        let mut body = answer.body;
        let (mut line, mut read) = (String::new(), 0);
        while read < pieces {
            line.clear();
            ensure!(body.read_line(&mut line)? > 0, "an answer ended after {read} pieces");
            ensure!(!line.contains("[DONE]") && !line.contains("\"error\""), "it ended early: {line}");
            read += usize::from(line.contains("\"content\":\""));
        }
        // What goes away is a reader of an answer that still runs.
        let asked = inn.model("one")?["in_flight"].clone();
        ensure!(asked == 1, "{asked} requests are in flight after {read} pieces");
        let idle = || inn.model("one").is_ok_and(|model| model["in_flight"] == 0);
        times.push(forgotten(body, "the model to be idle", idle)?);
    }
    let (p99, max) = spread(&mut times);
    ensure!(p99 < MOST_MS, "99 of 100 readers were forgotten after {p99} ms");
    let (most, queued) = spread(&mut in_the_queue(&inn, model, ground.amount(5, 50))?);
    ensure!(most < MOST_MS, "some in the queue were forgotten after {most} ms");
    let (most, loading) = spread(&mut in_a_load(&inn, ground.amount(3, 20))?);
    ensure!(most < MOST_MS, "some who waited for a load were forgotten after {most} ms");
    Figures::default()
        .with("readers", rounds)
        .with("idle_p99_ms", p99)
        .with("idle_max_ms", max)
        .with("queued_max_ms", queued)
        .with("loading_max_ms", loading)
        .held()
}

/// Those who wait behind as many answers as a model gives at once.
fn in_the_queue(inn: &Inn, model: Counting, rounds: usize) -> Result<Vec<Duration>> {
    const AT_ONCE: u64 = 8;
    // Nobody reads these, so that they stay.
    let ahead: Vec<TcpStream> =
        (0..AT_ONCE).map(|_| begin(inn, &chat("one", &model.prompt(0)))).collect::<Result<_>>()?;
    let count = |name: &str, wanted: u64| inn.model("one").is_ok_and(|model| model[name] == wanted);
    until("all places to be taken", Duration::from_secs(10), || count("in_flight", AT_ONCE))?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let reader = begin(inn, &chat("one", &model.prompt(1)))?;
        until("one in the queue", Duration::from_secs(5), || count("queued", 1))?;
        times.push(forgotten(reader, "the queue to be empty", || count("queued", 0))?);
    }
    ensure!(count("in_flight", AT_ONCE), "those ahead went as well");
    drop(ahead);
    until("the model to be idle", Duration::from_secs(10), || count("in_flight", 0))?;
    Ok(times)
}

/// Those who wait for a model whose worker is held in the middle of its load.
fn in_a_load(inn: &Inn, rounds: usize) -> Result<Vec<Duration>> {
    let (ours, mut times) = (arguments(inn.pid()), Vec::new());
    for _ in 0..rounds {
        // So that the worker is not there before its load.
        if processes::waiting(inn.pid()).is_some() {
            inn.without_waiting()?;
        }
        let before = children(inn.pid());
        let reader = begin(inn, &chat("two", &Counting::new(1).prompt(0)))?;
        let new = || {
            let mut risen = children(inn.pid()).into_iter().filter(|child| !before.contains(child));
            risen.find(|child| ![&ours[..], &[]].contains(&arguments(*child).as_slice()))
        };
        until("a worker", Duration::from_secs(5), || new().is_some())?;
        let worker = new().context("the worker has gone")?;
        stand(worker)?;
        let waits = |model: &Value| {
            model["state"] == "loading" && model["queued"] == 1 && model["instances"][0]["pid"] == worker
        };
        // It may have been quicker than its stop, or one that was started ahead; then nobody waits. The page hears of a worker
        // a moment after it is there.
        let seen = until("the load to be seen", Duration::from_millis(200), || {
            inn.model("two").is_ok_and(|model| waits(&model))
        });
        if seen.is_ok() {
            let nobody = || inn.model("two").is_ok_and(|model| model["queued"] == 0);
            times.push(forgotten(reader, "nobody to wait for the load", nobody)?);
        }
        signal(worker, Signal::CONT)?;
        inn.verb("unload", "model=two&force=true")?;
        inn.until_state("two", "unloaded", Duration::from_secs(10))?;
    }
    ensure!(!times.is_empty(), "every load was quicker than the look at it");
    Ok(times)
}

/// Those whose prompt is being read: with the real model, since reading a toy's prompt takes no time.
pub(super) fn prefill(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    const WORDS: usize = 4000;
    let Some(file) = real_model(ground) else {
        return Ok(Outcome::Skipped("no smollm2.gguf: `cargo xtask test` fetches it".to_owned()));
    };
    let shelf = Shelf::new(&[])?;
    symlink(file, shelf.folder().join("models/smollm2.gguf"))?;
    let inn = Inn::open(ground, &shelf)?;
    inn.load("smollm2")?;
    let (rounds, mut times, mut missed) = (ground.amount(6, 60), Vec::new(), 0);
    for round in 0..rounds {
        // Another beginning each time, so that nothing of it was read before.
        let words = format!("{round} {} ", random.any()) + &"and the inn keeps its rooms ".repeat(WORDS / 6);
        let reader = begin(&inn, &chat("smollm2", &words))?;
        let reads = || {
            let (_, snapshot) = inn.get("/manage/snapshot").unwrap_or_default();
            snapshot["requests"][0]["state"] == "prefill"
        };
        until("a prompt that is read", Duration::from_secs(20), reads)?;
        pause(random.any() % 400);
        if !reads() {
            missed += 1;
        }
        let idle = || inn.model("smollm2").is_ok_and(|model| model["in_flight"] == 0);
        times.push(forgotten(reader, "the model to be idle", idle)?);
    }
    ensure!(missed < rounds, "every prompt was read before its reader went");
    let (p99, max) = spread(&mut times);
    ensure!(p99 < MOST_MS, "99 of 100 readers were forgotten after {p99} ms");
    Figures::default()
        .with("readers", rounds)
        .with("went_after_the_prompt_was_read", missed)
        .with("idle_p99_ms", p99)
        .with("idle_max_ms", max)
        .held()
}

/// Where `cargo xtask test` has or puts it.
fn real_model(ground: &Ground<'_>) -> Option<PathBuf> {
    let given = env::var_os("INNKEEPER_TEST_MODELS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| ground.places.test_data().join("models"));
    let file = folder.join("smollm2.gguf");
    file.canonicalize().ok().filter(|file| Path::is_file(file))
}

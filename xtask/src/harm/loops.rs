//! A model whose workers die again and again: it is left alone after the third time, says why, and comes back when
//! somebody reinitialises it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;
use serde_json::json;

use super::{
    Ground,
    clients::{self, End},
    http,
    inn::{Inn, Shelf},
    processes::{now, pause, signal},
    report::{Figures, Outcome, ms},
};

pub(super) fn loops(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (one, two) = (Counting::new(0), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let other = inn.load("two")?;
    let began = now();
    for crash in 1..=3 {
        // The second and the third wait until the pause after a crash is over.
        let worker = inn.load("one").with_context(|| format!("load {crash}"))?;
        signal(worker, Signal::KILL)?;
        inn.until_state("one", "failed", Duration::from_secs(5))?;
    }
    let took = began.elapsed();
    ensure!(took >= Duration::from_millis(1500), "two pauses, of 0.5 s and 1 s, took {took:?} in all");
    let failure = inn.model("one")?["failure"].clone();
    ensure!(failure["retry_at"].is_null(), "it is to be tried again: {failure}");
    let said = |words: &serde_json::Value| words.as_str().is_some_and(|words| words.contains("signal 9"));
    ensure!(said(&failure["message"]), "the reason is not told: {failure}");
    let tail = failure["log_tail"].as_array().map_or(0, Vec::len);
    ensure!(tail > 0, "its worker's words are not kept: {failure}");
    let body =
        json!({ "model": "one", "messages": [{ "role": "user", "content": one.prompt(0) }] }).to_string();
    let ask = || http::ask(inn.port, "POST", "/v1/chat/completions", Some(("application/json", &body)));
    let (status, answer) = ask()?;
    ensure!(
        status == 503 && answer["error"]["code"] == "quarantined" && said(&answer["error"]["message"]),
        "it answered {status}: {answer}"
    );
    // Longer than the next pause would be.
    pause(2500);
    let model = inn.model("one")?;
    ensure!(model["state"] == "failed" && model["instances"] == json!([]), "it was tried again: {model}");
    let (status, answer) = inn.verb("reload", "model=one")?;
    ensure!(
        status == 200 && answer["model"]["state"] == "ready",
        "reinitialising it was answered {status}: {answer}"
    );
    for (name, model) in [("one", one), ("two", two)] {
        let heard = clients::chat(inn.port, name, model, 1, 50, |_| {});
        ensure!(heard.end == End::Done("length".into()), "{name}: {heard:?}");
    }
    ensure!(inn.worker("two")? == other, "another model's worker was replaced");
    Figures::default()
        .with("three_crashes_ms", ms(took))
        .with("then", "503, quarantined, with the reason")
        .with("log_tail_lines", tail)
        .with("reinitialised", "ready")
        .held()
}

//! Readers that go away in the middle of an answer: how long until the model is idle.

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};
use serde_json::json;

use super::{
    Ground, http,
    inn::{Inn, Shelf},
    processes::until,
    report::{Figures, Outcome, now, spread},
};

pub(super) fn cancels(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let rounds = ground.amount(30, 500);
    let model = Counting::new(0).with_layers(60);
    let shelf = Shelf::new(&[("one", model)])?;
    let inn = Inn::open(ground, &shelf)?;
    inn.load("one")?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let body = json!({ "model": "one", "stream": true, "temperature": 0, "max_tokens": 4000, "ignore_eos": true,
            "messages": [{ "role": "user", "content": model.prompt(random.below(8)) }] });
        let answer = http::send(
            inn.port,
            "POST",
            "/v1/chat/completions",
            Some(("application/json", &body.to_string())),
        )?;
        let pieces = 1 + random.below(20);
        let mut body = answer.body;
        let mut line = String::new();
        for _ in 0..2 * pieces {
            line.clear();
            body.read_line(&mut line)?;
        }
        body.get_mut().flush()?;
        drop(body);
        let gone = now();
        let idle = || inn.model("one").is_ok_and(|model| model["in_flight"] == 0);
        until("the model to be idle", Duration::from_secs(5), idle)?;
        times.push(gone.elapsed());
    }
    let (p99, max) = spread(&mut times);
    ensure!(p99 < 500, "99 of 100 readers were forgotten after {p99} ms");
    Figures::default().with("readers", rounds).with("idle_p99_ms", p99).with("idle_max_ms", max).held()
}

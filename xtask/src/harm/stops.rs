//! SIGTERM in each state, and a second one.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground, clients,
    inn::{Inn, Shelf, tail},
    processes::{self, until},
    report::{Figures, Outcome, ms, now},
};

const MODEL: &str = "counting";

fn model() -> Counting {
    Counting::new(0).with_layers(60)
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    Idle,
    Loading,
    Ready,
    Streaming,
    /// Its worker hears nothing: the ladder has to go all its rungs.
    Deaf,
    Unloading,
}

const STATES: [State; 7] = [
    State::Starting,
    State::Idle,
    State::Loading,
    State::Ready,
    State::Streaming,
    State::Deaf,
    State::Unloading,
];

pub(super) fn stops(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let rounds = ground.amount(1, 20);
    let (mut first, mut second) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        for state in STATES {
            let took = stop(ground, state, false, random).with_context(|| format!("SIGTERM, {state:?}"))?;
            first = first.max(took);
            let took =
                stop(ground, state, true, random).with_context(|| format!("two SIGTERM, {state:?}"))?;
            second = second.max(took);
        }
    }
    Figures::default()
        .with("stops", rounds * STATES.len() * 2)
        .with("stop_max_ms", ms(first))
        .with("second_signal_max_ms", ms(second))
        .held()
}

/// How long it took from the signal (the second, if there are two) until the server and its worker were gone.
fn stop(ground: &Ground<'_>, state: State, twice: bool, random: &mut Random) -> Result<Duration> {
    let shelf = Shelf::new(&[(MODEL, model())])?;
    let mut inn = match state {
        State::Starting => Inn::begin(ground, &shelf, 0, &[])?,
        _ => Inn::open(ground, &shelf)?,
    };
    bring_to(&inn, state, random)?;
    let mut began = now();
    inn.signal(Signal::TERM)?;
    if twice {
        // Later than the first is heard, mostly; two that come as one are one.
        thread::park_timeout(Duration::from_millis(20 + random.any() % 200));
        began = now();
        inn.signal(Signal::TERM)?;
    }
    let most = if twice { Duration::from_secs(1) } else { Duration::from_secs(8) };
    let (status, _) = inn.ended(most).with_context(|| tail(&shelf))?;
    let took = began.elapsed();
    // One that is killed before it listens has done nothing yet.
    let excused = twice || matches!(state, State::Starting);
    ensure!(status.success() || excused, "it ended with {status}: {}", tail(&shelf));
    let gone = shelf.deserted(now()).context("after the stop")?;
    ensure!(twice || shelf.records() == 0, "a worker is on record after a clean stop");
    Ok(took + gone)
}

fn bring_to(inn: &Inn, state: State, random: &mut Random) -> Result<()> {
    match state {
        State::Starting => thread::park_timeout(Duration::from_millis(random.any() % 100)),
        State::Idle => {}
        State::Loading => {
            inn.verb("load", &format!("model={MODEL}&wait=false"))?;
        }
        State::Ready => {
            inn.load(MODEL)?;
        }
        State::Streaming => {
            let port = inn.port;
            drop(thread::spawn(move || clients::chat(port, MODEL, model(), 0, 3000, |_| {})));
            let busy =
                || inn.model(MODEL).is_ok_and(|model| model["in_flight"] == 1 && model["state"] == "ready");
            until("an answer", Duration::from_secs(10), busy)?;
        }
        State::Deaf => processes::signal(inn.load(MODEL)?, Signal::STOP)?,
        State::Unloading => {
            inn.load(MODEL)?;
            let port = inn.port;
            drop(thread::spawn(move || {
                let form = Some(("application/x-www-form-urlencoded", "model=counting"));
                super::http::ask(port, "POST", "/manage/unload", form)
            }));
            thread::park_timeout(Duration::from_micros(random.any() % 8000));
        }
    }
    Ok(())
}

//! SIGTERM in each state, and a second one.

use std::{os::unix::process::ExitStatusExt, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground, clients,
    inn::{Inn, Shelf, tail},
    processes::{self, now, pause, pause_for, until},
    report::{Figures, Outcome, ms},
};

const MODEL: &str = "counting";
const OTHER: &str = "other";

fn model() -> Counting {
    Counting::new(0).with_layers(60)
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    Idle,
    Loading,
    /// Its worker is held between its fork and its program, and with it the thread that starts workers.
    Unborn,
    /// The same of the one that is started ahead.
    UnbornAhead,
    Ready,
    Streaming,
    /// Its worker hears nothing: the ladder has to go all its rungs.
    Deaf,
    Unloading,
    /// Another model has the room that it would need.
    Waiting,
    /// It answers, and somebody has asked for its unload.
    Draining,
    /// Its worker has died, and the pause before the next try is on.
    Failed,
}

const STATES: [State; 12] = [
    State::Starting,
    State::Idle,
    State::Loading,
    State::Unborn,
    State::UnbornAhead,
    State::Ready,
    State::Streaming,
    State::Deaf,
    State::Unloading,
    State::Waiting,
    State::Draining,
    State::Failed,
];

pub(super) fn stops(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let rounds = ground.amount(1, 20);
    let (mut first, mut second, mut heard) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..rounds {
        for state in STATES {
            let (took, _) =
                stop(ground, state, false, random).with_context(|| format!("SIGTERM, {state:?}"))?;
            first = first.max(took);
            let (took, in_time) =
                stop(ground, state, true, random).with_context(|| format!("two SIGTERM, {state:?}"))?;
            second = second.max(took);
            heard += u32::from(in_time);
        }
    }
    Figures::default()
        .with("stops", rounds * STATES.len() * 2)
        .with("stop_max_ms", ms(first))
        .with("second_signals_in_time", heard)
        .with("second_signal_max_ms", ms(second))
        .held()
}

/// How long it took from the signal (the second, if there are two) until the server and its worker were gone, and
/// whether the server still lived at the second.
fn stop(ground: &Ground<'_>, state: State, twice: bool, random: &mut Random) -> Result<(Duration, bool)> {
    let shelf = Shelf::new(&[(MODEL, model()), (OTHER, Counting::new(1))])?;
    let mut inn = match state {
        State::Starting => Inn::begin(ground, &shelf, 0, &[])?,
        _ => Inn::open(ground, &shelf)?,
    };
    bring_to(&inn, state, random)?;
    let (mut began, mut in_time) = (now(), false);
    inn.signal(Signal::TERM)?;
    if twice {
        // As soon as the first was heard, or a little later; two that come as one are one.
        let heard = || shelf.log().contains("stopping: ") || shelf.log().contains("stopped by ");
        until("the first to be heard", Duration::from_secs(5), || heard() || !inn.lives())?;
        pause_for(Duration::from_micros(random.any() % 4000));
        began = now();
        in_time = inn.lives();
        ensure!(in_time || !matches!(state, State::Deaf), "it left a worker that hears nothing behind");
        inn.signal(Signal::TERM)?;
    }
    let most = if twice { Duration::from_secs(1) } else { Duration::from_secs(8) };
    let (status, _) = inn.ended(most).with_context(|| tail(&shelf))?;
    let took = began.elapsed();
    // One that is killed before it listens has done nothing yet; one that was cut says so. No other end is excused.
    let unheard = matches!(state, State::Starting) && status.signal() == Some(Signal::TERM.as_raw());
    let cut = in_time && status.code() == Some(1);
    ensure!(status.success() || unheard || cut, "it ended with {status}: {}", tail(&shelf));
    let gone = shelf.deserted(now()).context("after the stop")?;
    ensure!(twice || shelf.records() == 0, "a worker is on record after a clean stop");
    Ok((took + gone, in_time))
}

fn bring_to(inn: &Inn, state: State, random: &mut Random) -> Result<()> {
    match state {
        State::Starting => pause(random.any() % 100),
        State::Idle => {}
        State::Loading => {
            inn.verb("load", &format!("model={MODEL}&wait=false"))?;
        }
        State::Unborn => hold_unborn(inn, false)?,
        State::UnbornAhead => hold_unborn(inn, true)?,
        State::Ready => {
            inn.load(MODEL)?;
        }
        State::Streaming => answering(inn)?,
        State::Waiting => {
            answering(inn)?;
            // As much as the one has, and hardly more.
            let (_, snapshot) = inn.get("/manage/snapshot")?;
            let reserved = snapshot["budget"]["ram_reserved_bytes"].as_u64().context("no reservation")?;
            inn.verb("settings", &format!("ram_limit={}", reserved + 4096))?;
            inn.verb("load", &format!("model={OTHER}&wait=false"))?;
            inn.until_state(OTHER, "waiting", Duration::from_secs(2))?;
        }
        State::Draining => {
            answering(inn)?;
            ask(inn.port, "unload", format!("model={MODEL}"));
            inn.until_state(MODEL, "draining", Duration::from_secs(2))?;
        }
        State::Failed => {
            let worker = inn.load(MODEL)?;
            processes::signal(worker, Signal::KILL)?;
            inn.until_state(MODEL, "failed", Duration::from_secs(2))?;
            // Somebody wants it back, as soon as the pause is over.
            ask(inn.port, "load", format!("model={MODEL}&wait=false"));
        }
        State::Deaf => processes::stand(inn.load(MODEL)?)?,
        State::Unloading => {
            inn.load(MODEL)?;
            ask(inn.port, "unload", format!("model={MODEL}"));
            pause_for(Duration::from_micros(random.any() % 8000));
        }
    }
    Ok(())
}

/// Stops a worker that still bears the server's arguments. The moment is short, so there are several.
fn hold_unborn(inn: &Inn, ahead: bool) -> Result<()> {
    const TRIES: usize = 100;
    let server = processes::arguments(inn.pid());
    let is_unborn = |pid: u32| processes::arguments(pid) == server;
    for _ in 0..TRIES {
        if ahead {
            // A load takes it, and the next one is started.
            inn.waiting()?;
        } else if processes::waiting(inn.pid()).is_some() {
            inn.without_waiting()?;
        }
        ask(inn.port, "load", format!("model={MODEL}&wait=false"));
        let began = now();
        while began.elapsed() < Duration::from_millis(100) {
            for child in processes::children(inn.pid()).into_iter().filter(|child| is_unborn(*child)) {
                if processes::stand(child).is_ok() && is_unborn(child) {
                    return Ok(());
                }
                drop(processes::signal(child, Signal::CONT));
            }
        }
        inn.verb("unload", &format!("model={MODEL}&force=true"))?;
    }
    anyhow::bail!("no worker was caught between its fork and its program in {TRIES} loads")
}

/// An answer that takes longer than anything here.
fn answering(inn: &Inn) -> Result<()> {
    let port = inn.port;
    drop(thread::spawn(move || clients::chat(port, MODEL, model(), 0, 3900, |_| {})));
    let busy = || inn.model(MODEL).is_ok_and(|model| model["in_flight"] == 1 && model["state"] == "ready");
    until("an answer", Duration::from_secs(10), busy)?;
    Ok(())
}

/// Asks for something beside this thread; the stop may cut it short.
fn ask(port: u16, verb: &'static str, fields: String) {
    drop(thread::spawn(move || {
        let form = Some(("application/x-www-form-urlencoded", fields.as_str()));
        super::http::ask(port, "POST", &format!("/manage/{verb}"), form)
    }));
}

//! kill -9 of the server, at random times and at named points; then the next server on the same folder.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground, clients, http,
    inn::{Inn, Shelf},
    processes::{arguments, children, now, pause_for, signal, stand, until, waiting},
    report::{Figures, Outcome, spread},
};

/// When the server is killed: at a time that chance picks after something was begun, or when something is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// At any time of its start.
    Starting,
    /// A worker is forked and still bears the server's arguments.
    BeforeExec,
    /// A worker's program has just begun.
    BeforeHello,
    /// Up to 30 ms after three loads were asked for; every other time a worker is held until the page says `loading`.
    Loading,
    /// While three answers stream.
    Streaming,
    /// Up to 10 ms after three models were told to go; every other time workers hear nothing, and the page says
    /// `unloading`.
    Unloading,
    /// Three models are loaded, and nothing happens.
    Idle,
}

const POINTS: [Point; 7] = [
    Point::Starting,
    Point::BeforeExec,
    Point::BeforeHello,
    Point::Loading,
    Point::Streaming,
    Point::Unloading,
    Point::Idle,
];

const NAMES: [&str; 3] = ["one", "two", "three"];

fn model(number: usize) -> Counting {
    // Enough layers that a load has a middle.
    Counting::new(number).with_layers(60)
}

pub(super) fn storm(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let rounds = ground.amount(28, 1000);
    let shelf = Shelf::new(&[(NAMES[0], model(0)), (NAMES[1], model(1)), (NAMES[2], model(2))])?;
    let (mut gone, mut starts) = (Vec::new(), Vec::new());
    let mut hit: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds {
        let (point, held) = (POINTS[round % POINTS.len()], (round / POINTS.len()) % 2 == 1);
        let one = one_round(ground, &shelf, point, held, random);
        let (reached, took, start) = one.with_context(|| format!("round {round}, {point:?}"))?;
        let word = match reached {
            Reached::Seen => format!("{point:?} seen"),
            Reached::Timed => format!("{point:?} by time"),
            Reached::Missed => format!("{point:?} missed"),
        };
        *hit.entry(word).or_default() += 1;
        gone.push(took);
        starts.extend(start);
    }
    // The last one must leave a folder in which a server starts and finds nothing to do.
    let inn = Inn::open(ground, &shelf)?;
    inn.is_empty(&shelf)?;
    let ((gone_p99, gone_max), (_, start_max)) = (spread(&mut gone), spread(&mut starts));
    let hits: Vec<String> = hit.iter().map(|(point, times)| format!("{point} {times}")).collect();
    Figures::default()
        .with("rounds", rounds)
        .with("survivors", 0)
        .with("gone_p99_ms", gone_p99)
        .with("gone_max_ms", gone_max)
        .with("next_start_max_ms", start_max)
        .with("points", hits.join("; "))
        .held()
}

/// What is known of the moment of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// It was looked at, and was so.
    Seen,
    /// Chance picked it; what the server did just then is not known.
    Timed,
    /// It was waited for and not seen; the kill came later.
    Missed,
}

/// What is known of the moment, how long everybody took to go, and how long the start took.
fn one_round(
    ground: &Ground<'_>,
    shelf: &Shelf,
    point: Point,
    held: bool,
    random: &mut Random,
) -> Result<(Reached, Duration, Option<Duration>)> {
    let wait = Duration::from_micros(random.any() % 60_000);
    let began = now();
    if point == Point::Starting {
        let inn = Inn::begin(ground, shelf, 0, &[])?;
        pause_for(wait);
        return Ok((Reached::Timed, inn.kill(shelf)?, None));
    }
    let inn = Inn::open(ground, shelf)?;
    let start = began.elapsed();
    ensure!(start < Duration::from_secs(10), "the start took {start:?}");
    inn.is_empty(shelf).context("the start was not clean")?;
    let reached = match point {
        Point::BeforeExec | Point::BeforeHello => catch_again(&inn, point)?,
        Point::Loading if held => hold_a_load(&inn)?,
        Point::Unloading if held => hold_unloads(&inn)?,
        Point::Loading => {
            drop(begin_loads(&inn));
            pause_for(wait / 2);
            Reached::Timed
        }
        Point::Streaming => {
            let port = inn.port;
            for (number, name) in NAMES.into_iter().enumerate() {
                // Ends with its connection, which the kill breaks.
                drop(thread::spawn(move || clients::chat(port, name, model(number), 0, 3000, |_| {})));
            }
            let busy = || NAMES.iter().all(|name| inn.model(name).is_ok_and(|model| model["in_flight"] == 1));
            until("three answers", Duration::from_secs(10), busy)?;
            pause_for(wait);
            Reached::Seen
        }
        Point::Unloading => {
            for name in NAMES {
                inn.load(name)?;
            }
            begin_unloads(&inn);
            pause_for(wait / 6);
            Reached::Timed
        }
        Point::Idle | Point::Starting => {
            for name in NAMES {
                inn.load(name)?;
            }
            Reached::Seen
        }
    };
    Ok((reached, inn.kill(shelf)?, Some(start)))
}

/// Asks for three loads beside this thread; the kill may cut it short.
fn begin_loads(inn: &Inn) -> thread::JoinHandle<()> {
    let port = inn.port;
    thread::spawn(move || {
        for name in NAMES {
            let form = format!("model={name}&wait=false");
            drop(http::ask(port, "POST", "/manage/load", Some(("application/x-www-form-urlencoded", &form))));
        }
    })
}

/// The moment is short, and a busy machine looks away; so there are several.
fn catch_again(inn: &Inn, point: Point) -> Result<Reached> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        if catch(inn, point) {
            return Ok(Reached::Seen);
        }
        for name in NAMES {
            inn.load(name)?;
            inn.verb("unload", &format!("model={name}&force=true"))?;
        }
    }
    // Whatever it does now, it is killed.
    drop(begin_loads(inn));
    Ok(Reached::Missed)
}

fn begin_unloads(inn: &Inn) {
    let port = inn.port;
    drop(thread::spawn(move || {
        let form = Some(("application/x-www-form-urlencoded", ""));
        http::ask(port, "POST", "/manage/cleanup", form)
    }));
}

/// Stops a worker that has just begun, so that its load has a middle that can be looked at.
fn hold_a_load(inn: &Inn) -> Result<Reached> {
    if !catch(inn, Point::BeforeHello) {
        return Ok(Reached::Missed);
    }
    let ours = arguments(inn.pid());
    // One that has not become a worker yet would hold the thread that makes them.
    for worker in children(inn.pid()).into_iter().filter(|worker| arguments(*worker) != ours) {
        signal(worker, Signal::STOP)?;
    }
    let loads = || NAMES.iter().any(|name| inn.state(name).is_ok_and(|state| state == "loading"));
    Ok(if loads() { Reached::Seen } else { Reached::Missed })
}

/// Stopped workers do not hear that they are to go.
fn hold_unloads(inn: &Inn) -> Result<Reached> {
    for name in NAMES {
        stand(inn.load(name)?)?;
    }
    begin_unloads(inn);
    let goes = || NAMES.iter().all(|name| inn.state(name).is_ok_and(|state| state == "unloading"));
    until("three models to be on their way out", Duration::from_secs(3), goes)?;
    Ok(Reached::Seen)
}

/// Waits for a worker at that point, looking as fast as it can. Whether it was seen.
fn catch(inn: &Inn, point: Point) -> bool {
    let (server, ahead) = (arguments(inn.pid()), waiting(inn.pid()));
    drop(begin_loads(inn));
    let began = now();
    while began.elapsed() < Duration::from_millis(500) {
        for child in children(inn.pid()) {
            let its = arguments(child);
            let wanted = if point == Point::BeforeExec {
                its == server
            } else {
                // The first look at its new program; a hello takes longer than the way from here to the kill. One that
                // was there before has said it.
                its != server && !its.is_empty() && ahead != Some(child)
            };
            if wanted {
                return true;
            }
        }
    }
    false
}

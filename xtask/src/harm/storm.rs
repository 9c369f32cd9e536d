//! kill -9 of the server, at random times and at named points; then the next server on the same folder.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};

use super::{
    Ground, clients, http,
    inn::{Inn, Shelf},
    processes::{arguments, children, until},
    report::{Figures, Outcome, now, spread},
};

/// When the server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// At any time of its start.
    Starting,
    /// A worker is forked and still bears the server's arguments.
    BeforeExec,
    /// A worker's program has just begun.
    BeforeHello,
    /// At any time of three loads.
    Loading,
    /// While three answers stream.
    Streaming,
    /// While models unload.
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
        let point = POINTS[round % POINTS.len()];
        let one = one_round(ground, &shelf, point, random);
        let (reached, took, start) = one.with_context(|| format!("round {round}, {point:?}"))?;
        let word = if reached { format!("{point:?}") } else { format!("{point:?} missed") };
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

/// Whether the point was hit, how long everybody took to go, and how long the start took.
fn one_round(
    ground: &Ground<'_>,
    shelf: &Shelf,
    point: Point,
    random: &mut Random,
) -> Result<(bool, Duration, Option<Duration>)> {
    let wait = Duration::from_micros(random.any() % 60_000);
    let began = now();
    if point == Point::Starting {
        let inn = Inn::begin(ground, shelf, 0, &[])?;
        thread::park_timeout(wait);
        return Ok((true, inn.kill(shelf)?, None));
    }
    let inn = Inn::open(ground, shelf)?;
    let start = began.elapsed();
    ensure!(start < Duration::from_secs(10), "the start took {start:?}");
    inn.is_empty(shelf).context("the start was not clean")?;
    let reached = match point {
        Point::BeforeExec | Point::BeforeHello => catch(&inn, point),
        Point::Loading => {
            drop(begin_loads(&inn));
            thread::park_timeout(wait / 2);
            true
        }
        Point::Streaming => {
            let port = inn.port;
            for (number, name) in NAMES.into_iter().enumerate() {
                // Ends with its connection, which the kill breaks.
                drop(thread::spawn(move || clients::chat(port, name, model(number), 0, 3000, |_| {})));
            }
            let busy = || NAMES.iter().all(|name| inn.model(name).is_ok_and(|model| model["in_flight"] == 1));
            until("three answers", Duration::from_secs(10), busy)?;
            thread::park_timeout(wait);
            true
        }
        Point::Unloading => {
            for name in NAMES {
                inn.load(name)?;
            }
            let port = inn.port;
            drop(thread::spawn(move || {
                let form = Some(("application/x-www-form-urlencoded", ""));
                http::ask(port, "POST", "/manage/cleanup", form)
            }));
            thread::park_timeout(wait / 6);
            true
        }
        Point::Idle | Point::Starting => {
            for name in NAMES {
                inn.load(name)?;
            }
            true
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

/// Waits for a worker at that point, looking as fast as it can. Whether it was seen.
fn catch(inn: &Inn, point: Point) -> bool {
    let server = arguments(inn.pid());
    drop(begin_loads(inn));
    let began = now();
    while began.elapsed() < Duration::from_millis(500) {
        for child in children(inn.pid()) {
            let its = arguments(child);
            let wanted = if point == Point::BeforeExec {
                its == server
            } else {
                // The first look at its new program; a hello takes longer than the way from here to the kill.
                its != server && !its.is_empty()
            };
            if wanted {
                return true;
            }
        }
    }
    false
}

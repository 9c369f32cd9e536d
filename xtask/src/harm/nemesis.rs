//! Clients with known answers while somebody kills and stops workers and the server. Afterwards the history is read: no
//! token lost, doubled or another's, no request without an end, and the books at zero.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::{self, now, pause},
    report::{Figures, Outcome},
};

const CLIENTS: u64 = 8;
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Ends that what is done here explains. Anything else, a fault of the server's own above all, is none.
const EXCUSED: [&str; 8] = [
    "worker_died",
    "cut_off",
    "load_cancelled",
    "load_failed",
    "quarantined",
    "queue_full",
    "draining",
    "conflict",
];

/// What the clients have seen.
#[derive(Default)]
struct History {
    ends: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Vec<String>>,
    over: AtomicBool,
    /// How often the server was killed: a connection that breaks in between is excused.
    deaths: AtomicU64,
}

impl History {
    fn note(&self, end: &str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(end.to_owned()).or_default() += 1;
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

pub(super) fn nemesis(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    let seconds = ground.amount(20, 600);
    let models = [Counting::new(0).with_layers(8), Counting::new(1).with_layers(8), Counting::new(2)];
    let shelf = Shelf::new(&[(NAMES[0], models[0]), (NAMES[1], models[1]), (NAMES[2], models[2])])?;
    let mut inn = Inn::open(ground, &shelf)?;
    let (port, history) = (inn.port, Arc::new(History::default()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (history, random) = (Arc::clone(&history), Random::new(random.any()));
            thread::spawn(move || client(port, models, &history, random))
        })
        .collect();
    let end = now() + Duration::from_secs(seconds);
    let mut harms: BTreeMap<&str, u64> = BTreeMap::new();
    let mut harmed = Ok(());
    while now() < end && harmed.is_ok() {
        pause(100 + random.any() % 900);
        harmed =
            harm(ground, &shelf, &mut inn, random, &history).map(|what| *harms.entry(what).or_default() += 1);
    }
    history.over.store(true, Ordering::Release);
    for client in clients {
        ensure!(client.join().is_ok(), "a client broke");
    }
    harmed?;
    let faults = history.faults.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = faults.first() {
        bail!("{} answers were wrong; the first: {first}", faults.len());
    }
    for name in NAMES {
        inn.verb("unload", &format!("model={name}&force=true"))?;
    }
    let empty = || inn.is_empty(&shelf).is_ok();
    processes::until("empty books", Duration::from_secs(20), empty)
        .or_else(|_| inn.is_empty(&shelf).map(|()| Duration::ZERO))?;
    nobody_was_cut_off_for_room_or_rest(&inn)?;
    let told = |counts: &BTreeMap<String, u64>| -> String {
        counts.iter().map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join("; ")
    };
    let ends = history.ends.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(ends.get("done").is_some_and(|done| *done > 0), "nobody was ever answered: {}", told(&ends));
    let harms = harms.into_iter().map(|(what, times)| (what.to_owned(), times)).collect();
    Figures::default()
        .with("seconds", seconds)
        .with("requests", ends.values().sum::<u64>())
        .with("wrong_lost_or_doubled", 0)
        .with("without_an_end", 0)
        .with("ends", told(&ends))
        .with("harms", told(&harms))
        .held()
}

/// Timers and evictions leave those alone who are in use; as far as this server's receipts go.
fn nobody_was_cut_off_for_room_or_rest(inn: &Inn) -> Result<()> {
    let (_, snapshot) = inn.get("/manage/snapshot")?;
    let receipts = snapshot["receipts"].as_array().context("a snapshot without receipts")?;
    let is_wrong = |receipt: &&serde_json::Value| {
        (receipt["reason"] == "idle" || receipt["reason"] == "evicted") && receipt["cut_off_requests"] != 0
    };
    match receipts.iter().find(is_wrong) {
        Some(receipt) => bail!("requests were cut off: {receipt}"),
        None => Ok(()),
    }
}

fn client(port: u16, models: [Counting; 3], history: &History, mut random: Random) {
    while !history.over.load(Ordering::Acquire) {
        let (which, chain) = (random.below(3), random.below(8));
        let tokens = 20 + random.below(400);
        let before = history.deaths.load(Ordering::Acquire);
        let heard = clients::chat(port, NAMES[which], models[which], chain, tokens, |_| {});
        let died = before % 2 == 1 || history.deaths.load(Ordering::Acquire) != before;
        if let Some(fault) = heard.fault(models[which], chain, tokens) {
            history.fault(format!("{} on {}: {fault}", models[which].prompt(chain), NAMES[which]));
        }
        match heard.end {
            End::Done(_) => history.note("done"),
            End::Error(code) => {
                history.note(&code);
                if !EXCUSED.contains(&code.as_str()) {
                    history.fault(format!("an answer of {} ended with {code}", NAMES[which]));
                }
                // A client of good manners waits a little.
                pause(random.any() % 200);
            }
            End::Cut if died => {
                history.note("cut by the server's death");
                pause(50);
            }
            End::Cut => history.fault(format!("an answer of {} has no end", NAMES[which])),
        }
    }
}

/// Does one harm and says which.
fn harm(
    ground: &Ground<'_>,
    shelf: &Shelf,
    inn: &mut Inn,
    random: &mut Random,
    history: &History,
) -> Result<&'static str> {
    let name = random.of(&NAMES);
    match random.below(14) {
        0..4 => {
            if let Ok(worker) = inn.worker(name) {
                processes::signal(worker, Signal::KILL)?;
            }
            Ok("worker killed")
        }
        4..6 => {
            if let Ok(worker) = inn.worker(name) {
                processes::signal(worker, Signal::STOP)?;
                pause(500 + random.any() % 1500);
                processes::signal(worker, Signal::CONT)?;
            }
            Ok("worker stopped for a while")
        }
        6..8 => {
            inn.verb("unload", &format!("model={name}&force={}", random.once_in(2)))?;
            Ok("unloaded")
        }
        8..10 => {
            // Lifts a quarantine too.
            inn.verb("reload", &format!("model={name}"))?;
            Ok("reinitialised")
        }
        10 => {
            if let Some(waiting) = processes::waiting(inn.pid()) {
                drop(processes::signal(waiting, Signal::KILL));
            }
            Ok("waiting worker killed")
        }
        11 => {
            if let Some(waiting) = processes::waiting(inn.pid()) {
                // A load may have just taken it.
                drop(processes::signal(waiting, Signal::STOP));
                pause(random.any() % 1500);
                drop(processes::signal(waiting, Signal::CONT));
            }
            Ok("waiting worker stopped for a while")
        }
        12 => {
            inn.signal(Signal::STOP)?;
            pause(500 + random.any() % 1000);
            inn.signal(Signal::CONT)?;
            Ok("server stopped for a while")
        }
        _ => {
            nobody_was_cut_off_for_room_or_rest(inn)?;
            history.deaths.fetch_add(1, Ordering::AcqRel);
            let reopened = inn.kill_and_open_again(ground, shelf);
            history.deaths.fetch_add(1, Ordering::AcqRel);
            reopened.context("the server, killed and started again")?;
            Ok("server killed")
        }
    }
}

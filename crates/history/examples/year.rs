//! A year of history, simulated: how long a page of it takes, and how large it is.
//!
//! `cargo run --release -p history --example year [FOLDER] [EVENTS]`: fills FOLDER (a temporary one unless told) with a million
//! events (two minutes, since the writer takes ten thousand a second), then asks for pages in every way there is.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and stops when it cannot go on"
)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use history::History;
use manager::{HistoryQuery, ports::Archive};
use protocol::{EventKind, LedgerEvent, Method, ModelId, RamReturn, Reason, Receipt, Time, Verdict};
use tokio::time::{Instant, interval};

/// The year begins here, in Unix milliseconds.
const BEGIN_MS: i64 = 1_764_000_000_000;
const YEAR_MS: i64 = 365 * 86_400_000;
const ASKED: u32 = 40;

fn model(n: u64) -> ModelId {
    format!("model-{}", n % 20).parse().unwrap()
}

/// Loads and unloads by turns, a crash now and then, a setting in between.
fn event(id: u64, of: u64) -> LedgerEvent {
    let at = Time::from_unix_ms(BEGIN_MS + YEAR_MS / i64::try_from(of).unwrap() * i64::try_from(id).unwrap());
    let kind = match id % 1000 {
        7 => EventKind::Crash,
        500..520 => EventKind::Settings,
        n if n % 2 == 0 => EventKind::Load,
        _ => EventKind::Unload,
    };
    let receipt = (kind == EventKind::Unload).then(|| Receipt {
        id,
        model: model(id / 2),
        pid: Some(4121),
        reason: Reason::Idle,
        asked_by: "idle timer".to_owned(),
        at,
        duration_ms: 12,
        method: Method::Exit,
        ram: RamReturn { held_bytes: 34_603_008, returned_bytes: 34_603_008, residual_bytes: 0 },
        gpus: vec![],
        verdict: Verdict::Returned,
        cut_off_requests: 0,
        left: vec![],
        evidence: None,
        server_bytes: None,
    });
    LedgerEvent {
        id,
        at,
        kind,
        model: Some(model(id / 2)),
        reason: "idle".to_owned(),
        asked_by: "idle timer".to_owned(),
        duration_ms: Some(12),
        bytes_before: Some(34_603_008),
        bytes_after: Some(0),
        receipt,
        detail: "cpu, 2 threads, context 8192".to_owned(),
    }
}

async fn fill(history: &History, from: u64, count: u64) {
    let mut tick = interval(Duration::from_millis(1200));
    for id in from..=count {
        if id % 9000 == 0 {
            tick.tick().await;
            let newest = history.page(&HistoryQuery { limit: 1, ..HistoryQuery::default() }).await.unwrap();
            assert!(newest.events[0].id >= id - 9000);
        }
        history.keep(&Arc::new(event(id, count)));
    }
}

async fn ask(history: &History, what: &str, wanted: HistoryQuery) {
    let mut took = Vec::new();
    let mut found = 0;
    for _ in 0..ASKED {
        let begun = Instant::now();
        found = history.page(&wanted).await.unwrap().events.len();
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "| {what} | {found} | {:.1} | {:.1} | {:.1} |",
        took[0],
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir().unwrap();
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let count: u64 = arguments.next().map_or(1_000_000, |count| count.parse().unwrap());
    let opened = History::open(&folder, BEGIN_MS + YEAR_MS).unwrap();
    if opened.first_event < count {
        fill(&opened.history, opened.first_event, count).await;
    }
    opened.history.close().await;
    let begun = Instant::now();
    let again = History::open(&folder, BEGIN_MS + YEAR_MS).unwrap();
    println!("opened in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let bytes = std::fs::metadata(folder.join("history.db")).unwrap().len();
    println!("{count} events, {} MiB; milliseconds of {ASKED} rounds each\n", bytes >> 20);
    println!("| page | events | least | median | most |\n|---|---|---|---|---|");
    let (all, day) = (HistoryQuery { limit: 100, ..HistoryQuery::default() }, 86_400_000);
    let half = BEGIN_MS + YEAR_MS / 2;
    ask(&again.history, "the newest 100", all.clone()).await;
    ask(&again.history, "the newest 1000", HistoryQuery { limit: 1000, ..all.clone() }).await;
    ask(&again.history, "100 in the middle", HistoryQuery { after: Some(count / 2), ..all.clone() }).await;
    ask(&again.history, "of one model", HistoryQuery { model: Some(model(3)), ..all.clone() }).await;
    ask(&again.history, "crashes", HistoryQuery { kind: Some(EventKind::Crash), ..all.clone() }).await;
    let rare = HistoryQuery { kind: Some(EventKind::Crash), model: Some(model(3)), ..all.clone() };
    ask(&again.history, "crashes of one model", rare).await;
    let none = HistoryQuery { kind: Some(EventKind::Evict), model: "nobody".parse().ok(), ..all.clone() };
    ask(&again.history, "of which there are none", none).await;
    let one_day = HistoryQuery { since_ms: Some(half), until_ms: Some(half + day), ..all.clone() };
    ask(&again.history, "a day half a year ago", one_day.clone()).await;
    ask(&again.history, "crashes of that day", HistoryQuery { kind: Some(EventKind::Crash), ..one_day })
        .await;
    ask(
        &again.history,
        "the first minute of the year",
        HistoryQuery { until_ms: Some(BEGIN_MS + 60_000), ..all },
    )
    .await;
    again.history.close().await;
}

//! Events, measurements and requests in real files.

use std::path::Path;

use manager::HistoryQuery;
use protocol::{EventKind, LedgerEvent, Time};
use rusqlite::Connection;

use crate::{
    book::{self, Clock},
    events,
};

mod aside;
mod over_time;
mod pages;

/// A new file in a folder.
fn file(folder: &Path) -> Connection {
    book::open(&folder.join("history.db"), 1_000_000).unwrap().connection
}

fn event(id: u64, at_ms: i64, kind: EventKind, model: Option<&str>) -> LedgerEvent {
    LedgerEvent {
        id,
        at: Time::from_unix_ms(at_ms),
        kind,
        model: model.map(|model| model.parse().unwrap()),
        reason: "asked".to_owned(),
        asked_by: "a test".to_owned(),
        duration_ms: Some(id * 10),
        bytes_before: None,
        bytes_after: Some(id << 20),
        receipt: None,
        detail: String::new(),
    }
}

/// Writes events as the writer does.
fn write(file: &Connection, events: &[LedgerEvent]) {
    let mut clock = Clock::default();
    events.iter().for_each(|event| events::write(file, event, &mut clock).unwrap());
}

fn ids(events: &[LedgerEvent]) -> Vec<u64> {
    events.iter().map(|event| event.id).collect()
}

fn wanted(limit: u32) -> HistoryQuery {
    HistoryQuery { limit, ..HistoryQuery::default() }
}

//! The writer that is harmed, and what its harmer needs.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use history::{History, Measurement, Opened};
use manager::{HistoryQuery, ports::Archive};
use protocol::{EventKind, LedgerEvent, Time};
use tokio::time::Instant;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn event(id: u64, at_ms: i64) -> LedgerEvent {
    LedgerEvent {
        id,
        at: Time::from_unix_ms(at_ms),
        kind: EventKind::Load,
        model: "ballast".parse().ok(),
        reason: format!("event {id}"),
        asked_by: "harm".to_owned(),
        duration_ms: Some(id),
        bytes_before: None,
        bytes_after: Some(1 << 20),
        receipt: None,
        detail: "x".repeat(500),
    }
}

/// Writes an event each so many milliseconds, with a measurement each, for ever. Tells each event's number on stdout
/// once it was handed in, and what is wrong with the history whenever that changes.
pub(crate) fn scribe(folder: &str, pause_ms: u64) {
    block_on(async {
        let Opened { history, first_event, .. } = History::open(Path::new(folder), 1_000_000_000).unwrap();
        let mut warnings = history.warnings();
        let mut tick = tokio::time::interval(Duration::from_millis(pause_ms));
        let mut out = std::io::stdout();
        for id in first_event.. {
            tick.tick().await;
            let at_ms = 1_000_000_000 + i64::try_from(id).unwrap() * 1000;
            history.keep(&Arc::new(event(id, at_ms)));
            history.keep_measurement(Measurement { at_ms, cpu_percent: Some(1.0), ..Measurement::default() });
            writeln!(out, "event {id}").unwrap();
            if warnings.has_changed().unwrap() {
                let now = warnings.borrow_and_update();
                writeln!(out, "trouble {}", now.first().map_or("", |warning| &warning.message)).unwrap();
            }
            out.flush().unwrap();
        }
    });
}

/// A scribe in a process of its own.
pub(crate) struct Scribe {
    pub(crate) child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    /// The last event that it told.
    last: u64,
}

impl Scribe {
    /// `limits`: what a shell does before it becomes the scribe.
    pub(crate) fn start(folder: &Path, pause_ms: u64, limits: &str) -> Self {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{limits} exec \"$0\" @scribe \"$1\" {pause_ms}"))
            .arg(std::env::current_exe().unwrap())
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, last: 0 }
    }

    /// Reads until a line fits; the number of the last event until then.
    pub(crate) fn until(&mut self, what: &str, fits: impl Fn(&str, u64) -> bool) -> u64 {
        let begun = Instant::now();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.last = line.strip_prefix("event ").map_or(self.last, |id| id.parse().unwrap());
            if fits(&line, self.last) {
                return self.last;
            }
            assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        }
        panic!("the scribe ended before {what}")
    }

    /// Kills it, and gives the last event that it told.
    pub(crate) fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let told =
            self.lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("event ")?.parse().ok());
        told.max().unwrap_or(self.last)
    }
}

/// The numbers of all events in the file, oldest first, and the number for the next one.
pub(crate) fn read_back(folder: &Path) -> (Vec<u64>, u64) {
    block_on(async {
        let opened = History::open(folder, 2_000_000_000).unwrap();
        assert!(opened.cut_off, "the one before was killed");
        assert_eq!(*opened.history.warnings().borrow(), []);
        let mut ids = Vec::new();
        let mut wanted = HistoryQuery { limit: 1000, ..HistoryQuery::default() };
        loop {
            let page = opened.history.page(&wanted).await.unwrap();
            ids.extend(page.events.iter().map(|event| event.id));
            wanted.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        opened.history.close().await;
        ids.reverse();
        (ids, opened.first_event)
    })
}

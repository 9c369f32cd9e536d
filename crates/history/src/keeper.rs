//! The way in: what others bring, and what they ask.

use std::{
    fmt, fs,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Duration,
};

use manager::{HistoryPage, HistoryQuery, ports::Archive};
use protocol::{LedgerEvent, Measurements, Performance, Problem, Time, Warning};
use tokio::sync::watch;

use crate::{
    book, events,
    inbox::Inbox,
    measured::{self, Measurement, SeriesQuery},
    performance,
    reader::Reader,
    requests::RequestRow,
    trouble::HistoryError,
    writer::{self, Shared},
};

/// The last commit may take so long.
const LAST: Duration = Duration::from_millis(1500);

/// The history, for everybody. Cheap to clone.
#[derive(Clone)]
pub struct History {
    pub(crate) shared: Arc<Shared>,
    reader: Reader,
    warnings: watch::Receiver<Vec<Warning>>,
    /// Closed when the writer has ended.
    ended: watch::Receiver<()>,
}

/// The history, and what a start wants to know of it.
#[derive(Debug)]
pub struct Opened {
    /// The history.
    pub history: History,
    /// The number for this run's first event: above all that were ever given.
    pub first_event: u64,
    /// The server before was killed, or crashed, or its machine lost its power.
    pub cut_off: bool,
    /// Of the events since the last start, as many as [`manager::replay`] needs to say how each model stands, oldest first.
    pub since_start: Vec<LedgerEvent>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl History {
    /// Opens `history.db` in a data folder and starts the thread that writes. A file that cannot be opened now is
    /// tried again later and told as a warning; only the thread itself can fail. `wall_ms` is this moment, in Unix
    /// milliseconds.
    pub fn open(data_dir: &Path, wall_ms: i64) -> Result<Opened, HistoryError> {
        // The file itself may not be a link (somebody else could have put it there); the folder may be reached by one.
        let folder = fs::canonicalize(data_dir);
        let path = writer::path(folder.as_deref().unwrap_or(data_dir));
        let (warn, warnings) = watch::channel(Vec::new());
        // Numbers that the file does not know must still grow over restarts: seconds since 1970 are above them all.
        let by_clock = u64::try_from(wall_ms / 1000).unwrap_or(1);
        let (file, found) = match book::open(&path, wall_ms) {
            Ok(book) => {
                let mut found = book.found;
                if let Some(aside) = book.aside {
                    warn.send_modify(|warnings| warnings.push(aside));
                    found.next_event = found.next_event.max(by_clock);
                }
                (Some(book.connection), found)
            }
            Err(error) => {
                let warning = error.warning(&path, Time::from_unix_ms(wall_ms));
                tracing::error!("{} {}", warning.message, warning.hint);
                warn.send_modify(|warnings| warnings.push(warning));
                (None, book::Found { next_event: by_clock, ..book::Found::default() })
            }
        };
        let generation = AtomicU64::new(u64::from(file.is_some()));
        let shared = Arc::new(Shared { path, inbox: Inbox::new(), generation, warnings: warn });
        let writer = writer::start(shared.clone(), file, found.clock, found.next_event, wall_ms);
        let (ending, ended) = watch::channel(());
        thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                let _ending = ending;
                writer.run();
            })
            .map_err(HistoryError::Thread)?;
        let history = Self { reader: Reader::new(shared.clone()), shared, warnings, ended };
        Ok(Opened {
            history,
            first_event: found.next_event,
            cut_off: found.cut_off,
            since_start: found.since_start,
        })
    }

    /// What is wrong with it now; mostly nothing.
    pub fn warnings(&self) -> watch::Receiver<Vec<Warning>> {
        self.warnings.clone()
    }

    /// Takes a measurement. Never blocks.
    pub fn keep_measurement(&self, measurement: Measurement) {
        self.shared.inbox.put_measurement(measurement);
    }

    /// Takes a request that ended. Never blocks.
    pub fn keep_request(&self, request: RequestRow) {
        self.shared.inbox.put_request(request);
    }

    /// A page of the ledger, newest first: what waits to be written, and what is written.
    pub async fn page(&self, wanted: &HistoryQuery) -> Result<HistoryPage, Problem> {
        // First what waits: an event that is committed in between is then found twice, never not at all.
        let waiting = self.shared.inbox.events(wanted);
        let (query, limit) = (wanted.clone(), wanted.limit.max(1));
        let written = self.reader.read(move |file| events::page(file, &query, limit.saturating_add(1))).await;
        let written = written.map_err(|error| error.problem())?.unwrap_or_default();
        let mut events: Vec<LedgerEvent> = waiting.iter().map(|event| (**event).clone()).collect();
        events.extend(written);
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
        events.dedup_by_key(|event| event.id);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|event| event.id);
        Ok(HistoryPage { events, next })
    }

    /// A series of measurements.
    pub async fn series(&self, wanted: SeriesQuery) -> Result<Measurements, Problem> {
        let waiting = self.shared.inbox.measurements(wanted.since_s);
        let (since_s, until_s, step_s) = (wanted.since_s, wanted.until_s, wanted.step());
        let rows = self.reader.read(move |file| measured::best_rows(file, since_s, until_s, step_s)).await;
        let mut rows = rows.map_err(|error| error.problem())?.unwrap_or_default();
        let known = rows.last().map_or(i64::MIN, |row| row.at_s);
        let fits = |row: &measured::Row| row.at_s > known && row.at_s <= until_s;
        rows.extend(waiting.iter().map(|one| measured::Row::from(&**one)).filter(fits));
        Ok(Measurements {
            step_seconds: u64::try_from(step_s).unwrap_or(1),
            points: measured::points(rows, &wanted),
            series: wanted.series,
        })
    }

    /// How well each model answered, up to a second or so ago.
    pub async fn performance(&self, now_ms: i64) -> Result<Performance, Problem> {
        let read = self.reader.read(move |file| performance::performance(file, now_ms)).await;
        let nothing = || Performance { at: Time::from_unix_ms(now_ms), models: Vec::new() };
        Ok(read.map_err(|error| error.problem())?.unwrap_or_else(nothing))
    }

    /// Writes what waits and closes the file; takes at most a second and a half.
    pub async fn close(&self) {
        self.shared.inbox.close();
        let mut ended = self.ended.clone();
        let written = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(LAST, written).await.is_err() {
            tracing::warn!("the disk is too slow for the last lines of the history");
        }
    }
}

impl Archive for History {
    fn keep(&self, event: &Arc<LedgerEvent>) {
        self.shared.inbox.put_event(event.clone());
    }
}

//! The one thread that writes: takes what waits about once a second, commits it at once, thins once a minute. When it
//! cannot write it says so, keeps what it can, and tries again.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use protocol::{Time, Warning};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    book::{self, Book, Clock},
    events,
    inbox::{Batch, Inbox},
    measured, requests,
    trouble::HistoryError,
};

/// What the writer and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) inbox: Inbox,
    /// Grows when another file takes the place of the one before.
    pub(crate) generation: AtomicU64,
    /// At most one about the file that was set aside, and one about writing that fails.
    pub(crate) warnings: watch::Sender<Vec<Warning>>,
}

/// The writer.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    /// `None`: it could not be opened yet.
    pub(crate) file: Option<Connection>,
    pub(crate) clock: Clock,
    pub(crate) spoken_for: u64,
    /// The newest event that was written.
    pub(crate) newest: u64,
    pub(crate) now_ms: i64,
    /// Minutes since 1970 at the last thinning.
    pub(crate) thinned: i64,
}

impl Writer {
    /// Writes until the inbox is closed, and closes the file.
    pub(crate) fn run(mut self) {
        loop {
            let batch = self.shared.inbox.next();
            self.now_ms = newest_ms(&batch).unwrap_or(self.now_ms);
            // What a reader found in the file before this one says nothing about this one.
            let now = self.shared.generation.load(Ordering::Acquire);
            if self.shared.inbox.take_damage().is_some_and(|damaged| damaged == now) {
                self.file = None;
                self.replace();
            }
            match self.commit(&batch) {
                Ok(()) => {
                    self.shared.inbox.done(&batch);
                    self.tidy();
                }
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "the history is damaged");
                    self.file = None;
                    self.shared.inbox.failed();
                    self.replace();
                }
                Err(error) => {
                    self.shared.inbox.failed();
                    self.ill(&error);
                }
            }
            if batch.last {
                return;
            }
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), HistoryError> {
        if self.file.is_none() {
            let book = book::open(&self.shared.path, self.now_ms)?;
            self.take(book);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let step = file.transaction()?;
        // Kept apart until the commit, so that a batch that comes again finds what it found before.
        let (mut clock, mut newest, mut spoken_for) = (self.clock, self.newest, self.spoken_for);
        for event in &batch.events.items {
            events::write(&step, event, &mut clock)?;
            newest = newest.max(event.id);
        }
        for measurement in &batch.measurements.items {
            measured::write(&step, measurement)?;
        }
        for request in &batch.requests.items {
            requests::write(&step, request)?;
        }
        if batch.last || book::runs_out(newest, spoken_for) {
            spoken_for = book::speak_for(&step, newest, batch.last)?;
        }
        if batch.last {
            book::set_fact(&step, "closed", 1)?;
        }
        step.commit()?;
        (self.clock, self.newest, self.spoken_for) = (clock, newest, spoken_for);
        Ok(())
    }

    /// Thins once a minute. What fails is tried again a minute later; nothing is lost by it but room.
    fn tidy(&mut self) {
        let minute = self.now_ms.div_euclid(60_000);
        let Some(file) = self.file.as_mut().filter(|_| minute != self.thinned) else { return self.well() };
        let hourly = minute.div_euclid(60) != self.thinned.div_euclid(60);
        self.thinned = minute;
        match thin(file, self.now_ms, hourly) {
            Ok(()) => self.well(),
            Err(error) => self.ill(&error.into()),
        }
    }

    fn take(&mut self, book: Book) {
        self.clock = book.found.clock;
        self.file = Some(book.connection);
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(aside) = book.aside {
            self.warn(aside);
        }
    }

    /// Sets the damaged file aside and begins a new one.
    fn replace(&mut self) {
        match book::begin_anew(&self.shared.path, self.now_ms) {
            Ok(book) => {
                self.spoken_for = 0;
                self.take(book);
            }
            Err(error) => self.ill(&error),
        }
    }

    fn warn(&self, warning: Warning) {
        self.shared.warnings.send_modify(|warnings| {
            warnings.retain(|known| known.code != warning.code);
            warnings.push(warning);
        });
    }

    /// Told when it begins, not every five seconds.
    fn ill(&self, error: &HistoryError) {
        let known = self.shared.warnings.borrow().iter().find(|known| known.code == NOT_WRITTEN).cloned();
        let since = known.as_ref().map_or(Time::from_unix_ms(self.now_ms), |known| known.since);
        let warning = error.warning(&self.shared.path, since);
        if known.as_ref() != Some(&warning) {
            tracing::error!("{} {}", warning.message, warning.hint);
            self.warn(warning);
        }
    }

    fn well(&self) {
        let mended = self.shared.warnings.send_if_modified(|warnings| {
            let before = warnings.len();
            warnings.retain(|known| known.code != NOT_WRITTEN);
            warnings.len() < before
        });
        if mended {
            let lost = self.shared.inbox.lost();
            tracing::info!(
                lost,
                "the history is written again; so much was lost for want of room in this run"
            );
        }
    }
}

/// The code of the warning while writing fails.
pub(crate) const NOT_WRITTEN: &str = "history_not_written";

fn newest_ms(batch: &Batch) -> Option<i64> {
    let event = batch.events.items.last().map(|event| event.at.unix_ms());
    let measured = batch.measurements.items.last().map(|measured| measured.at_ms);
    let request = batch.requests.items.last().map(|request| request.at_ms);
    [measured, event, request].into_iter().flatten().next()
}

fn thin(file: &mut Connection, now_ms: i64, hourly: bool) -> rusqlite::Result<()> {
    let step = file.transaction()?;
    measured::thin(&step, now_ms.div_euclid(1000))?;
    requests::thin(&step, now_ms)?;
    events::thin(&step, now_ms)?;
    if hourly {
        events::thin_by_number(&step)?;
    }
    step.commit()
}

/// Starts with what the opening found.
pub(crate) fn start(
    shared: Arc<Shared>,
    file: Option<Connection>,
    clock: Clock,
    next_event: u64,
    wall_ms: i64,
) -> Writer {
    Writer {
        shared,
        file,
        clock,
        spoken_for: 0,
        newest: next_event.saturating_sub(1),
        now_ms: wall_ms,
        thinned: 0,
    }
}

/// Where the file of a data folder stands.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("history.db")
}

//! What waits to be written: bounded, never blocking those who bring it. Nothing leaves before it is committed, so
//! a reader that looks here and then into the file misses nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use manager::HistoryQuery;
use protocol::LedgerEvent;

use crate::{measured::Measurement, requests::RequestRow};

/// Between the first thing that waits and the commit.
const GATHER: Duration = Duration::from_secs(1);
/// After a failure.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How many of each kind may wait; the oldest make room.
const EVENTS: usize = 10_000;
const MEASUREMENTS: usize = 3600;
const REQUESTS: usize = 10_000;

/// One kind of thing, numbered from 0 in the order of arrival.
#[derive(Debug)]
struct Line<T> {
    most: usize,
    /// The number of the first one that waits.
    first: u64,
    waiting: VecDeque<T>,
}

impl<T: Clone> Line<T> {
    fn new(most: usize) -> Self {
        Self { most, first: 0, waiting: VecDeque::new() }
    }

    /// Whether one was lost for it.
    fn push(&mut self, one: T) -> bool {
        self.waiting.push_back(one);
        let full = self.waiting.len() > self.most;
        if full {
            self.waiting.pop_front();
            self.first += 1;
        }
        full
    }

    fn all(&self) -> Part<T> {
        Part { until: self.first + self.waiting.len() as u64, items: self.waiting.iter().cloned().collect() }
    }

    fn done(&mut self, until: u64) {
        while self.first < until && self.waiting.pop_front().is_some() {
            self.first += 1;
        }
        // What grew in bad times is given back.
        self.waiting.shrink_to(64);
    }
}

/// Copies of those that wait in a line, and the number behind the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Part<T> {
    until: u64,
    pub(crate) items: Vec<T>,
}

/// What is written at once.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) events: Part<Arc<LedgerEvent>>,
    pub(crate) measurements: Part<Arc<Measurement>>,
    pub(crate) requests: Part<Arc<RequestRow>>,
    /// Nothing comes after this.
    pub(crate) last: bool,
}

#[derive(Debug)]
struct Lines {
    events: Line<Arc<LedgerEvent>>,
    measurements: Line<Arc<Measurement>>,
    requests: Line<Arc<RequestRow>>,
    lost: u64,
    closing: bool,
    failed: bool,
    /// A reader found the file of this generation damaged.
    damaged: Option<u64>,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.events.waiting.is_empty()
            && self.measurements.waiting.is_empty()
            && self.requests.waiting.is_empty()
    }
}

/// Where things wait for the writer.
#[derive(Debug)]
pub(crate) struct Inbox {
    lines: Mutex<Lines>,
    changed: Condvar,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let lines = Lines {
            events: Line::new(EVENTS),
            measurements: Line::new(MEASUREMENTS),
            requests: Line::new(REQUESTS),
            lost: 0,
            closing: false,
            failed: false,
            damaged: None,
        };
        Self { lines: Mutex::new(lines), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Whoever panicked here was between two whole changes.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut Lines) -> bool) {
        let mut lines = self.lock();
        if put(&mut lines) {
            lines.lost += 1;
        }
        drop(lines);
        self.changed.notify_one();
    }

    pub(crate) fn put_event(&self, event: Arc<LedgerEvent>) {
        self.put(|lines| lines.events.push(event));
    }

    pub(crate) fn put_measurement(&self, measurement: Measurement) {
        self.put(|lines| lines.measurements.push(Arc::new(measurement)));
    }

    pub(crate) fn put_request(&self, request: RequestRow) {
        self.put(|lines| lines.requests.push(Arc::new(request)));
    }

    /// Events that wait and are wanted, oldest first.
    pub(crate) fn events(&self, wanted: &HistoryQuery) -> Vec<Arc<LedgerEvent>> {
        self.lock().events.waiting.iter().filter(|event| wanted.fits(event)).cloned().collect()
    }

    /// Measurements that wait, from this second on, oldest first.
    pub(crate) fn measurements(&self, since_s: i64) -> Vec<Arc<Measurement>> {
        let fits = |one: &&Arc<Measurement>| one.at_ms.div_euclid(1000) >= since_s;
        self.lock().measurements.waiting.iter().filter(fits).cloned().collect()
    }

    /// What was lost for want of room, in this run.
    pub(crate) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Waits until there is something to write, then a second more for what comes with it (after a failure: five),
    /// and gives copies of it. The last batch may be empty.
    pub(crate) fn next(&self) -> Batch {
        let lines = self.lock();
        let wait = |lines: &mut Lines| lines.is_empty() && !lines.closing && lines.damaged.is_none();
        let lines = self.changed.wait_while(lines, wait).unwrap_or_else(PoisonError::into_inner);
        let pause = if lines.failed { TRY_AGAIN } else { GATHER };
        let lines = self
            .changed
            .wait_timeout_while(lines, pause, |lines| !lines.closing && lines.damaged.is_none())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        Batch {
            events: lines.events.all(),
            measurements: lines.measurements.all(),
            requests: lines.requests.all(),
            last: lines.closing,
        }
    }

    /// A batch is committed.
    pub(crate) fn done(&self, batch: &Batch) {
        let mut lines = self.lock();
        lines.failed = false;
        lines.events.done(batch.events.until);
        lines.measurements.done(batch.measurements.until);
        lines.requests.done(batch.requests.until);
    }

    /// A batch could not be committed; it stays.
    pub(crate) fn failed(&self) {
        self.lock().failed = true;
    }

    /// Nothing more is to come.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_one();
    }

    /// A reader found the file of a generation damaged.
    pub(crate) fn tell_damage(&self, generation: u64) {
        let mut lines = self.lock();
        lines.damaged = lines.damaged.max(Some(generation));
        drop(lines);
        self.changed.notify_one();
    }

    /// The newest generation that a reader found damaged since this was asked last.
    pub(crate) fn take_damage(&self) -> Option<u64> {
        self.lock().damaged.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(at_ms: i64) -> Measurement {
        Measurement { at_ms, ..Measurement::default() }
    }

    #[test]
    fn what_waits_stays_visible_until_it_is_committed() {
        let inbox = Inbox::new();
        inbox.put_measurement(measurement(1000));
        inbox.close();
        let batch = inbox.next();
        assert_eq!((batch.measurements.items.len(), inbox.measurements(0).len()), (1, 1));
        inbox.put_measurement(measurement(2000));
        inbox.failed();
        inbox.done(&batch);
        assert_eq!(inbox.measurements(0), [Arc::new(measurement(2000))]);
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let inbox = Inbox::new();
        for second in 0..4000 {
            inbox.put_measurement(measurement(second * 1000));
        }
        let waiting = inbox.measurements(0);
        assert_eq!((waiting.len(), waiting[0].at_ms, inbox.lost()), (3600, 400_000, 400));
        inbox.close();
        let batch = inbox.next();
        // While a batch is being written the oldest of it may be pushed out; no other goes in their place.
        inbox.put_measurement(measurement(4_000_000));
        inbox.done(&batch);
        assert_eq!(inbox.measurements(0).len(), 1);
    }
}

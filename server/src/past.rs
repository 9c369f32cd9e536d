//! What the server writes down: how it started and stopped, what was measured, how requests went. The ledger's events
//! come from the manager by themselves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use app::pure::series::{Point, SPAN_MS, thinned};
use history::{Columns, History, Measurement, Opened, RequestRow, SeriesQuery};
use manager::{Desk, HistoryPage, HistoryQuery, Meter, Note, STARTED, STOPPED, Standing};
use protocol::{Amount, Code, EventKind, LedgerEvent, Measurements, ModelId, Performance, Problem, Sample};
use supervisor::Reclaimed;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    compose::{House, VERSION},
    metrics::Counts,
    relay::{self, Finished},
};

/// A page waits so long for what it is drawn from.
const FIRST_PAINT: Duration = Duration::from_millis(200);

/// Where the manager's ledger goes: into the file, and into what is counted of this run.
pub(crate) struct Archive {
    pub(crate) history: History,
    pub(crate) counts: Arc<Counts>,
}

impl manager::ports::Archive for Archive {
    fn keep(&self, event: &Arc<LedgerEvent>) {
        self.counts.event(event);
        manager::ports::Archive::keep(&self.history, event);
    }
}

/// Gives every measurement to the history, until the manager ends.
pub(crate) async fn record(mut samples: watch::Receiver<Arc<Sample>>, history: History) {
    while samples.changed().await.is_ok() {
        let sample = samples.borrow_and_update().clone();
        // Before the first measurement a sample is empty, and nothing was measured.
        if sample.host.is_some() {
            history.keep_measurement(measurement(&sample));
        }
    }
}

fn measurement(sample: &Sample) -> Measurement {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    // A device of which a column is unknown has no row: a nought would be taken for a measurement.
    let books = sample.books.iter().filter_map(|book| {
        let columns = Columns {
            models: signed(book.models_bytes?),
            server: signed(book.server_bytes),
            other: book.other_bytes?,
            free: signed(book.free_bytes),
            unaccounted: book.unaccounted_bytes?,
        };
        Some((book.device.clone(), columns))
    });
    let models = sample.models.iter();
    Measurement {
        at_ms: sample.at.unix_ms(),
        books: books.collect(),
        models: models
            .filter_map(|model| Some((model.id.clone(), model.memory.as_ref()?.private_bytes)))
            .collect(),
        cpu_percent: sample.host.as_ref().map(|host| host.cpu_percent),
    }
}

/// The line with which this run begins: which server, and how the one before ended.
pub(crate) fn started(opened: &Opened) -> Note {
    let mut detail = format!("version {VERSION}, process {}", std::process::id());
    if opened.cut_off {
        detail.push_str("; the server before was cut off");
        let held = lost(&opened.since_start);
        if !held.is_empty() {
            detail.push_str(" while it held ");
            detail.push_str(&held.join(", "));
        }
    }
    note(STARTED, detail)
}

/// The models that the ledger leaves loaded, in words.
fn lost(events: &[LedgerEvent]) -> Vec<String> {
    let standing: BTreeMap<_, _> = manager::replay(events);
    let words = |(model, standing): (ModelId, Standing)| match standing {
        Standing::Loaded { bytes: Some(bytes), .. } => format!("{model} ({})", app::words::bytes(bytes)),
        Standing::Loaded { bytes: None, .. } => model.to_string(),
        Standing::Stuck => format!("{model} (stuck)"),
    };
    standing.into_iter().map(words).collect()
}

/// The line with which this run ends.
pub(crate) async fn stopped(desk: &Desk) {
    desk.note(note(STOPPED, format!("version {VERSION}, process {}", std::process::id()))).await;
}

fn note(reason: &str, detail: String) -> Note {
    let by = if reason == STARTED { "start" } else { "stop" }.to_owned();
    let (kind, reason) = (EventKind::Server, reason.to_owned());
    Note { kind, model: None, reason, by, bytes_before: None, bytes_after: None, detail }
}

/// The line about a worker that an earlier server had left behind.
pub(crate) fn left_over(one: &Reclaimed) -> Note {
    Note {
        kind: EventKind::Reclaim,
        model: one.model.parse().ok(),
        reason: "left over from an earlier server".to_owned(),
        by: "start".to_owned(),
        bytes_before: Some(one.bytes),
        bytes_after: Some(if one.gone { 0 } else { one.bytes }),
        detail: format!("process {} {}", one.pid, if one.gone { "was ended" } else { "cannot be ended" }),
    }
}

/// How one request goes, gathered until it ends. No prompt, no answer, nobody's name.
pub(crate) struct Course {
    arrived: Instant,
    row: RequestRow,
    meter: Option<Arc<Meter>>,
}

impl Course {
    /// A request that arrived then.
    pub(crate) fn new(model: ModelId, arrived: Instant) -> Self {
        let row = RequestRow {
            at_ms: 0,
            model,
            outcome: history::DONE,
            queue_ms: None,
            load_ms: None,
            ttft_ms: None,
            duration_ms: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            tokens_per_second: None,
        };
        Self { arrived, row, meter: None }
    }

    /// It has its place in the model.
    pub(crate) fn leased(&mut self, queue_ms: u64, load_ms: Option<u64>, meter: &Arc<Meter>) {
        (self.row.queue_ms, self.row.load_ms, self.meter) = (Some(queue_ms), load_ms, Some(meter.clone()));
    }

    /// Its answer came to an end.
    pub(crate) fn answered(&mut self, finished: &Finished) {
        let (usage, decode_us) = (finished.usage, finished.timings.decode_us);
        self.row.ttft_ms = finished.ttft_ms;
        self.row.cached_tokens = usage.cached_tokens.into();
        self.row.tokens_per_second = (usage.completion_tokens > 0 && decode_us > 0)
            .then(|| f64::from(usage.completion_tokens) * 1e6 / decode_us as f64);
        self.meter = None;
        (self.row.prompt_tokens, self.row.completion_tokens) =
            (usage.prompt_tokens.into(), usage.completion_tokens.into());
    }

    /// So many tokens were made into vectors.
    pub(crate) fn read(&mut self, prompt_tokens: u32) {
        self.meter = None;
        self.row.prompt_tokens = prompt_tokens.into();
    }

    fn ended(mut self, outcome: Result<(), Code>, at_ms: i64) -> RequestRow {
        // Of an answer that broke off, what was counted on the way.
        if let Some(meter) = self.meter {
            self.row.prompt_tokens = meter.prompt_tokens();
            self.row.completion_tokens = meter.completion_tokens();
        }
        self.row.outcome = outcome.map_or_else(Code::word, |()| history::DONE);
        self.row.duration_ms = relay::ms(self.arrived);
        RequestRow { at_ms, ..self.row }
    }
}

impl House {
    /// Writes down how a request went.
    pub(crate) fn record(&self, course: Course, outcome: Result<(), Code>) {
        let row = course.ended(outcome, self.wall_ms());
        self.counts().request(&row);
        self.history().keep_request(row);
    }

    /// A page of the ledger.
    pub(crate) async fn past(&self, wanted: HistoryQuery) -> Result<HistoryPage, Problem> {
        self.history().page(&wanted).await
    }

    /// A series of measurements up to now.
    pub(crate) async fn measured(
        &self,
        series: String,
        since_ms: i64,
        step_s: u64,
    ) -> Result<Measurements, Problem> {
        let until_s = self.wall_ms().div_euclid(1000);
        let wanted = SeriesQuery {
            series,
            since_s: since_ms.div_euclid(1000),
            until_s,
            step_s: i64::try_from(step_s).unwrap_or(i64::MAX),
        };
        self.history().series(wanted).await
    }

    /// What models held over the last fifteen minutes, for a page's first paint. A slow disk makes the picture begin
    /// empty; it never makes the page wait.
    pub(crate) async fn held_lately(&self) -> Vec<Point> {
        let since_ms = self.wall_ms().saturating_sub(SPAN_MS);
        let read = timeout(FIRST_PAINT, self.measured("models".to_owned(), since_ms, 1)).await;
        let points = read.ok().and_then(Result::ok).map(|series| series.points).unwrap_or_default();
        thinned(points.into_iter().map(|point| {
            Point {
                at: point.at,
                held: point
                    .values
                    .into_iter()
                    .filter_map(|(id, Amount(bytes))| Some((id.parse().ok()?, bytes as u64)))
                    .collect(),
            }
        }))
    }

    /// How well models answered up to now.
    pub(crate) async fn performed(&self) -> Result<Performance, Problem> {
        self.history().performance(self.wall_ms()).await
    }
}

#[cfg(test)]
mod tests {
    use protocol::Time;

    use super::*;

    #[test]
    fn what_an_earlier_server_left_is_written_down_with_what_it_held_and_what_is_left_of_it() {
        let bytes = |gone| {
            let note = left_over(&Reclaimed { model: "m".to_owned(), pid: 7, bytes: 33, gone });
            (note.bytes_before, note.bytes_after)
        };
        assert_eq!(bytes(true), (Some(33), Some(0)));
        assert_eq!(bytes(false), (Some(33), Some(33)), "it cannot be ended");
    }

    #[test]
    fn a_start_after_a_kill_says_what_went_with_the_server_before() {
        let dir = tempfile::tempdir().unwrap();
        let opened = History::open(dir.path(), 1_000_000).unwrap();
        assert!(!started(&opened).detail.contains("cut off"));
        let load = LedgerEvent {
            id: 1,
            at: Time::from_unix_ms(0),
            kind: EventKind::Load,
            model: "smollm2".parse().ok(),
            reason: "request".to_owned(),
            asked_by: String::new(),
            duration_ms: Some(60),
            bytes_before: Some(0),
            bytes_after: Some(33 << 20),
            receipt: None,
            detail: String::new(),
        };
        let cut = Opened { cut_off: true, since_start: vec![load], ..opened };
        let detail = started(&cut).detail;
        assert!(
            detail.ends_with("the server before was cut off while it held smollm2 (33.0 MiB)"),
            "{detail}"
        );
    }
}

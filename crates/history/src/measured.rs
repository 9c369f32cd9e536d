//! Measurements: one row a second for an hour, one a minute for a week, one an hour for a year. A coarser row is the
//! mean of the finer ones, weighted by how many samples each is made of.

use std::collections::BTreeMap;

use protocol::{Amount, MeasuredPoint, ModelId, Time};
use rusqlite::{Connection, params, types::Type};
use serde::{Deserialize, Serialize};

/// Steps in seconds, each with how long its rows are kept.
const STEPS: [(i64, i64); 3] = [(1, 3600), (60, 7 * 86_400), (3600, 366 * 86_400)];
/// Points in one answer; a finer step is widened until they fit.
const POINTS: i64 = 2000;

/// The books of a device at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Held by models.
    pub models: i64,
    /// By the server.
    pub server: i64,
    /// By everybody else.
    pub other: i64,
    /// By nobody.
    pub free: i64,
    /// The remainder.
    pub unaccounted: i64,
}

/// What was measured at one moment, or the mean over a span that begins then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// When, in Unix milliseconds.
    #[serde(skip)]
    pub at_ms: i64,
    /// By device: `ram`, `gpu:0`.
    pub books: BTreeMap<String, Columns>,
    /// Private bytes of each model that was loaded and measured. One that is missing held nothing.
    pub models: BTreeMap<ModelId, u64>,
    /// Busy share of all processors, 0 to 100; `None`: unknown.
    pub cpu_percent: Option<f64>,
}

/// Which measurements are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesQuery {
    /// `ram`, `gpu:0`, `models`, or `cpu`.
    pub series: String,
    /// From this second on.
    pub since_s: i64,
    /// This second is the last.
    pub until_s: i64,
    /// Seconds that one point stands for.
    pub step_s: i64,
}

impl SeriesQuery {
    /// The step that is used: the wanted one, or as many whole times of it as keep the points within bounds.
    pub fn step(&self) -> i64 {
        let wanted = self.step_s.max(1);
        let span = self.until_s.saturating_sub(self.since_s).max(1);
        wanted * (span / wanted / POINTS + 1)
    }
}

/// A row of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) at_s: i64,
    pub(crate) samples: i64,
    pub(crate) measured: Measurement,
}

impl From<&Measurement> for Row {
    fn from(measured: &Measurement) -> Self {
        Self { at_s: measured.at_ms.div_euclid(1000), samples: 1, measured: measured.clone() }
    }
}

/// Writes one second.
pub(crate) fn write(book: &Connection, measured: &Measurement) -> rusqlite::Result<()> {
    put(book, 1, &measured.into())
}

fn put(book: &Connection, step_s: i64, row: &Row) -> rusqlite::Result<()> {
    let body = serde_json::to_string(&row.measured)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    book.execute(
        "INSERT OR REPLACE INTO measured VALUES (?1, ?2, ?3, ?4)",
        params![step_s, row.at_s, row.samples, body],
    )
    .map(drop)
}

/// Rows of one step with `from <= at < to`, oldest first.
fn rows(book: &Connection, step_s: i64, from: i64, to: i64) -> rusqlite::Result<Vec<Row>> {
    let mut found = book.prepare(
        "SELECT at_s, samples, body FROM measured WHERE step_s = ?1 AND at_s >= ?2 AND at_s < ?3 ORDER BY at_s",
    )?;
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Row> {
        let (at_s, body): (i64, String) = (row.get(0)?, row.get(2)?);
        let measured: Measurement = serde_json::from_str(&body)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(error)))?;
        let measured = Measurement { at_ms: at_s.saturating_mul(1000), ..measured };
        Ok(Row { at_s, samples: row.get(1)?, measured })
    };
    // One that cannot be read counts as not measured.
    let told =
        |error: &rusqlite::Error| tracing::warn!(%error, "a measurement of the history cannot be read");
    let found = found.query_map(params![step_s, from, to], |row| Ok(read(row).inspect_err(told).ok()))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The first or the newest second of a step's rows, up to `now`.
fn edge(book: &Connection, step_s: i64, edge: &str, now_s: i64) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT {edge}(at_s) FROM measured WHERE step_s = ?1 AND at_s <= ?2");
    book.query_row(&sql, [step_s, now_s], |row| row.get(0))
}

/// Makes coarser rows of finer ones, as far as their spans are over, and removes what is too old. May be called at any
/// time, and makes up for what a killed server left undone.
pub(crate) fn thin(book: &Connection, now_s: i64) -> rusqlite::Result<()> {
    for pair in STEPS.windows(2) {
        let [(fine, _), (coarse, _)] = pair else { continue };
        let made = edge(book, *coarse, "max", now_s)?.map(|newest| newest + coarse);
        let Some(from) = made.or(edge(book, *fine, "min", now_s)?) else { continue };
        let (from, to) = (floor(from, *coarse), floor(now_s, *coarse));
        for row in means(rows(book, *fine, from, to)?, *coarse) {
            put(book, *coarse, &row)?;
        }
    }
    for (step, kept) in STEPS {
        book.execute("DELETE FROM measured WHERE step_s = ?1 AND at_s < ?2", [step, now_s - kept])?;
    }
    Ok(())
}

fn floor(at_s: i64, step_s: i64) -> i64 {
    at_s.div_euclid(step_s) * step_s
}

/// One row for each span that has any.
fn means(rows: Vec<Row>, step_s: i64) -> Vec<Row> {
    rows.chunk_by(|a, b| floor(a.at_s, step_s) == floor(b.at_s, step_s))
        .filter_map(|span| mean(span, floor(span.first()?.at_s, step_s)))
        .collect()
}

/// The mean of some rows. A model that a row does not name held nothing then; a device or a share that it does not
/// name was not known, and does not count.
fn mean(rows: &[Row], at_s: i64) -> Option<Row> {
    let samples: i64 = rows.iter().map(|row| row.samples).sum();
    if samples <= 0 {
        return None;
    }
    let mut books = BTreeMap::<String, (i128, [i128; 5])>::new();
    let mut models = BTreeMap::<ModelId, i128>::new();
    let (mut cpu, mut cpu_samples) = (0.0, 0);
    for Row { samples, measured, .. } in rows {
        for (device, c) in &measured.books {
            let (counted, sums) = books.entry(device.clone()).or_default();
            *counted += i128::from(*samples);
            for (sum, column) in sums.iter_mut().zip([c.models, c.server, c.other, c.free, c.unaccounted]) {
                *sum += i128::from(column) * i128::from(*samples);
            }
        }
        for (model, bytes) in &measured.models {
            *models.entry(model.clone()).or_default() += i128::from(*bytes) * i128::from(*samples);
        }
        if let Some(percent) = measured.cpu_percent {
            cpu += percent * *samples as f64;
            cpu_samples += samples;
        }
    }
    let whole = |sum: i128, count: i128| i64::try_from(sum / count.max(1)).unwrap_or(i64::MAX);
    let columns = |(count, [a, b, c, d, e]): (i128, [i128; 5])| Columns {
        models: whole(a, count),
        server: whole(b, count),
        other: whole(c, count),
        free: whole(d, count),
        unaccounted: whole(e, count),
    };
    let measured = Measurement {
        at_ms: at_s.saturating_mul(1000),
        books: books.into_iter().map(|(device, sums)| (device, columns(sums))).collect(),
        models: models
            .into_iter()
            .map(|(model, sum)| (model, u64::try_from(sum / i128::from(samples)).unwrap_or(u64::MAX)))
            .collect(),
        cpu_percent: (cpu_samples > 0).then(|| cpu / cpu_samples as f64),
    };
    Some(Row { at_s, samples, measured })
}

/// Rows from a second on, oldest first, each moment once: as coarse as `step_s` allows where there are such rows, finer
/// at the end where they are not made yet, coarser at the beginning where the finer ones are gone.
pub(crate) fn best_rows(
    book: &Connection,
    since_s: i64,
    until_s: i64,
    step_s: i64,
) -> rusqlite::Result<Vec<Row>> {
    let base = STEPS.iter().rposition(|(step, _)| *step <= step_s.max(1)).unwrap_or(0);
    let mut found = Vec::new();
    let mut from = since_s;
    // From the coarsest to the finest: each takes over where the one before has no more to say.
    for (at, (step, _)) in STEPS.iter().enumerate().rev() {
        let end = if at > base {
            // Only where nothing finer is left.
            let finer = STEPS[..at].iter().map(|(step, _)| edge(book, *step, "min", until_s));
            let finer = finer.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().min();
            finer.unwrap_or(i64::MAX)
        } else {
            until_s.saturating_add(1)
        };
        let part = rows(book, *step, from, end)?;
        if let Some(last) = part.last() {
            from = last.at_s + step;
        }
        found.extend(part);
    }
    Ok(found)
}

/// Points of a series, one for each span of the query's step in which there was a measurement.
pub(crate) fn points(rows: Vec<Row>, wanted: &SeriesQuery) -> Vec<MeasuredPoint> {
    let step = wanted.step();
    let point = |row: Row| {
        let values = values(&row.measured, &wanted.series)?;
        Some(MeasuredPoint { at: Time::from_unix_ms(row.measured.at_ms), values })
    };
    means(rows, step).into_iter().filter_map(point).collect()
}

/// The named numbers of a series; `None`: they were not known then.
fn values(measured: &Measurement, series: &str) -> Option<BTreeMap<String, Amount>> {
    match series {
        "models" => {
            let held = measured.models.iter();
            Some(held.map(|(model, bytes)| (model.to_string(), Amount::from(*bytes))).collect())
        }
        "cpu" => Some(BTreeMap::from([("cpu_percent".to_owned(), Amount(measured.cpu_percent?))])),
        device => {
            let c = measured.books.get(device)?;
            let named = [
                ("models_bytes", c.models),
                ("server_bytes", c.server),
                ("other_bytes", c.other),
                ("free_bytes", c.free),
                ("unaccounted_bytes", c.unaccounted),
            ];
            Some(named.into_iter().map(|(name, bytes)| (name.to_owned(), Amount::from(bytes))).collect())
        }
    }
}

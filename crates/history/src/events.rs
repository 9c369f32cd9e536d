//! The ledger's events in the file: written once, read in pages from the newest back.

use manager::HistoryQuery;
use protocol::{EventKind, LedgerEvent, Receipt, Time};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params, types::Type};
use serde::{Deserialize, Serialize};

use crate::book::{self, Clock};

/// Events are kept so long, and so many of them at most.
const KEPT_MS: i64 = 366 * 86_400_000;
const KEPT: i64 = 1_000_000;
/// Rows that one pass removes, so that no commit is long.
const AT_ONCE: i64 = 5000;

/// What has no column of its own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    asked_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// Writes an event. One that is there already stays as it is: a batch may come twice.
pub(crate) fn write(book: &Connection, event: &LedgerEvent, clock: &mut Clock) -> rusqlite::Result<()> {
    let LedgerEvent {
        id,
        at,
        kind,
        model,
        reason,
        asked_by,
        duration_ms,
        bytes_before,
        bytes_after,
        receipt,
        detail,
    } = event.clone();
    let body = Body { reason, asked_by, duration_ms, bytes_before, bytes_after, receipt, detail };
    let body = serde_json::to_string(&body)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let at_ms = at.unix_ms();
    book.execute(
        "INSERT OR IGNORE INTO event VALUES (?1, ?2, ?3, ?4, ?5)",
        params![id, at_ms, kind.word(), model.as_ref().map(|model| model.as_str()), body],
    )?;
    let back = clock.newest_ms.saturating_sub(at_ms);
    if back > clock.back_ms {
        clock.back_ms = back;
        book::set_fact(book, "clock_back_ms", back)?;
    }
    clock.newest_ms = clock.newest_ms.max(at_ms);
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<LedgerEvent> {
    let bad = |at: usize| move |error| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, error);
    let kind: String = row.get(2)?;
    let kind = EventKind::ALL.into_iter().find(|known| known.word() == kind);
    let model: Option<String> = row.get(3)?;
    let model = model.map(|model| model.parse()).transpose();
    let body: String = row.get(4)?;
    let body: Body = serde_json::from_str(&body).map_err(|error| bad(4)(Box::new(error)))?;
    Ok(LedgerEvent {
        id: row.get(0)?,
        at: Time::from_unix_ms(row.get(1)?),
        kind: kind.ok_or_else(|| bad(2)("no such kind".into()))?,
        model: model.map_err(|error| bad(3)(Box::new(error)))?,
        reason: body.reason,
        asked_by: body.asked_by,
        duration_ms: body.duration_ms,
        bytes_before: body.bytes_before,
        bytes_after: body.bytes_after,
        receipt: body.receipt,
        detail: body.detail,
    })
}

/// Events from this number on, oldest first.
pub(crate) fn since(book: &Connection, id: u64, limit: u32) -> rusqlite::Result<Vec<LedgerEvent>> {
    let mut rows = book.prepare(
        "SELECT * FROM (SELECT * FROM event WHERE id >= ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id",
    )?;
    rows.query_map(params![id, limit], read)?.collect()
}

/// Wanted events, newest first, at most `limit`.
pub(crate) fn page(
    book: &Connection,
    wanted: &HistoryQuery,
    limit: u32,
) -> rusqlite::Result<Vec<LedgerEvent>> {
    let (low, high) = bounds(book, wanted)?;
    let (model, kind) = (wanted.model.as_ref().map(|model| model.as_str()), wanted.kind.map(EventKind::word));
    let (since, until) = (wanted.since_ms.unwrap_or(i64::MIN), wanted.until_ms.unwrap_or(i64::MAX));
    let mut sql = "SELECT id, at_ms, kind, model, body FROM event WHERE id BETWEEN :low AND :high".to_owned();
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":low", &low), (":high", &high)];
    if let Some(model) = &model {
        sql.push_str(" AND model = :model");
        values.push((":model", model));
    }
    if let Some(kind) = &kind {
        sql.push_str(" AND kind = :kind");
        values.push((":kind", kind));
    }
    if wanted.since_ms.is_some() || wanted.until_ms.is_some() {
        sql.push_str(" AND at_ms BETWEEN :since AND :until");
        values.extend([(":since", &since as &dyn ToSql), (":until", &until)]);
    }
    sql.push_str(" ORDER BY id DESC LIMIT :limit");
    values.push((":limit", &limit));
    let mut rows = book.prepare(&sql)?;
    rows.query_map(values.as_slice(), read)?.collect()
}

/// The numbers between which every wanted event lies.
///
/// Numbers grow with time, except where the wall clock was set back, by `back` at most. So an event before `since -
/// back` has only unwanted ones before it, and one after `until + back` only unwanted ones behind it. Without these
/// bounds a search for a quiet hour a year ago would look at every event since.
fn bounds(book: &Connection, wanted: &HistoryQuery) -> rusqlite::Result<(i64, i64)> {
    let mut high = wanted.after.map_or(i64::MAX, |after| i64::try_from(after).unwrap_or(i64::MAX) - 1);
    let mut low = i64::MIN;
    if wanted.since_ms.is_none() && wanted.until_ms.is_none() {
        return Ok((low, high));
    }
    let back = book::fact(book, "clock_back_ms")?.unwrap_or(0);
    let one = |sql: &str, at: i64| {
        book.query_row(sql, named_params! { ":at": at }, |row| row.get::<_, i64>(0)).optional()
    };
    if let Some(since) = wanted.since_ms {
        let before = one(
            "SELECT id FROM event WHERE at_ms < :at ORDER BY at_ms DESC LIMIT 1",
            since.saturating_sub(back),
        )?;
        low = before.unwrap_or(low);
    }
    if let Some(until) = wanted.until_ms {
        let behind =
            one("SELECT id FROM event WHERE at_ms > :at ORDER BY at_ms LIMIT 1", until.saturating_add(back))?;
        high = high.min(behind.unwrap_or(high));
    }
    Ok((low, high))
}

/// How long the loads of each model took since then: (model, when, milliseconds).
pub(crate) fn load_times(book: &Connection, since_ms: i64) -> rusqlite::Result<Vec<(String, i64, u64)>> {
    let wanted = HistoryQuery { since_ms: Some(since_ms), ..HistoryQuery::default() };
    let (low, _) = bounds(book, &wanted)?;
    let mut rows = book.prepare(
        "SELECT model, at_ms, json_extract(body, '$.duration_ms') FROM event
         WHERE kind = ?1 AND id >= ?2 AND at_ms >= ?3 AND model IS NOT NULL
         AND json_extract(body, '$.duration_ms') IS NOT NULL ORDER BY id DESC LIMIT 20000",
    )?;
    let found = rows.query_map(params![EventKind::Load.word(), low, since_ms], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    found.collect()
}

/// Removes what is too old, some at a time.
pub(crate) fn thin(book: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    book.execute(
        "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
        params![now_ms.saturating_sub(KEPT_MS), AT_ONCE],
    )
    .map(drop)
}

/// Removes the oldest of too many, some at a time. Counts them all, so it is for now and then.
pub(crate) fn thin_by_number(book: &Connection) -> rusqlite::Result<()> {
    let count: i64 = book.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    let surplus = (count - KEPT).clamp(0, AT_ONCE);
    book.execute("DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT ?1)", [surplus])
        .map(drop)
}

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

/// The newest events from this number on, and of each model the one that says how it stands, however old that is; oldest
/// first. Names and newest numbers are found by steps in the index: a file of a year is no reason to start slowly.
pub(crate) fn since(book: &Connection, id: u64, limit: u32) -> rusqlite::Result<Vec<LedgerEvent>> {
    let newest = |kind: EventKind| {
        let word = kind.word();
        format!("coalesce((SELECT max(id) FROM event WHERE model = name.model AND kind = '{word}'), 0)")
    };
    let standing = [EventKind::Load, EventKind::Unload, EventKind::Evict].map(newest).join(", ");
    let mut rows = book.prepare(&format!(
        "WITH RECURSIVE name(model) AS (
             SELECT min(model) FROM event WHERE model IS NOT NULL
             UNION ALL
             SELECT (SELECT min(model) FROM event WHERE model > name.model) FROM name WHERE model IS NOT NULL
         )
         SELECT * FROM event WHERE id IN (
             SELECT * FROM (SELECT id FROM event WHERE id >= ?1 ORDER BY id DESC LIMIT ?2)
             UNION
             SELECT max({standing}) FROM name WHERE model IS NOT NULL
         ) AND id >= ?1 ORDER BY id"
    ))?;
    let rows = rows.query_map(params![id, limit], row_of)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(readable(rows))
}

/// A row's number, and the event in it.
fn row_of(row: &Row<'_>) -> rusqlite::Result<(i64, rusqlite::Result<LedgerEvent>)> {
    Ok((row.get(0)?, read(row)))
}

/// The events of those rows that can be read. One that cannot (its bytes were changed, or an Innkeeper with kinds of its own
/// wrote it) must not take the others along.
fn readable(rows: Vec<(i64, rusqlite::Result<LedgerEvent>)>) -> Vec<LedgerEvent> {
    let event = |(id, read): (i64, rusqlite::Result<LedgerEvent>)| {
        read.inspect_err(|error| tracing::warn!(id, %error, "an event of the history cannot be read")).ok()
    };
    rows.into_iter().filter_map(event).collect()
}

/// Wanted events, newest first, at most `limit`.
pub(crate) fn page(
    book: &Connection,
    wanted: &HistoryQuery,
    limit: u32,
) -> rusqlite::Result<Vec<LedgerEvent>> {
    let (low, mut high) = bounds(book, wanted)?;
    let (model, kind) = (wanted.model.as_ref().map(|model| model.as_str()), wanted.kind.map(EventKind::word));
    let (since, until) = (wanted.since_ms.unwrap_or(i64::MIN), wanted.until_ms.unwrap_or(i64::MAX));
    let mut sql = "SELECT id, at_ms, kind, model, body FROM event WHERE id BETWEEN :low AND :high".to_owned();
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":low", &low)];
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
    let mut rows = book.prepare(&sql)?;
    let mut found = Vec::new();
    // Once, unless some rows could not be read: then others take their places.
    loop {
        let missing = limit - u32::try_from(found.len()).unwrap_or(limit);
        let mut values = values.clone();
        values.extend([(":high", &high as &dyn ToSql), (":limit", &missing)]);
        let more = rows.query_map(values.as_slice(), row_of)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let last = more.last().map(|(id, _)| *id);
        let was_full = more.len() == usize::try_from(missing).unwrap_or(usize::MAX);
        found.extend(readable(more));
        match last {
            Some(last) if was_full && found.len() < usize::try_from(limit).unwrap_or(usize::MAX) => {
                high = last - 1;
            }
            _ => return Ok(found),
        }
    }
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
        "SELECT model, at_ms, CASE WHEN json_valid(body) THEN json_extract(body, '$.duration_ms') END AS ms FROM event
         WHERE kind = ?1 AND id >= ?2 AND at_ms >= ?3 AND model IS NOT NULL
         AND ms IS NOT NULL ORDER BY id DESC LIMIT 20000",
    )?;
    let time = |row: &Row<'_>| -> rusqlite::Result<_> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
    let found = rows.query_map(params![EventKind::Load.word(), low, since_ms], |row| Ok(time(row).ok()))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Removes what is too old, some at a time. The order of the numbers is the order of time: what came after something young
/// enough is young enough, though a clock that was wrong for a while has written another year.
pub(crate) fn thin(book: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    book.execute(
        "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id < coalesce(
             (SELECT id FROM event WHERE at_ms >= ?1 ORDER BY id LIMIT 1), 9223372036854775807)
         ORDER BY id LIMIT ?2)",
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

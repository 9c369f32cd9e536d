//! One row of numbers for each request that ended: no prompt, no answer, no name of who asked.

use protocol::ModelId;
use rusqlite::{Connection, Row, params};

/// Rows are kept for a day and an hour, and so many of them at most.
const KEPT_MS: i64 = 25 * 3_600_000;
const KEPT: i64 = 200_000;

/// What a request did. Times in milliseconds; `None`: it did not come to that.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRow {
    /// When it ended, in Unix milliseconds.
    pub at_ms: i64,
    /// Of which model.
    pub model: ModelId,
    /// `done`, or the word of the problem with which it ended.
    pub outcome: &'static str,
    /// From the request to the lease, a load included.
    pub queue_ms: Option<u64>,
    /// Of that, the load, if one happened for it.
    pub load_ms: Option<u64>,
    /// From the request to the first text.
    pub ttft_ms: Option<u64>,
    /// From the request to its end.
    pub duration_ms: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Of these, taken from the session's cache.
    pub cached_tokens: u64,
    /// Tokens made.
    pub completion_tokens: u64,
    /// While tokens were being made.
    pub tokens_per_second: Option<f64>,
}

/// The outcome of a request that ended well.
pub const DONE: &str = "done";

/// Writes a row.
pub(crate) fn write(book: &Connection, row: &RequestRow) -> rusqlite::Result<()> {
    book.execute(
        "INSERT INTO request (at_ms, model, outcome, queue_ms, load_ms, ttft_ms, duration_ms, prompt_tokens,
         cached_tokens, completion_tokens, tokens_per_second) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            row.at_ms,
            row.model.as_str(),
            row.outcome,
            row.queue_ms,
            row.load_ms,
            row.ttft_ms,
            row.duration_ms,
            row.prompt_tokens,
            row.cached_tokens,
            row.completion_tokens,
            row.tokens_per_second
        ],
    )
    .map(drop)
}

/// What percentiles are made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) at_ms: i64,
    pub(crate) model: String,
    pub(crate) failed: bool,
    pub(crate) queue_ms: Option<f64>,
    pub(crate) ttft_ms: Option<f64>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) tokens_per_second: Option<f64>,
}

/// Requests that ended since then.
pub(crate) fn since(book: &Connection, since_ms: i64) -> rusqlite::Result<Vec<Told>> {
    let mut rows = book.prepare(
        "SELECT at_ms, model, outcome <> ?2, queue_ms, ttft_ms, prompt_tokens, completion_tokens, tokens_per_second
         FROM request WHERE at_ms >= ?1",
    )?;
    let told = |row: &Row<'_>| {
        Ok(Told {
            at_ms: row.get(0)?,
            model: row.get(1)?,
            failed: row.get(2)?,
            queue_ms: row.get(3)?,
            ttft_ms: row.get(4)?,
            prompt_tokens: row.get(5)?,
            completion_tokens: row.get(6)?,
            tokens_per_second: row.get(7)?,
        })
    };
    rows.query_map(params![since_ms, DONE], told)?.collect()
}

/// Removes what is too old or too much. Numbers have no gaps, so the newest one says how many there may be.
pub(crate) fn thin(book: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    book.execute("DELETE FROM request WHERE at_ms < ?1", [now_ms.saturating_sub(KEPT_MS)])?;
    book.execute("DELETE FROM request WHERE id <= (SELECT max(id) FROM request) - ?1", [KEPT]).map(drop)
}

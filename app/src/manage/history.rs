//! GET /manage/history

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::{EventKind, LedgerEvent};
use serde::{Deserialize, Serialize};

use super::Refusal;

/// A page of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Newest first.
    pub events: Vec<LedgerEvent>,
    /// The next page's `after`; `null`: this is the last one.
    pub next: Option<u64>,
}

/// What happened, newest first. `since` and `until` take a time or a span that reaches back from now (`1h`); at
/// most 1000 events a page, 100 unless told.
#[server(name = ReadHistory, prefix = "/manage", endpoint = "history", input = GetUrl)]
pub async fn history(
    model: Option<String>,
    kind: Option<EventKind>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    after: Option<u64>,
) -> Result<History, Refusal> {
    let now_ms = crate::request::house()?.snapshot().at.unix_ms();
    let bound = |text: Option<String>| text.map(|text| moment(&text, now_ms)).transpose();
    let query = manager::HistoryQuery {
        model: model.as_deref().map(super::arguments::id).transpose()?,
        kind,
        since_ms: bound(since)?,
        until_ms: bound(until)?,
        limit: limit.unwrap_or(100).clamp(1, 1000),
        after,
    };
    let page = crate::request::desk()?.history(&query);
    Ok(History { events: page.events, next: page.next })
}

/// A moment in Unix milliseconds, from a time or from a span before now.
#[cfg(feature = "ssr")]
fn moment(text: &str, now_ms: i64) -> Result<i64, Refusal> {
    if let Ok(time) = text.parse::<protocol::Time>() {
        return Ok(time.unix_ms());
    }
    match text.parse() {
        Ok(protocol::IdleTimeout::After { ms }) => Ok(now_ms.saturating_sub_unsigned(ms)),
        _ => Err(Refusal::argument(
            format!("`{text}` is neither a time nor a span"),
            "Write 2026-11-23T14:02:31Z, or 1h for the last hour.",
        )),
    }
}

#[cfg(all(test, feature = "ssr"))]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_time_or_a_span_that_reaches_back() {
        assert_eq!(moment("1h", 3_600_000).unwrap(), 0);
        assert_eq!(moment("1970-01-01T00:00:01Z", 5).unwrap(), 1000);
        assert!(moment("never", 0).is_err());
        assert!(moment("yesterday", 0).is_err());
    }
}

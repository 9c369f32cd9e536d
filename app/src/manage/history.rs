//! GET /manage/history

use leptos::{prelude::*, server_fn::codec::GetUrl};
#[cfg(feature = "ssr")]
use protocol::EventKind;
use protocol::LedgerEvent;
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

/// What happened, newest first, also before the last start. `since` and `until` take a time or a span that reaches back
/// from now (`1h`); at most 1000 events a page, 100 unless told. `/manage/history.csv` and `/manage/history.json` take the
/// same arguments and give all of it as a file.
#[server(name = ReadHistory, prefix = "/manage", endpoint = "history", input = GetUrl)]
pub async fn history(
    model: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    after: Option<u64>,
) -> Result<History, Refusal> {
    let house = crate::request::house()?;
    let wanted = Wanted { model, kind, since, until, limit, after };
    let page = house.history(wanted.query(house.snapshot().at.unix_ms())?).await?;
    Ok(History { events: page.events, next: page.next })
}

/// Which events are wanted, as it is written in an address.
#[cfg(feature = "ssr")]
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Wanted {
    /// Of this model.
    pub model: Option<String>,
    /// Of this kind, by its word.
    pub kind: Option<String>,
    /// A time, or a span that reaches back from now.
    pub since: Option<String>,
    /// The same.
    pub until: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Older than this event.
    pub after: Option<u64>,
}

#[cfg(feature = "ssr")]
impl Wanted {
    /// The same, checked.
    pub fn query(self, now_ms: i64) -> Result<manager::HistoryQuery, Refusal> {
        // A form sends its empty fields along.
        let told = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let bound = |text| told(text).map(|text| super::arguments::moment(&text, now_ms)).transpose();
        Ok(manager::HistoryQuery {
            model: told(self.model).as_deref().map(super::arguments::id).transpose()?,
            kind: told(self.kind).as_deref().map(kind).transpose()?,
            since_ms: bound(self.since)?,
            until_ms: bound(self.until)?,
            limit: self.limit.unwrap_or(100).clamp(1, 1000),
            after: self.after,
        })
    }
}

#[cfg(feature = "ssr")]
fn kind(word: &str) -> Result<EventKind, Refusal> {
    EventKind::ALL.into_iter().find(|kind| kind.word() == word.trim()).ok_or_else(|| {
        let known: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::word).collect();
        Refusal::argument(
            format!("there is no kind of event `{word}`"),
            format!("Send one of {}.", known.join(", ")),
        )
    })
}

#[cfg(all(test, feature = "ssr"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_checked_and_empty_fields_mean_nothing() {
        let wanted = Wanted {
            model: Some(String::new()),
            since: Some("1h".to_owned()),
            kind: Some("load".to_owned()),
            limit: Some(9_999),
            ..Wanted::default()
        };
        let query = wanted.query(3_600_000).unwrap();
        assert_eq!((query.model, query.since_ms, query.until_ms, query.limit), (None, Some(0), None, 1000));
        assert_eq!(query.kind, Some(EventKind::Load));
        let bad = Wanted { kind: Some("party".to_owned()), ..Wanted::default() };
        assert!(bad.query(0).unwrap_err().0.error.hint.contains("evict"));
        let bad = Wanted { until: Some("soon".to_owned()), ..Wanted::default() };
        assert!(bad.query(0).is_err());
    }
}

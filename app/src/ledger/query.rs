//! Which events a page shows. The address carries it, so that a page can be kept and sent to somebody.

use leptos_router::params::ParamsMap;
use protocol::{EventKind, LedgerEvent};

/// Events on one page.
const PAGE: u32 = 50;

/// The spans over which performance is told, as the address and the server have them, with their names.
pub(crate) const WINDOWS: [(&str, &str); 3] = [("5m", "5 min"), ("1h", "1 h"), ("24h", "24 h")];

/// The span that needs no word in the address.
const USUAL: &str = "1h";

/// A filter and a place in the ledger, and the span over which performance is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Of this model only, by its name as it stands in the address; empty: of all.
    pub(crate) model: String,
    /// Of this kind only.
    pub(crate) kind: Option<EventKind>,
    /// Older than this event.
    pub(crate) after: Option<u64>,
    /// One of [`WINDOWS`].
    pub(crate) window: &'static str,
}

impl Default for Query {
    fn default() -> Self {
        Self { model: String::new(), kind: None, after: None, window: USUAL }
    }
}

impl Query {
    /// As the address of the page has it. What cannot be read is not asked for.
    pub(crate) fn of_page(params: &ParamsMap) -> Self {
        let kind = params.get("kind").unwrap_or_default();
        let window = params.get("window").unwrap_or_default();
        Self {
            model: params.get("model").map(|model| model.trim().to_owned()).unwrap_or_default(),
            kind: EventKind::ALL.into_iter().find(|known| known.word() == kind),
            after: params.get("after").and_then(|after| after.parse().ok()),
            window: WINDOWS.into_iter().map(|(one, _)| one).find(|one| *one == window).unwrap_or(USUAL),
        }
    }

    /// Everything that happened to one model.
    pub(crate) fn of_model(model: &str) -> Self {
        Self { model: model.to_owned(), ..Self::default() }
    }

    /// As an address has it, from the question mark on; empty where all is asked for.
    pub(crate) fn text(&self) -> String {
        let model = (!self.model.is_empty()).then(|| format!("model={}", percent(&self.model)));
        let kind = self.kind.map(|kind| format!("kind={}", kind.word()));
        let after = self.after.map(|after| format!("after={after}"));
        let window = (self.window != USUAL).then(|| format!("window={}", self.window));
        let parts: Vec<_> = [model, kind, after, window].into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    /// Where a program reads the same.
    pub(crate) fn path(&self) -> String {
        let text = self.text();
        let sign = if text.is_empty() { '?' } else { '&' };
        format!("/manage/history{text}{sign}limit={PAGE}")
    }

    /// The same filter further back.
    pub(crate) fn older(&self, after: u64) -> Self {
        Self { after: Some(after), ..self.clone() }
    }

    /// The same filter, with performance over another span.
    pub(crate) fn within(&self, window: &'static str) -> Self {
        Self { window, ..self.clone() }
    }

    /// Whether events are left out.
    pub(crate) fn filters(&self) -> bool {
        !self.model.is_empty() || self.kind.is_some()
    }

    /// The same filter from the newest event on.
    pub(crate) fn newest(&self) -> Self {
        Self { after: None, ..self.clone() }
    }

    /// Whether an event that has just happened belongs here.
    pub(crate) fn wants(&self, event: &LedgerEvent) -> bool {
        let of_model =
            self.model.is_empty() || event.model.as_ref().is_some_and(|m| m.as_str() == self.model);
        self.after.is_none() && of_model && self.kind.is_none_or(|kind| kind == event.kind)
    }

    /// Asks for it, as a program would.
    #[cfg(feature = "ssr")]
    pub(crate) async fn ask(&self) -> Result<crate::manage::History, crate::Refusal> {
        let model = Some(self.model.clone()).filter(|model| !model.is_empty());
        let kind = self.kind.map(|kind| kind.word().to_owned());
        crate::manage::history(model, kind, None, None, Some(PAGE), self.after).await
    }
}

/// A text as a query may carry it.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use leptos_router::location::RequestUrl;
    use proptest::prelude::*;

    fn read(text: &str) -> Query {
        let url = RequestUrl::new(&format!("/activity{text}")).parse().unwrap();
        Query::of_page(url.search_params())
    }

    proptest! {
        #[test]
        fn an_address_says_what_is_asked_for_and_is_read_back(
            model in "[A-Za-z0-9._/&= \u{e4}-]{0,20}",
            kind in proptest::option::of(0..EventKind::ALL.len()),
            after in proptest::option::of(any::<u32>()),
            window in 0..WINDOWS.len(),
        ) {
            let query = Query {
                model: model.trim().to_owned(),
                kind: kind.map(|at| EventKind::ALL[at]),
                after: after.map(u64::from),
                window: WINDOWS[window].0,
            };
            prop_assert_eq!(read(&query.text()), query);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_asked_for() {
        assert_eq!(read("?kind=nonsense&after=-4&model="), Query::default());
    }

    #[test]
    fn only_the_newest_page_takes_what_happens_now() {
        let event = crate::example::event(9, EventKind::Load, "smollm2");
        assert!(Query::default().wants(&event));
        assert!(Query::of_model("smollm2").wants(&event));
        assert!(!Query::of_model("minilm").wants(&event));
        assert!(!Query { kind: Some(EventKind::Crash), ..Query::default() }.wants(&event));
        assert!(!Query::default().older(100).wants(&event));
    }
}

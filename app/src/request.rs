//! What server functions and the first paint read from the request at hand. The server's half only.

use std::sync::Arc;

use http::{HeaderMap, header, request::Parts};
use leptos::prelude::*;
use manager::Desk;
use protocol::{Code, Problem};

use crate::{Browser, First, Notice, Prepared, Refusal, Theme, ports::House};

/// The first paint's data. Whatever the context lacks stays empty, since routes are listed outside any request.
pub(crate) fn gather() -> First {
    let Some(house) = use_context::<Arc<dyn House>>() else { return First::default() };
    let parts = use_context::<Parts>();
    let path = parts.as_ref().map(|parts| parts.uri.path().to_owned());
    let host = parts.as_ref().and_then(|parts| parts.headers.get(header::HOST)?.to_str().ok());
    let conversation = match use_context::<Browser>() {
        Some(Browser(key)) if path.as_deref() == Some("/chat") => house.conversation(&key),
        _ => Vec::new(),
    };
    First {
        snapshot: (*house.snapshot()).clone(),
        settings: house.settings(),
        base_url: host.map(|host| format!("http://{host}")).unwrap_or_default(),
        notice: use_context::<Option<Notice>>().flatten(),
        theme: use_context::<Theme>().unwrap_or_default(),
        conversation,
        prepared: use_context::<Prepared>().unwrap_or_default(),
    }
}

/// Who asks, in words for the ledger: `the page`, `curl`, `python-requests`.
pub(crate) fn caller() -> String {
    use_context::<Parts>().map_or_else(|| "somebody".to_owned(), |parts| in_words(&parts.headers))
}

pub(crate) fn desk() -> Result<Desk, Refusal> {
    use_context::<Desk>().ok_or_else(missing)
}

pub(crate) fn house() -> Result<Arc<dyn House>, Refusal> {
    use_context::<Arc<dyn House>>().ok_or_else(missing)
}

fn missing() -> Refusal {
    Refusal::from(Problem::new(
        Code::Internal,
        "The server gave this function nothing to work with.",
        "This is a fault of Innkeeper; please report it.",
    ))
}

/// Whose headers these are, in the same words.
pub fn in_words(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Only browsers send the first, and no browser calls itself anything but Mozilla.
    if headers.contains_key("sec-fetch-site") || agent.starts_with("Mozilla/") {
        return "the page".to_owned();
    }
    let name: String = agent
        .split(['/', ' '])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(40)
        .collect();
    if name.is_empty() { "an unnamed program".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn browsers_and_programs_are_told_apart() {
        assert_eq!(in_words(&headers(&[("user-agent", "Mozilla/5.0 (X11)")])), "the page");
        assert_eq!(in_words(&headers(&[("sec-fetch-site", "none"), ("user-agent", "x")])), "the page");
        assert_eq!(in_words(&headers(&[("user-agent", "curl/8.5.0")])), "curl");
        assert_eq!(in_words(&headers(&[("user-agent", "<script>alert(1)")])), "scriptalert1");
        assert_eq!(in_words(&headers(&[])), "an unnamed program");
    }
}

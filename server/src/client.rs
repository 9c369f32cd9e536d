//! Who is asking: the session a request belongs to, and its name in words.
//!
//! A session is named by the header `X-Innkeeper-Session`, else by OpenAI's `prompt_cache_key` or `user`, else by the
//! browser's cookie, else by token and user agent, else by the address alone. The key never leaves the server; what
//! is shown is a label and a hash.

use axum::http::{HeaderMap, header};
use manager::SessionWish;
use protocol::SessionKind;
use sha2::{Digest, Sha256};

use crate::{answer::cookie, guard::Peer};

/// The cookie that names a browser.
pub(crate) const SESSION_COOKIE: &str = "innkeeper_session";

/// The session of a request.
pub(crate) fn session(headers: &HeaderMap, peer: Peer, user: Option<&str>) -> SessionWish {
    let named = text(headers, "x-innkeeper-session").filter(|name| !name.is_empty()).or(user);
    // A name belongs to the token it came with: nobody shares a conversation's memory by guessing a name.
    let owner = text(headers, header::AUTHORIZATION.as_str()).unwrap_or_default();
    if let Some(name) = named {
        return wish(&["named", owner, name], SessionKind::Api, format!("api:{}", short(name)));
    }
    if let Some(session) = browser_session(headers) {
        return session;
    }
    let agent = text(headers, header::USER_AGENT.as_str()).unwrap_or_default();
    let address = peer.0.ip().to_string();
    if owner.is_empty() {
        wish(&["address", &address], SessionKind::Api, format!("api:{}", program(agent).unwrap_or(&address)))
    } else {
        wish(&["token", owner, agent], SessionKind::Api, format!("api:{}", program(agent).unwrap_or("token")))
    }
}

/// The session of a browser's page; `None` for whoever has no cookie of ours.
pub(crate) fn browser_session(headers: &HeaderMap) -> Option<SessionWish> {
    browser(headers).map(of_browser)
}

/// The session of the browser with this cookie.
pub(crate) fn of_browser(id: &str) -> SessionWish {
    wish(&["browser", id], SessionKind::Browser, "browser".to_owned())
}

/// The value of a browser's session cookie.
pub(crate) fn browser(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SESSION_COOKIE).filter(|id| (8..=64).contains(&id.len()))
}

fn wish(parts: &[&str], kind: SessionKind, label: String) -> SessionWish {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part.as_bytes());
    }
    let key = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    SessionWish { key, kind, label }
}

/// The first product of a user agent: `curl/8.5.0` is `curl`.
fn program(agent: &str) -> Option<&str> {
    agent.split(['/', ' ']).next().filter(|name| !name.is_empty() && name.len() <= 40)
}

/// A name that a stranger chose, cut to what fits a cell and stripped of what could mislead.
fn short(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)], user: Option<&str>) -> SessionWish {
        let headers = pairs
            .iter()
            .map(|(n, v)| (n.parse::<header::HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        session(&headers, Peer("127.0.0.1:5000".parse().unwrap()), user)
    }

    #[test]
    fn the_most_telling_name_wins() {
        let cookie = ("cookie", "innkeeper_session=0123456789abcdef");
        assert_eq!(of(&[("x-innkeeper-session", "nb"), cookie], Some("u")).label, "api:nb");
        assert_eq!(of(&[cookie], Some("u")).label, "api:u");
        assert_eq!(of(&[cookie], None).label, "browser");
        assert_eq!(of(&[("user-agent", "curl/8.5")], None).label, "api:curl");
        assert_eq!(of(&[], None).label, "api:127.0.0.1");
    }

    #[test]
    fn one_name_under_two_tokens_is_two_sessions() {
        let one = of(&[("authorization", "Bearer a")], Some("me"));
        let other = of(&[("authorization", "Bearer b")], Some("me"));
        assert_eq!(one.label, other.label);
        assert_ne!(one.key, other.key);
    }
}

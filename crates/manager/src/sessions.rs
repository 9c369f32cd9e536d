//! Who uses models, and until when they count as being there. Pure; knows neither models nor workers: whether a
//! session is busy is told from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use protocol::{IdleTimeout, ModelId, SessionKind};

use crate::{
    config::Deadlines,
    lease::SessionWish,
    policy::{Due, after},
    ports::Now,
};

/// Sessions known at one time; beyond that the one unused for longest ends.
pub(crate) const MOST: usize = 1024;

/// One who uses models.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    /// What is shown in the key's place.
    pub(crate) id: String,
    pub(crate) kind: SessionKind,
    pub(crate) label: String,
    /// The model it used last.
    pub(crate) model: Option<ModelId>,
    pub(crate) requests: u64,
    pub(crate) started: Now,
    /// Its last request, or its beginning.
    pub(crate) last_used: Now,
    pub(crate) last_reset_by: String,
    /// Pages that are open in this browser.
    pub(crate) pages: u32,
    /// When the last of them closed.
    pub(crate) closed: Option<Now>,
}

/// All sessions, by their key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sessions {
    salt: u64,
    known: BTreeMap<String, Session>,
}

impl Sessions {
    /// None yet. The salt keeps shown ids from telling anything about keys, guessable ones included.
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, known: BTreeMap::new() }
    }

    /// A request came.
    pub(crate) fn touch(&mut self, wish: &SessionWish, model: &ModelId, now: Now) {
        let session = self.known(&wish.key, wish.kind, &wish.label, now);
        session.model = Some(model.clone());
        session.requests += 1;
        session.last_used = now;
        session.last_reset_by = format!("request to {model}");
    }

    /// A request ended: the session's time counts from here.
    pub(crate) fn rest(&mut self, key: &str, now: Now) {
        if let Some(session) = self.known.get_mut(key) {
            session.last_used = now;
        }
    }

    /// A page opened or closed.
    pub(crate) fn presence(&mut self, key: &str, kind: SessionKind, label: &str, open: bool, now: Now) {
        if !open && !self.known.contains_key(key) {
            return;
        }
        let session = self.known(key, kind, label, now);
        session.pages = if open { session.pages.saturating_add(1) } else { session.pages.saturating_sub(1) };
        session.closed = (session.pages == 0).then_some(now);
    }

    fn known(&mut self, key: &str, kind: SessionKind, label: &str, now: Now) -> &mut Session {
        let salt = self.salt;
        self.known.entry(key.to_owned()).or_insert_with(|| Session {
            id: shown(salt, key),
            kind,
            label: label.to_owned(),
            model: None,
            requests: 0,
            started: now,
            last_used: now,
            last_reset_by: "first seen".to_owned(),
            pages: 0,
            closed: None,
        })
    }

    /// Takes a session out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Session> {
        self.known.remove(key)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }

    /// The key behind a shown id.
    pub(crate) fn key_of(&self, id: &str) -> Option<String> {
        self.known.iter().find(|(_, session)| session.id == id).map(|(key, _)| key.clone())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Session)> {
        self.known.iter()
    }

    /// When a session ends if nothing comes; `None`: not by itself, or there is no such session.
    pub(crate) fn ends_at(
        &self,
        key: &str,
        busy: &BTreeSet<&str>,
        timeout: IdleTimeout,
        deadlines: &Deadlines,
    ) -> Option<Due> {
        let session = self.known.get(key)?;
        if session.pages > 0 || busy.contains(key) {
            return None;
        }
        let by_rest = timeout.ms().map(|ms| after(session.last_used, ms));
        // A request after the last page closed shows that somebody is still there.
        let closed = session.closed.filter(|closed| closed.boot >= session.last_used.boot);
        let page_closed = u64::try_from(deadlines.page_closed.as_millis()).unwrap_or(u64::MAX);
        let by_page = closed.map(|closed| after(closed, page_closed));
        by_rest.into_iter().chain(by_page).min()
    }

    /// If there are too many: the one unused for longest that is neither busy nor looked at.
    pub(crate) fn surplus(&self, busy: &BTreeSet<&str>) -> Option<String> {
        if self.known.len() <= MOST {
            return None;
        }
        let free = self.known.iter().filter(|(key, s)| s.pages == 0 && !busy.contains(key.as_str()));
        free.min_by_key(|(_, session)| session.last_used.boot).map(|(key, _)| key.clone())
    }
}

/// What is shown in a key's place: keyed with a number that never leaves the server.
fn shown(salt: u64, key: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (salt, key).hash(&mut hasher);
    format!("{:012x}", hasher.finish() >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(s: u64) -> Now {
        let boot = Duration::from_secs(s);
        Now { boot, mono: boot, wall_ms: 0 }
    }

    fn wish(key: &str) -> SessionWish {
        SessionWish { key: key.to_owned(), kind: SessionKind::Browser, label: "browser".to_owned() }
    }

    fn ends_s(sessions: &Sessions, key: &str) -> Option<u64> {
        let timeout = IdleTimeout::After { ms: 300_000 };
        sessions.ends_at(key, &BTreeSet::new(), timeout, &Deadlines::default()).map(|due| due.boot.as_secs())
    }

    #[test]
    fn a_session_ends_five_minutes_after_its_last_request() {
        let mut sessions = Sessions::new(1);
        let model: ModelId = "m".parse().unwrap();
        sessions.touch(&wish("k"), &model, at(0));
        sessions.touch(&wish("k"), &model, at(100));
        assert_eq!(ends_s(&sessions, "k"), Some(400));
        sessions.rest("k", at(130));
        assert_eq!(ends_s(&sessions, "k"), Some(430));
        let busy = BTreeSet::from(["k"]);
        let timeout = IdleTimeout::After { ms: 0 };
        assert_eq!(sessions.ends_at("k", &busy, timeout, &Deadlines::default()), None, "a request runs");
    }

    #[test]
    fn an_open_page_keeps_its_session_and_the_last_one_to_close_ends_it_half_a_minute_later() {
        let mut sessions = Sessions::new(1);
        let page = |sessions: &mut Sessions, open, s| {
            sessions.presence("k", SessionKind::Browser, "browser", open, at(s));
        };
        page(&mut sessions, true, 0);
        page(&mut sessions, true, 1);
        page(&mut sessions, false, 2);
        assert_eq!(ends_s(&sessions, "k"), None);
        page(&mut sessions, false, 10);
        assert_eq!(ends_s(&sessions, "k"), Some(40));
        page(&mut sessions, true, 20);
        assert_eq!(ends_s(&sessions, "k"), None, "a page that is opened again takes the end back");
        page(&mut sessions, false, 50);
        sessions.touch(&wish("k"), &"m".parse().unwrap(), at(60));
        assert_eq!(ends_s(&sessions, "k"), Some(360), "somebody without a live page is still there");
    }

    #[test]
    fn a_shown_id_tells_nothing_that_holds_on_another_server() {
        let mut ids = [1, 2].map(|salt| {
            let mut sessions = Sessions::new(salt);
            sessions.touch(&wish("secret"), &"m".parse().unwrap(), at(0));
            let id = sessions.iter().next().unwrap().1.id.clone();
            assert_eq!(sessions.key_of(&id).as_deref(), Some("secret"));
            id
        });
        assert!(ids.iter().all(|id| !id.contains("secret")));
        ids.sort();
        assert_ne!(ids[0], ids[1]);
    }
}

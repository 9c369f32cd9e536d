//! Who uses models, and until when they count as being there. Pure; knows neither models nor workers: whether a
//! session is busy is told from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use protocol::{ModelId, SessionKind};

use crate::{
    config::Config,
    lease::SessionWish,
    policy::{Due, after},
    ports::Now,
};

/// Sessions known at one time; beyond that the one unused for longest ends.
pub(crate) const MOST: usize = 1024;

/// What became of a page that cannot be seen and therefore holds no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It was hidden just now.
    Now,
    /// It can be seen again.
    NoMore,
    /// It was closed.
    Gone,
}

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
    /// When its last request came, or its beginning.
    pub(crate) last_asked: Now,
    /// When it was last seen to use something: its last request came or ended. Its time counts from here.
    pub(crate) last_used: Now,
    pub(crate) last_reset_by: String,
    /// Pages that are open in this browser.
    pub(crate) pages: u32,
    /// Pages that are there and cannot be seen: they keep no session, and let none end sooner than without them.
    pub(crate) hidden: u32,
    /// When the last of them closed.
    pub(crate) closed: Option<Now>,
}

impl Session {
    fn new(id: String, kind: SessionKind, label: &str, now: Now) -> Self {
        Self {
            id,
            kind,
            label: label.to_owned(),
            model: None,
            requests: 0,
            started: now,
            last_asked: now,
            last_used: now,
            last_reset_by: "first seen".to_owned(),
            pages: 0,
            hidden: 0,
            closed: None,
        }
    }
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
        (session.last_asked, session.last_used) = (now, now);
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
        session.closed = (session.pages == 0 && session.hidden == 0).then_some(now);
    }

    /// A page, whose stream tells by itself whether it is open, was hidden, came back, or is gone while it was hidden.
    pub(crate) fn hidden(&mut self, key: &str, what: Hidden, now: Now) {
        let Some(session) = self.known.get_mut(key) else { return };
        session.hidden = match what {
            Hidden::Now => session.hidden.saturating_add(1),
            Hidden::NoMore | Hidden::Gone => session.hidden.saturating_sub(1),
        };
        match what {
            Hidden::Now => session.closed = None,
            Hidden::NoMore => {}
            Hidden::Gone => session.closed = (session.pages == 0 && session.hidden == 0).then_some(now),
        }
    }

    fn known(&mut self, key: &str, kind: SessionKind, label: &str, now: Now) -> &mut Session {
        let salt = self.salt;
        self.known.entry(key.to_owned()).or_insert_with(|| Session::new(shown(salt, key), kind, label, now))
    }

    /// Ends a session. Pages that are still open are somebody who is still there: they begin the next one.
    pub(crate) fn end(&mut self, key: &str, now: Now) -> Option<Session> {
        let over = self.known.remove(key)?;
        if over.pages > 0 {
            let next = Session::new(over.id.clone(), over.kind, &over.label, now);
            self.known.insert(key.to_owned(), Session { pages: over.pages, hidden: over.hidden, ..next });
        }
        Some(over)
    }

    /// Whether it is there and has asked for something: only then anything is kept for it.
    pub(crate) fn uses_models(&self, key: &str) -> bool {
        self.known.get(key).is_some_and(|session| session.requests > 0)
    }

    /// The key behind a shown id.
    pub(crate) fn key_of(&self, id: &str) -> Option<String> {
        self.known.iter().find(|(_, session)| session.id == id).map(|(key, _)| key.clone())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Session)> {
        self.known.iter()
    }

    /// When a session ends if nothing comes; `None`: not by itself, or there is no such session.
    pub(crate) fn ends_at(&self, key: &str, busy: &BTreeSet<&str>, config: &Config) -> Option<Due> {
        let session = self.known.get(key).filter(|_| !busy.contains(key))?;
        let by_age = config.session_max_age.ms().filter(|_| session.requests > 0);
        let by_age = by_age.map(|ms| after(session.started, ms));
        if session.pages > 0 {
            return by_age;
        }
        let by_rest = config.session_timeout.ms().map(|ms| after(session.last_used, ms));
        // A request that came after the last page closed shows that somebody is still there; one that only ended then
        // was cut off by the closing.
        let closed = session.closed.filter(|closed| closed.boot >= session.last_asked.boot);
        let page_closed = u64::try_from(config.deadlines.page_closed.as_millis()).unwrap_or(u64::MAX);
        let by_page = closed.map(|closed| {
            let last = if session.last_used.boot > closed.boot { session.last_used } else { closed };
            after(last, page_closed)
        });
        by_rest.into_iter().chain(by_page).chain(by_age).min()
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
    use protocol::IdleTimeout;
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> Now {
        let boot = Duration::from_secs(s);
        Now { boot, mono: boot, wall_ms: 0 }
    }

    fn wish(key: &str) -> SessionWish {
        SessionWish { key: key.to_owned(), kind: SessionKind::Browser, label: "browser".to_owned() }
    }

    fn config() -> Config {
        Config { session_timeout: IdleTimeout::After { ms: 300_000 }, ..crate::tests::rig::config() }
    }

    fn ends_s(sessions: &Sessions, key: &str) -> Option<u64> {
        sessions.ends_at(key, &BTreeSet::new(), &config()).map(|due| due.boot.as_secs())
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
        let at_once = Config { session_timeout: IdleTimeout::After { ms: 0 }, ..config() };
        assert_eq!(sessions.ends_at("k", &busy, &at_once), None, "a request runs");
    }

    #[test]
    fn a_session_that_has_reached_the_greatest_age_ends_between_two_requests_also_with_an_open_page() {
        let mut sessions = Sessions::new(1);
        let model: ModelId = "m".parse().unwrap();
        let aged = Config { session_max_age: IdleTimeout::After { ms: 600_000 }, ..config() };
        let ends = |sessions: &Sessions, busy: &[&str]| {
            let due = sessions.ends_at("k", &busy.iter().copied().collect(), &aged);
            due.map(|due| due.boot.as_secs())
        };
        sessions.presence("k", SessionKind::Browser, "browser", true, at(0));
        assert_eq!(ends(&sessions, &[]), None, "it has asked for nothing");
        for s in [10, 300, 590] {
            sessions.touch(&wish("k"), &model, at(s));
        }
        assert_eq!((ends(&sessions, &[]), ends(&sessions, &["k"])), (Some(600), None));
        sessions.end("k", at(600));
        assert_eq!(ends(&sessions, &[]), None, "the page begins a new one");
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
        sessions.rest("k", at(12));
        assert_eq!(
            ends_s(&sessions, "k"),
            Some(42),
            "a request that the closing cut off is no sign of anybody"
        );
        page(&mut sessions, true, 20);
        assert_eq!(ends_s(&sessions, "k"), None, "a page that is opened again takes the end back");
        page(&mut sessions, false, 50);
        sessions.touch(&wish("k"), &"m".parse().unwrap(), at(60));
        assert_eq!(ends_s(&sessions, "k"), Some(360), "somebody without a live page is still there");
    }

    #[test]
    fn a_hidden_page_lets_its_session_live_out_its_time_and_half_a_minute_once_it_is_closed() {
        let mut sessions = Sessions::new(1);
        let page = |sessions: &mut Sessions, open, s| {
            sessions.presence("k", SessionKind::Browser, "browser", open, at(s));
        };
        sessions.hidden("k", Hidden::Now, at(0));
        assert_eq!(ends_s(&sessions, "k"), None, "of a browser that nobody knows nothing is remembered");
        page(&mut sessions, true, 0);
        // The stream ends before or after the word that the page was hidden.
        page(&mut sessions, false, 10);
        assert_eq!(ends_s(&sessions, "k"), Some(40));
        sessions.hidden("k", Hidden::Now, at(10));
        assert_eq!(ends_s(&sessions, "k"), Some(300));
        sessions.hidden("k", Hidden::NoMore, at(20));
        page(&mut sessions, true, 20);
        assert_eq!(ends_s(&sessions, "k"), None);
        page(&mut sessions, true, 21);
        sessions.hidden("k", Hidden::Now, at(30));
        page(&mut sessions, false, 30);
        page(&mut sessions, false, 40);
        assert_eq!(ends_s(&sessions, "k"), Some(300), "another page closed, the hidden one is still there");
        sessions.hidden("k", Hidden::Gone, at(50));
        assert_eq!(ends_s(&sessions, "k"), Some(80));
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

//! The one event stream: opened when the page can be seen, closed when it is hidden (a host gets six connections
//! from a browser), watched once a second. A hidden page says that it is there, lest its session end as if it had been closed.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use leptos::prelude::*;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, prelude::Closure};
use web_sys::{EventSource, EventTarget, MessageEvent, UrlSearchParams, VisibilityState};

use super::{Link, Live, clock::browser_ms};
use crate::json;

/// Nothing heard for so long: what is shown is old.
const SILENCE_MS: i64 = 4000;
/// Sentences for the ear come no faster than this.
const BREATH: Duration = Duration::from_secs(3);

type Handler = Closure<dyn FnMut(MessageEvent)>;

thread_local! {
    static SOURCE: RefCell<Option<EventSource>> = const { RefCell::new(None) };
    static HANDLERS: RefCell<Vec<(&'static str, Handler)>> = const { RefCell::new(Vec::new()) };
    static HEARD_MS: Cell<i64> = const { Cell::new(0) };
    static TRIED_MS: Cell<i64> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The server was told that this page is hidden.
    static HIDDEN: Cell<bool> = const { Cell::new(false) };
    /// The page is being left; browsers hide it on the way.
    static LEFT: Cell<bool> = const { Cell::new(false) };
    static SPEAKING: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn start(live: Live) {
    HANDLERS.with_borrow_mut(|handlers| {
        *handlers = vec![
            ("open", Closure::new(move |_| opened(live))),
            ("error", Closure::new(move |_| broken(live))),
            ("snapshot", handler(live, Live::take_snapshot)),
            ("settings", handler(live, Live::take_settings)),
            ("sample", handler(live, Live::take_sample)),
            ("ledger", handler(live, Live::take_event)),
        ];
    });
    HEARD_MS.set(browser_ms());
    open();
    listen(&document(), "visibilitychange", Closure::new(move || visibility(live)));
    listen(&window(), "pagehide", Closure::new(leave));
    set_interval(move || look(live), Duration::from_secs(1));
}

fn listen(to: &EventTarget, name: &str, what: Closure<dyn FnMut()>) {
    if to.add_event_listener_with_callback(name, what.as_ref().unchecked_ref()).is_ok() {
        // Listens for the page's whole life.
        what.forget();
    }
}

fn handler<T: DeserializeOwned + 'static>(live: Live, take: fn(Live, T)) -> Handler {
    Closure::new(move |event: MessageEvent| {
        connected(live);
        // What cannot be read comes from another version; the page offers a reload when it sees the version.
        if let Some(value) = event.data().as_string().and_then(|text| json::read(&text)) {
            take(live, value);
        }
    })
}

fn open() {
    let Ok(source) = EventSource::new("/events") else { return };
    HANDLERS.with_borrow(|handlers| {
        for (name, handler) in handlers {
            let _ = source.add_event_listener_with_callback(name, handler.as_ref().unchecked_ref());
        }
    });
    TRIED_MS.set(browser_ms());
    close();
    SOURCE.set(Some(source));
}

fn close() {
    if let Some(source) = SOURCE.take() {
        source.close();
    }
}

fn opened(live: Live) {
    connected(live);
    live.opened.update(|opened| *opened += 1);
}

fn connected(live: Live) {
    HEARD_MS.set(browser_ms());
    show(live, Link::Live);
}

fn broken(live: Live) {
    // Once stale it stays stale until something is heard.
    if live.link.get_untracked() != Link::Stale {
        show(live, Link::Reconnecting);
    }
}

fn show(live: Live, link: Link) {
    if live.link.get_untracked() == link {
        return;
    }
    live.link.set(link);
    let since = match link {
        Link::Live | Link::Still => None,
        Link::Reconnecting | Link::Stale => {
            live.lost_since.get_untracked().or(Some(live.now.get_untracked()))
        }
    };
    live.lost_since.set(since);
}

fn hidden() -> bool {
    document().visibility_state() == VisibilityState::Hidden
}

fn visibility(live: Live) {
    if hidden() {
        close();
        if !LEFT.get() && !HIDDEN.replace(true) {
            tell("state=hidden");
        }
        return;
    }
    LEFT.set(false);
    if HIDDEN.replace(false) {
        tell("state=shown");
    }
    if SOURCE.with_borrow(Option::is_none) {
        HEARD_MS.set(browser_ms());
        show(live, Link::Reconnecting);
        open();
    }
}

fn leave() {
    LEFT.set(true);
    if HIDDEN.replace(false) {
        tell("state=closed");
    }
}

/// Says what becomes of this page. A beacon is sent though the page is going.
fn tell(state: &str) {
    if let Ok(form) = UrlSearchParams::new_with_str(state) {
        let _ = window().navigator().send_beacon_with_opt_url_search_params("/manage/page", Some(&form));
    }
}

/// A browser gives up for good when a stream is refused, and says nothing when a stream falls silent.
fn look(live: Live) {
    if hidden() {
        return;
    }
    let closed = SOURCE.with_borrow(|s| s.as_ref().is_none_or(|s| s.ready_state() == EventSource::CLOSED));
    let silent = browser_ms() - HEARD_MS.get() > SILENCE_MS;
    if silent {
        show(live, Link::Stale);
    }
    if closed || (silent && browser_ms() - TRIED_MS.get() > SILENCE_MS) {
        open();
    }
}

/// Says something to a screen reader, not faster than it can be read; what comes meanwhile is said together.
pub(super) fn announce(live: Live, text: String) {
    WAITING.with_borrow_mut(|waiting| waiting.push(text));
    if !SPEAKING.replace(true) {
        speak(live);
    }
}

fn speak(live: Live) {
    let waiting = WAITING.take();
    if waiting.is_empty() {
        SPEAKING.set(false);
        return;
    }
    let text = match waiting.as_slice() {
        [most @ .., last] if most.len() > 2 => format!("{} changes. {last}", waiting.len()),
        few => few.join(" "),
    };
    live.told.set(text);
    set_timeout(move || speak(live), BREATH);
}

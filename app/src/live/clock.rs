//! The server's clock, told by this browser's: each event brings the difference, a timer moves it on.

use std::{cell::Cell, time::Duration};

use leptos::prelude::*;
use protocol::Time;

use super::Live;

thread_local! {
    /// Server time minus browser time, in milliseconds.
    static AHEAD: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Learns the zone and the first difference, then ticks once a second.
pub(super) fn start(live: Live) {
    let offset = js_sys::Date::new_0().get_timezone_offset();
    live.zone.set(Some(-(offset as i32)));
    heard(live, live.now.get_untracked());
    set_interval(move || tick(live), Duration::from_secs(1));
}

/// An event says what time it is there. What took longest to arrive is furthest behind, so a later difference wins
/// only when it is larger, or when the clocks have truly parted.
pub(super) fn heard(live: Live, at: Time) {
    let difference = at.unix_ms() - browser_ms();
    AHEAD.with(|ahead| {
        let keep = ahead.get().filter(|old| (*old - 2000..=*old).contains(&difference));
        ahead.set(Some(keep.unwrap_or(difference)));
    });
    tick(live);
}

fn tick(live: Live) {
    let now = Time::from_unix_ms(browser_ms() + AHEAD.get().unwrap_or(0));
    live.now.set(now);
}

/// This browser's wall clock.
pub(crate) fn browser_ms() -> i64 {
    js_sys::Date::now() as i64
}

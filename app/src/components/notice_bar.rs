//! What the last verb said, and what just happened for those who listen instead of looking.

use leptos::{ev, prelude::*};

use crate::{
    Live, Notice,
    dom::{El, el},
    live::Link,
};

/// The notice at the foot of the window, a line while the connection is lost, and the region for the ear.
pub(crate) fn notice_bar() -> El {
    let live = expect_context::<Live>();
    el("div")
        .child(
            el("p")
                .class("visually-hidden")
                .attr("aria-live", "polite")
                .id("told")
                .text(move || live.told.get()),
        )
        .child(el("div").class("foot").child(lost(live)).child(updated(live)).child(notice(live)))
}

/// Since when nothing is heard.
fn lost(live: Live) -> El {
    let at = move || live.lost_since.get().map(|at| live.clock_text(at, false)).unwrap_or_default();
    el("p")
        .class("strip warn")
        .attr("role", "status")
        .hidden_if(move || live.link.get() != Link::Stale)
        .text(move || format!("Connection lost {}; retrying. Values are old.", at()))
}

/// A page that was left open over an upgrade runs the old program.
fn updated(live: Live) -> El {
    let same = move || {
        let house = live.house();
        live.version.with_value(|first| first.is_empty() || *first == house.server.version)
    };
    el("p")
        .class("strip")
        .attr("role", "status")
        .hidden_if(same)
        .say("Innkeeper was updated while this page was open. ")
        .child(el("a").attr("href", "").attr("rel", "external").say("Reload the page"))
}

fn notice(live: Live) -> El {
    // What is wrong with one value is said at its field, and not twice.
    let said = move || live.said.get().filter(|notice| notice.field.is_empty());
    let part = move |pick: fn(Notice) -> String| move || said().map(pick).unwrap_or_default();
    let good = move || said().map(|notice| notice.good.to_string());
    el("div")
        .class("strip notice")
        .id("notice")
        .attr("role", "status")
        .attr_of("data-good", good)
        .child(
            el("p").child(el("b").text(part(|n| n.text))).say(" ").child(el("span").text(part(|n| n.hint))),
        )
        .child(
            el("a")
                .class("btn small")
                .attr("href", "")
                .attr("rel", "external")
                .hidden_if(move || said().is_none())
                .on(ev::click, move |event| {
                    event.prevent_default();
                    live.said.set(None);
                })
                .say("Dismiss"),
        )
}

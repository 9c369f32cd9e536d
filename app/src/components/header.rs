//! The head of every page: where one can go, how fresh the page is, how it looks.

use leptos::{ev, prelude::*};
use leptos_router::hooks::use_location;

use super::{dialog::ask, verb_form};
use crate::{
    Live, Theme,
    dom::{El, el},
    live::Link,
};

/// The pages that there are, in the order of the navigation.
const PAGES: [(&str, &str); 4] =
    [("/", "Resources"), ("/chat", "Chat"), ("/activity", "Activity"), ("/settings", "Settings")];

/// The header.
pub(crate) fn header() -> El {
    let live = expect_context::<Live>();
    let here = use_location().pathname;
    let link = |(path, name): (&'static str, &'static str)| {
        el("a")
            .attr("href", path)
            .attr_of("aria-current", move || current(&here.get(), path).map(str::to_owned))
            .say(name)
    };
    el("header")
        .class("top")
        .child(el("a").attr("href", "#main").class("skip").attr("rel", "external").say("Skip to the content"))
        .child(el("b").class("brand").say("Innkeeper"))
        .child(el("nav").attr("aria-label", "Pages").children(PAGES.map(link)))
        .child(badge(live))
        .child(theme_choice(live))
        .child(ask("help", "btn small", || "", || "Help".to_owned()))
}

/// Whether one is on a page, or on one that belongs to it: models stand on Resources.
fn current(here: &str, path: &str) -> Option<&'static str> {
    match path {
        _ if here == path => Some("page"),
        "/" if here.starts_with("/model/") => Some("true"),
        _ => None,
    }
}

/// How fresh the page is.
fn badge(live: Live) -> El {
    let text = move || match live.link.get() {
        Link::Still => "Not live",
        Link::Live => "Live",
        Link::Reconnecting => "Reconnecting",
        Link::Stale => "Stale",
    };
    el("span")
        .class("live")
        .attr("role", "status")
        .attr_of("data-link", move || Some(live.link.get().word().to_owned()))
        .text(move || text().to_owned())
}

/// Light, dark, or as the system has it; kept in a cookie, so that the first byte of a page carries it.
pub(crate) fn theme_choice(live: Live) -> El {
    let button = |theme: Theme| {
        el("button")
            .attr("name", "theme")
            .attr("value", theme.word())
            .class("btn small")
            .attr_of("aria-pressed", move || Some((live.theme.get() == theme).to_string()))
            .on(ev::click, move |_| show(live, theme))
            .say(theme.label())
    };
    verb_form("/manage/theme").class("themes").child(
        el("fieldset")
            .class("segments")
            .child(el("legend").class("visually-hidden").say("Theme"))
            .children(Theme::ALL.map(button)),
    )
}

/// Shows the choice at once; the form keeps it.
fn show(live: Live, theme: Theme) {
    live.theme.set(theme);
    if let Some(root) = document().document_element() {
        // Setting or removing a fixed attribute cannot fail.
        let _ = match theme.attribute() {
            Some(name) => root.set_attribute("data-theme", name),
            None => root.remove_attribute("data-theme"),
        };
    }
}

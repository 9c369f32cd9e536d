//! The page for a path that leads nowhere.

use leptos::prelude::*;

use super::page;
use crate::dom::el;

/// Says so and shows the way back.
pub(crate) fn not_found() -> AnyView {
    let link = |path: &'static str, name: &'static str| el("a").attr("href", path).say(name);
    page("Not found", |main| {
        main.child(
            el("section").child(el("h1").class("big").say("There is no such page.")).child(
                el("p")
                    .say("The memory is on ")
                    .child(link("/", "Resources"))
                    .say(", a conversation on ")
                    .child(link("/chat", "Chat"))
                    .say("."),
            ),
        )
    })
}

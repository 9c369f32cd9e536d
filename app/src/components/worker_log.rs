//! A worker's own words, followed while the page is open.

use std::time::Duration;

use leptos::{prelude::*, task::spawn_local};
use serde::Deserialize;

use super::{copy_button::copy_button, model_row::Shown};
use crate::{
    Live,
    dom::{El, el},
    fetch,
    live::Link,
};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_secs(1);

/// What `/manage/log` answers.
#[derive(Deserialize)]
struct Log {
    lines: Vec<String>,
}

/// The section "Log of its worker".
pub(crate) fn worker_log(live: Live, model: Shown, name: &str, lines: Vec<String>) -> El {
    let path = StoredValue::new(format!("/manage/log?model={name}"));
    let text = RwSignal::new(lines.join("\n"));
    let look = move || {
        let path = path.get_value();
        spawn_local(async move {
            let Some(log) = fetch::get::<Log>(&path).await else { return };
            let now = log.lines.join("\n");
            if text.try_with_untracked(|text| *text != now) == Some(true) {
                // The page may have been left meanwhile.
                let _ = text.try_set(now);
            }
        });
    };
    let look_again = move || {
        // To ask in vain would only add errors to the console.
        if live.link.get_untracked() == Link::Live && untrack(|| model.is_there()) {
            look();
        }
    };
    Effect::new(move |_| {
        if text.with_untracked(String::is_empty) && untrack(|| model.is_there()) {
            look();
        }
        if let Ok(timer) = set_interval_with_handle(look_again, LOOK) {
            on_cleanup(move || timer.clear());
        }
    });
    let silent = move || text.with(String::is_empty);
    el("section")
        .attr("aria-labelledby", "log")
        .child(
            el("div")
                .class("head middle")
                .child(el("h2").id("log").say("Log of its worker"))
                .child(copy_button("Copy log", move || text.get()).hidden_if(silent)),
        )
        .child(
            el("p")
                .class("quiet empty")
                .hidden_if(move || !silent())
                .say("Its worker has said nothing yet, in this run of the server."),
        )
        .child(
            // Reversed in the style sheet, so that the browser keeps the newest line in view.
            el("div")
                .class("tail")
                .attr("tabindex", "0")
                .attr("role", "region")
                .attr("aria-label", "Newest lines")
                .hidden_if(silent)
                .child(el("pre").class("lines-of-log").text(move || text.get())),
        )
}

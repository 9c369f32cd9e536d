//! One model: how it stands, what its files are, what it was expected to take and what it takes, its settings, what
//! happened to it, and its worker's own words.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;

use super::page;
use crate::{
    Live,
    components::{
        Plans, Shown, ledger_table, model_facts, model_head, model_memory, own_timeout, pin_button,
        remove_dialog, timeouts, worker_log,
    },
    dom::{El, el},
    ledger::{self, Query},
    prepared::{Prepared, Waiting},
};

/// The page at `/model/ID`.
pub(crate) fn model_page() -> AnyView {
    let live = expect_context::<Live>();
    let name = use_params_map().with_untracked(|params| params.get("id").unwrap_or_default());
    let Prepared { history, about, plans, log, .. } = expect_context::<Waiting>().take();
    provide_context(Plans(StoredValue::new(plans)));
    let model = Shown::of(live, &name);
    let events = ledger::Shown::new(live, Query::of_model(&name), history);
    let gone = move || !model.is_there();
    let title = name.clone();
    page(title, |main| {
        main.class("model-page")
            .child(model_head(live, model, &name))
            .child(
                el("div")
                    .class("two")
                    .hidden_if(gone)
                    .child(model_memory(live, model, &name))
                    .child(model_facts(model, &name, about)),
            )
            .child(own_settings(live, &name).hidden_if(gone))
            .child(history_section(&name, events))
            .child(worker_log(live, model, &name, log).hidden_if(gone))
            .child(remove_dialog(live, model, &name))
            .child(timeouts())
    })
}

fn own_settings(live: Live, name: &str) -> El {
    let row = |title: &'static str, does: &'static str, form: El| {
        el("li").child(el("div").child(el("h3").say(title)).child(el("p").class("sub").say(does))).child(form)
    };
    el("section").class("settings").attr("aria-labelledby", "own").child(el("h2").id("own").say("Settings")).child(
        el("ul")
            .class("settings-list")
            .child(row(
                "Idle timeout",
                "It is unloaded when nobody has used it for so long. 0: as soon as its last request ends; never: not by itself.",
                own_timeout(live, name, true),
            ))
            .child(row(
                "Pinned",
                "No timer, no eviction and no clean-up unloads it; Unload still does. It counts in the budget all the same.",
                pin_button(live, name),
            )),
    )
}

fn history_section(name: &str, events: ledger::Shown) -> El {
    let more = Query::of_model(name).text();
    el("section")
        .attr("aria-labelledby", "history")
        .child(el("h2").id("history").say("History"))
        .child(ledger_table(events, true))
        .child(
            el("p")
                .class("quiet empty")
                .hidden_if(move || !events.is_empty())
                .say("Nothing has happened to it yet."),
        )
        .child(
            el("p")
                .hidden_if(move || events.next().is_none())
                .child(el("a").attr("href", format!("/activity{more}")).say("All of it, on Activity")),
        )
}

//! Activity: what happened, when, why, who asked, and how many bytes it moved.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use protocol::EventKind;

use super::page;
use crate::{
    Live,
    components::{hidden_field, ledger_table, performance_table},
    dom::{El, el, unseen},
    ledger::{Query, Shown},
    prepared::{Prepared, Waiting},
    words,
};

/// The page at `/activity`.
pub(crate) fn activity_page() -> AnyView {
    let live = expect_context::<Live>();
    let query = use_query_map().with_untracked(Query::of_page);
    let Prepared { history, performance, .. } = expect_context::<Waiting>().take();
    let shown = Shown::new(live, query.clone(), history);
    page("Activity", |main| {
        main.child(ledger(live, &query, shown)).child(performance_table(live, &query, performance))
    })
}

fn ledger(live: Live, query: &Query, shown: Shown) -> El {
    let nothing = match (query.after, query.filters()) {
        (Some(_), _) => "There is nothing older.",
        (None, true) => "Nothing of this kind has happened.",
        (None, false) => {
            "Nothing has happened yet. Loads, unloads, refusals, failures and changes of settings appear here as they happen."
        }
    };
    el("section")
        .attr("aria-labelledby", "activity")
        .child(
            el("div")
                .class("head middle")
                .child(el("h1").id("activity").class("mid").say("Activity"))
                .child(filter(live, query))
                .child(exports(query)),
        )
        .child(ledger_table(shown, false))
        .child(el("p").class("quiet empty").hidden_if(move || !shown.is_empty()).say(nothing))
        .child(pages(query, shown))
}

/// A plain form: the address carries the filter.
fn filter(live: Live, query: &Query) -> El {
    let (chosen, kind) = (query.model.clone(), query.kind);
    let option = |value: &str, name: &str, selected: bool| {
        let option = el("option").attr("value", value).say(name);
        if selected { option.flag("selected") } else { option }
    };
    let known = {
        let chosen = chosen.clone();
        move || {
            let mut ids: Vec<String> = live.house().models.iter().map(|m| m.id.to_string()).collect();
            if !chosen.is_empty() && !ids.contains(&chosen) {
                ids.push(chosen.clone());
            }
            ids
        }
    };
    let models = el("select")
        .attr("name", "model")
        .child(option("", "all models", chosen.is_empty()))
        .each(known, move |id| option(&id, &id, id == chosen).into());
    let kinds = el("select")
        .attr("name", "kind")
        .child(option("", "everything", kind.is_none()))
        .children(EventKind::ALL.map(|one| option(one.word(), words::happened(one), kind == Some(one))));
    el("form")
        .attr("method", "get")
        .attr("action", "/activity")
        .attr("role", "search")
        .class("filter inline")
        .child(el("label").class("choice").child(unseen("What")).child(kinds))
        .child(el("label").class("choice").child(unseen("Model")).child(models))
        .child(hidden_field("window", query.window))
        .child(el("button").class("btn small").say("Show"))
}

/// The same events as files.
fn exports(query: &Query) -> El {
    let newest = query.newest();
    let link = |format: &'static str, name: &'static str| {
        el("a")
            .attr("href", format!("/manage/history.{format}{}", newest.text()))
            .attr("rel", "external")
            .attr("download", format!("innkeeper-activity.{format}"))
            .class("btn small")
            .child(unseen("Export as "))
            .say(name)
    };
    el("div").class("acts").child(link("csv", "CSV")).child(link("json", "JSON"))
}

/// To older events, and back to the newest.
fn pages(query: &Query, shown: Shown) -> El {
    let (older, newest) = (query.clone(), format!("/activity{}", query.newest().text()));
    let behind = query.after.is_some();
    let href = move || shown.next().map(|next| format!("/activity{}", older.older(next).text()));
    el("nav")
        .class("acts paging")
        .attr("aria-label", "Pages of the ledger")
        .child(
            el("a")
                .class("btn small")
                .attr("href", newest)
                .attr("rel", "external")
                .hidden_if(move || !behind)
                .say("Newest"),
        )
        .child(
            el("a")
                .class("btn small")
                .attr_of("href", href)
                .attr("rel", "external")
                .hidden_if(move || shown.next().is_none())
                .say("Older"),
        )
}

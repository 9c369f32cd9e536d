//! The models, with what can be done to all of them.

use leptos::{ev, prelude::*};
use leptos_router::hooks::use_query_map;

use super::{
    add_model::{add_model, no_models},
    downloads::downloads,
    model_row::model_row,
    upkeep_buttons, upkeep_dialogs,
};
use crate::{
    Live,
    dom::{El, el},
    words,
};

const COLUMNS: [(&str, &str); 6] = [
    ("Model", ""),
    ("State", ""),
    ("Memory taken", "num"),
    ("In use by", "num"),
    ("Unloads", ""),
    ("Actions", "num"),
];

/// The section with the table of models.
pub(crate) fn model_table() -> El {
    let live = expect_context::<Live>();
    let ids = move || live.house().models.iter().map(|m| m.id.to_string()).collect();
    let none = move || live.house().models.is_empty();
    let query = use_query_map().with_untracked(|query| query.get("q").unwrap_or_default());
    let wanted = RwSignal::new(query.clone());
    let fits =
        move |name: &str| name.to_ascii_lowercase().contains(&wanted.get().trim().to_ascii_lowercase());
    let nothing_fits = move || !none() && !live.house().models.iter().any(|m| fits(m.id.as_str()));
    let column =
        |(name, class): (&'static str, &'static str)| el("th").attr("scope", "col").class(class).say(name);
    el("section")
        .attr("aria-labelledby", "models")
        .child(
            el("div")
                .class("head middle")
                .child(
                    el("h2").id("models").class("mid val").text(move || words::loaded_count(&live.house())),
                )
                .child(filter(wanted, query).hidden_if(none))
                .child(upkeep_buttons()),
        )
        .child(downloads())
        .child(
            el("table")
                .class("models")
                .hidden_if(none)
                .child(el("thead").child(el("tr").children(COLUMNS.map(column))))
                .each(ids, move |id| {
                    let name = id.clone();
                    model_row(&id).hidden_if(move || !fits(&name)).into()
                }),
        )
        .child(el("p").class("sub").hidden_if(move || !nothing_fits()).say("No model has that in its name."))
        .child(no_models().hidden_if(move || !none()))
        .child(add_model().hidden_if(none))
        .child(upkeep_dialogs())
}

/// Filters while one types; without JavaScript the server filters.
fn filter(wanted: RwSignal<String>, query: String) -> El {
    let field = el("input")
        .id("filter")
        .attr("name", "q")
        .attr("type", "search")
        .attr("aria-label", "Filter models by name")
        .attr("placeholder", "Filter  /")
        .attr("autocomplete", "off")
        .attr("value", query)
        .on(ev::input, move |event| wanted.set(event_target_value(&event)));
    el("form")
        .attr("method", "get")
        .attr("action", "")
        .attr("role", "search")
        .class("filter")
        .on(ev::submit, |event| event.prevent_default())
        .child(field)
}

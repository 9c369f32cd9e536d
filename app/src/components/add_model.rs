//! How a model comes here: fetched by its name, or a file put into the folder.

use leptos::prelude::*;

use super::{dialog::unless, model_row::hidden_field, verb_form};
use crate::{
    Live,
    dom::{El, el},
};

/// The models that come with the catalogue: reference, kind, what it does, and the button.
const OFFERS: [(&str, &str, &str); 2] = [
    ("smollm2", "A small one that answers conversations.", "Download smollm2, 94 MiB"),
    ("minilm", "Turns texts into vectors, for search and comparison.", "Download minilm, 87 MiB"),
];

/// What is shown when there is no model at all.
pub(super) fn no_models() -> El {
    let live = expect_context::<Live>();
    let offer = move |(reference, does, label): (&'static str, &'static str, &'static str)| {
        let under_way = move || {
            let house = live.house();
            let here = house.downloads.iter().any(|d| d.reference == reference && d.error.is_none());
            if here { "It is on its way." } else { "" }
        };
        el("li")
            .child(el("span").child(el("b").say(reference)).child(el("span").class("sub").say(does)))
            .child(
                verb_form("/manage/pull")
                    .child(hidden_field("ref", reference))
                    .child(unless(el("button").class("btn main"), under_way).say(label)),
            )
    };
    el("div")
        .class("no-models")
        .child(el("p").say("There is no model on this machine yet. These two come with Innkeeper's catalogue, pinned by size and checksum:"))
        .child(el("ul").class("sums offers").children(OFFERS.map(offer)))
        .child(
            el("p")
                .class("sub")
                .say("Or put a .gguf file of your own into ")
                .child(folder())
                .say("; it appears here by itself."),
        )
}

/// The form below the table.
pub(super) fn add_model() -> El {
    let field = el("input")
        .id("pull-ref")
        .attr("name", "ref")
        .attr("list", "pull-refs")
        .attr("placeholder", "smollm2")
        .attr("autocomplete", "off")
        .attr("spellcheck", "false")
        .flag("required");
    let option = |value: &'static str, label: &'static str| el("option").attr("value", value).say(label);
    el("details").class("edit add").child(el("summary").say("Add a model")).child(
        el("div")
            .class("adding")
            .child(
                verb_form("/manage/pull")
                    .class("inline")
                    .child(el("label").attr("for", "pull-ref").say("Fetch "))
                    .child(field)
                    .child(el("button").class("btn small").say("Download")),
            )
            .child(
                el("datalist")
                    .id("pull-refs")
                    .child(option("smollm2", "SmolLM2 135M Instruct, chat, 94 MiB"))
                    .child(option("minilm", "all-MiniLM-L6-v2, embeddings, 87 MiB")),
            )
            .child(
                verb_form("/manage/rescan")
                    .class("inline")
                    .child(el("span").class("sub").say("Or put a .gguf file into ").child(folder()).say("."))
                    .child(el("button").class("btn small").say("Look again")),
            ),
    )
}

fn folder() -> El {
    let live = expect_context::<Live>();
    let folder = move || live.house().server.models_dir.clone();
    el("code").text(move || {
        Some(folder()).filter(|f| !f.is_empty()).unwrap_or_else(|| "the models folder".to_owned())
    })
}

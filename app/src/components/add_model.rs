//! How a model comes here: fetched by its name, or a file put into the folder.

use leptos::prelude::*;

use super::{model_row::hidden_field, verb_form};
use crate::{
    Live,
    dom::{El, el},
};

/// What is shown when there is no model at all.
pub(super) fn no_models() -> El {
    el("div")
        .class("no-models")
        .child(
            el("p").say(
                "There is no model on this machine yet. smollm2 is a small one that answers conversations.",
            ),
        )
        .child(
            verb_form("/manage/pull")
                .child(hidden_field("ref", "smollm2"))
                .child(el("button").class("btn main").say("Download smollm2, 94 MiB")),
        )
        .child(
            el("p")
                .class("sub")
                .say("Or put a .gguf file into ")
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

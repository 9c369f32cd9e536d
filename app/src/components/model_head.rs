//! The head of a model's page: how it stands, and what can be done.

use super::{
    dialog::ask,
    model_row::{Shown, state_cell, trouble, unloads_cell},
    row_actions::row_actions,
};
use crate::{
    Live,
    dom::{El, el},
    words,
};

/// The section at the top.
pub(crate) fn model_head(live: Live, model: Shown, name: &str) -> El {
    let gone = move || !model.is_there();
    let sound = move || model.get().is_none_or(|m| m.failure.is_none());
    let unable = move || match model.state().is_at_rest() {
        true => "",
        false => "Unload it first: its files are in use.",
    };
    let remove = ask("remove", "btn small", unable, || "Remove files\u{2026}".to_owned());
    el("section")
        .attr("aria-labelledby", "model")
        .child(
            el("div")
                .class("head middle")
                .child(
                    el("div")
                        .child(el("h1").id("model").class("big").say(name))
                        .child(el("p").class("quiet").text(model.text(words::about_file)))
                        .child(el("p").hidden_if(move || !gone()).say("There is no model of this name any more, or not yet. Resources shows those that there are.")),
                )
                .child(
                    el("div")
                        .class("acts")
                        .hidden_if(gone)
                        .child(row_actions(live, model, name))
                        .child(remove),
                ),
        )
        .child(
            el("div")
                .class("standing")
                .hidden_if(gone)
                .child(state_cell(live, model, name))
                .child(unloads_cell(live, model, name)),
        )
        .child(el("div").class("trouble-box").hidden_if(sound).child(trouble(model)))
}

//! What reinitialising all loaded models does, before the click.

use leptos::prelude::*;

use super::{
    cleanup_dialog::goes,
    dialog::{close, dialog, unless},
    model_row::hidden_field,
    verb_form,
};
use crate::{
    Live,
    dom::{El, el},
    pure::cleanup,
    words::count,
};

/// The dialog behind "Reinitialise loaded models".
pub(super) fn reinitialise_dialog() -> El {
    let live = expect_context::<Live>();
    let preview = move || cleanup::reinitialise(&live.house().models);
    let number = move || preview().goes.len() as u64;
    let in_flight = move || u64::from(preview().cut_off);
    let waits = move || {
        let requests = count(in_flight(), "request");
        format!(
            "{requests} in flight: they have 30 s to end and are cut off then. New ones wait for the new instance."
        )
    };
    let unable = move || if number() == 0 { "No model is ready." } else { "" };
    let button = unless(el("button").class("btn main"), unable)
        .text(move || format!("Reinitialise {}", count(number(), "model")));
    dialog("reinitialise", "Reinitialise loaded models")
        .child(el("p").hidden_if(move || number() == 0).say(
            "Each of these models is drained and unloaded, its memory is checked, and it is loaded afresh.",
        ))
        .child(
            el("p")
                .hidden_if(move || number() != 0)
                .say("No model is ready, so there is nothing to reinitialise."),
        )
        .child(goes(preview))
        .child(el("p").class("sub").hidden_if(move || in_flight() == 0).text(waits))
        .child(
            verb_form("/manage/reload")
                .class("stack")
                .child(hidden_field("model", "*"))
                .child(el("div").class("acts end").child(close("reinitialise", "Cancel")).child(button)),
        )
}

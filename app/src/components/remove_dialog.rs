//! What goes when a model's files are removed, before the click.

use super::{
    dialog::{close, dialog, unless},
    model_row::{Shown, hidden_field},
    verb_form,
};
use crate::{
    Live,
    dom::{El, el},
    words::bytes,
};

/// The dialog behind "Remove files".
pub(crate) fn remove_dialog(live: Live, model: Shown, name: &str) -> El {
    let id = name.to_owned();
    let amount = move || model.get().map(|m| bytes(m.size_bytes)).unwrap_or_default();
    let says =
        move || format!("The files of {id} are deleted from this machine; the disk gets {} back.", amount());
    let unable = move || match (model.is_there(), model.state().is_at_rest()) {
        (false, _) => "It is gone already.",
        (true, false) => "Unload it first: its files are in use.",
        (true, true) => "",
    };
    let folder = move || live.house().server.models_dir.clone();
    dialog("remove", "Remove the files of this model")
        .child(el("p").text(says))
        .child(
            el("p")
                .class("sub")
                .say("They lie in ")
                .child(el("code").text(folder))
                .say(". Its settings and its history stay. A model of the catalogue can be fetched again; a file of your own cannot."),
        )
        .child(
            verb_form("/manage/remove").class("stack").child(hidden_field("model", name)).child(
                el("div")
                    .class("acts end")
                    .child(close("remove", "Cancel"))
                    .child(unless(el("button").class("btn danger"), unable).say("Remove files")),
            ),
        )
}

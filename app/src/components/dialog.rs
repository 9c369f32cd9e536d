//! Native dialogs that also work without JavaScript: the button that opens one is a form that asks for the same page
//! with `?ask=NAME`, and the server draws that dialog open.

use leptos::{ev, prelude::*};
use leptos_router::hooks::use_query_map;
use wasm_bindgen::JsCast;
use web_sys::HtmlDialogElement;

use crate::{
    Live, Notice,
    dom::{El, el},
};

/// A dialog by its name, which is its id and the value of `ask`. What is put into it stands below its heading.
pub(crate) fn dialog(name: &'static str, title: &'static str) -> El {
    let asked = use_query_map().with_untracked(|query| query.get("ask").as_deref() == Some(name));
    let heading = format!("{name}-title");
    let dialog = el("dialog").id(name).class("dialog").attr("aria-labelledby", heading.clone());
    let dialog = if asked { dialog.flag("open") } else { dialog };
    dialog
        .child(el("h2").id(heading).class("mid").say(title))
        .child(el("form").attr("method", "dialog").id(format!("{name}-close")))
}

/// The button that closes a dialog; may stand inside another form.
pub(crate) fn close(name: &'static str, label: &'static str) -> El {
    el("button").class("btn").attr("form", format!("{name}-close")).say(label)
}

/// The button that opens a dialog, and why it cannot at the moment (empty: it can).
pub(crate) fn ask(
    name: &'static str,
    class: &'static str,
    unable: impl Fn() -> &'static str + Copy + Send + 'static,
    label: impl Fn() -> String + Send + 'static,
) -> El {
    let live = expect_context::<Live>();
    let button = el("button")
        .attr("name", "ask")
        .attr("value", name)
        .class(class)
        .attr("aria-haspopup", "dialog")
        .on(ev::click, move |event| {
            event.prevent_default();
            match untrack(unable) {
                "" => open(name),
                reason => live.said.set(Some(Notice::bad(reason, ""))),
            }
        })
        .text(label);
    el("form").attr("method", "get").attr("action", "").child(unless(button, unable))
}

/// A button that says why it cannot act instead of being out of reach; an empty reason means that it can.
pub(crate) fn unless<R: Into<String>>(button: El, unable: impl Fn() -> R + Copy + Send + 'static) -> El {
    let reason = move || Some(unable().into()).filter(|reason: &String| !reason.is_empty());
    button.attr_of("aria-disabled", move || reason().map(|_| "true".to_owned())).attr_of("title", reason)
}

/// Opens a dialog as a modal one. The browser traps the focus and gives it back.
pub(crate) fn open(name: &str) {
    let dialog = document().get_element_by_id(name).and_then(|e| e.dyn_into::<HtmlDialogElement>().ok());
    if let Some(dialog) = dialog {
        // One that the server drew open is not modal yet.
        dialog.close();
        // Fails only where the browser knows no dialogs; then the page's own text stands there anyway.
        let _ = dialog.show_modal();
    }
}

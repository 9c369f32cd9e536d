//! Native dialogs that also work without JavaScript: the button that opens one is a form that asks for the same page
//! with `?ask=NAME`, and the server draws that dialog open.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use wasm_bindgen::JsCast;
use web_sys::HtmlDialogElement;

/// A dialog by its name, which is its id and the value of `ask`.
#[component]
pub fn Dialog(
    /// Its name.
    name: &'static str,
    /// Its heading.
    title: &'static str,
    /// What is in it.
    children: Children,
) -> impl IntoView {
    let asked = use_query_map().with_untracked(|query| query.get("ask").as_deref() == Some(name));
    let heading = format!("{name}-title");
    let labelled = heading.clone();
    view! {
        <dialog id=name class="dialog" open=asked aria-labelledby=labelled>
            <h2 id=heading class="mid">
                {title}
            </h2>
            {children()}
            <form method="dialog" id=format!("{name}-close")></form>
        </dialog>
    }
    .into_any()
}

/// The button that closes a dialog; may stand inside another form.
#[component]
pub fn Close(
    /// The dialog's name.
    name: &'static str,
    /// What it says.
    #[prop(default = "Cancel")]
    label: &'static str,
) -> impl IntoView {
    view! {
        <button class="btn" form=format!("{name}-close")>
            {label}
        </button>
    }
}

/// The button that opens a dialog.
#[component]
pub fn Ask(
    /// The dialog's name.
    name: &'static str,
    /// How the button looks.
    #[prop(default = "btn")]
    class: &'static str,
    /// Why it cannot act now; empty: it can.
    #[prop(optional, into)]
    unable: Signal<&'static str>,
    /// What it says.
    children: Children,
) -> impl IntoView {
    let live = expect_context::<crate::Live>();
    let reason = move || Some(unable.get()).filter(|reason| !reason.is_empty());
    view! {
        <form method="get" action="">
            <button
                name="ask"
                value=name
                class=class
                aria-haspopup="dialog"
                aria-disabled=move || reason().map(|_| "true")
                title=reason
                on:click=move |event| {
                    event.prevent_default();
                    match reason() {
                        Some(reason) => live.said.set(Some(crate::Notice::bad(reason, ""))),
                        None => open(name),
                    }
                }
            >
                {children()}
            </button>
        </form>
    }
    .into_any()
}

/// Opens a dialog as a modal one. The browser traps the focus and gives it back.
pub fn open(name: &str) {
    let dialog = document().get_element_by_id(name).and_then(|e| e.dyn_into::<HtmlDialogElement>().ok());
    if let Some(dialog) = dialog {
        // One that the server drew open is not modal yet.
        dialog.close();
        // Fails only where the browser knows no dialogs; then the page's own text stands there anyway.
        let _ = dialog.show_modal();
    }
}

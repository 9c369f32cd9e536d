//! A button that copies a text. Only there once the page is hydrated, since nothing else can do it.

use leptos::{ev, prelude::*, task::spawn_local};
use wasm_bindgen_futures::JsFuture;

use crate::{
    Live, Notice,
    dom::{El, el},
};

/// Copies what the text is at the moment of the click, and says so.
pub(super) fn copy_button(label: &'static str, text: impl Fn() -> String + Copy + 'static) -> El {
    let live = expect_context::<Live>();
    let copy = move |_| {
        let text = untrack(text);
        // Browsers have no clipboard for pages that came in the clear from another machine.
        if !window().is_secure_context() {
            live.said.set(Some(refused()));
            return;
        }
        spawn_local(async move {
            let written = JsFuture::from(window().navigator().clipboard().write_text(&text)).await;
            live.said.set(Some(match written {
                Ok(_) => Notice::good("Copied."),
                Err(_) => {
                    Notice::bad("This browser does not let the page copy.", "Select the text and copy it.")
                }
            }));
        });
    };
    el("button")
        .attr("type", "button")
        .class("btn small")
        .hidden_if(move || live.zone.get().is_none())
        .on(ev::click, copy)
        .say(label)
}

fn refused() -> Notice {
    Notice::bad("This browser does not let the page copy.", "Select the text and copy it.")
}

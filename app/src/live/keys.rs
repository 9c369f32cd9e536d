//! Two keys for the whole page: `/` goes to the filter, `?` opens the help. They can be switched off.

use leptos::{ev, prelude::*};
use wasm_bindgen::JsCast;

use crate::components::dialog;

/// Under this name the browser keeps that the keys are off.
pub const SHORTCUTS_OFF: &str = "innkeeper.shortcuts.off";

/// Whether the keys are on.
pub fn shortcuts_on() -> bool {
    let storage = window().local_storage().ok().flatten();
    storage.and_then(|s| s.get_item(SHORTCUTS_OFF).ok().flatten()).is_none()
}

pub(super) fn start() {
    // For the page's whole life, so the handle is not needed.
    let _ = window_event_listener(ev::keydown, |event| {
        if event.ctrl_key() || event.meta_key() || event.alt_key() || is_typing(&event) || !shortcuts_on() {
            return;
        }
        match event.key().as_str() {
            "/" => {
                let filter = document().get_element_by_id("filter");
                if let Some(filter) = filter.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
                    event.prevent_default();
                    let _ = filter.focus();
                }
            }
            "?" => {
                event.prevent_default();
                dialog::open("help");
            }
            _ => {}
        }
    });
}

/// Whether the key goes into a field.
fn is_typing(event: &web_sys::KeyboardEvent) -> bool {
    let target = event.target().and_then(|t| t.dyn_into::<web_sys::Element>().ok());
    target.is_some_and(|element| matches!(element.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT"))
}

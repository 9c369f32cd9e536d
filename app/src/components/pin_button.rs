//! The button that pins a model, or no longer.

use leptos::prelude::*;

use super::{dialog::unless, model_row::hidden_field, verb_form};
use crate::{
    Live,
    dom::{El, el, unseen},
    words,
};

/// The form with the button; it says why where the configuration decides.
pub(crate) fn pin_button(live: Live, name: &str) -> El {
    let id = StoredValue::new(name.to_owned());
    let pinned = move || {
        let house = live.house();
        id.with_value(|id| house.models.iter().any(|m| m.id.as_str() == id && m.pinned))
    };
    let locked = move || -> String {
        let settings = live.settings.get();
        let own = id.with_value(|id| settings.of_model(id).and_then(|model| model.pinned.clone()));
        own.map(|setting| words::locked(&setting)).unwrap_or_default()
    };
    let button = el("button")
        .class("btn small")
        .attr("name", "pinned")
        .attr_of("value", move || Some((!pinned()).to_string()))
        .text(move || if pinned() { "Unpin" } else { "Pin" }.to_owned())
        .child(unseen(format!(" {name}")));
    verb_form("/manage/pin").child(hidden_field("model", name)).child(unless(button, locked))
}

//! What can be done to one model, always in the same place.
//!
//! The button furthest right is the same element in every state: what it says and where it posts follow the state.

use protocol::ModelState;

use super::{
    dialog::unless,
    model_row::{Shown, hidden_field},
    pin_button, verb_form, verb_form_of,
};
use crate::{
    Live,
    dom::{El, el, unseen},
};

/// What the main button does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Main {
    label: &'static str,
    to: &'static str,
    /// Whether running requests get no time to end.
    force: bool,
    /// Why it cannot act; empty: it can.
    unable: &'static str,
}

fn main_button(state: ModelState) -> Main {
    const LOAD: &str = "/manage/load";
    const UNLOAD: &str = "/manage/unload";
    let (label, to, force, unable) = match state {
        ModelState::Unloaded | ModelState::Failed => ("Load", LOAD, false, ""),
        ModelState::Waiting | ModelState::Loading => ("Cancel load", UNLOAD, false, ""),
        ModelState::Ready => ("Unload", UNLOAD, false, ""),
        ModelState::Draining => ("Unload now", UNLOAD, true, ""),
        ModelState::Unloading => ("Unload", UNLOAD, false, "It is being unloaded already."),
        ModelState::Stuck => ("Unload", UNLOAD, true, ""),
    };
    Main { label, to, force, unable }
}

fn reload_unable(state: ModelState) -> &'static str {
    match state {
        ModelState::Ready | ModelState::Failed | ModelState::Stuck | ModelState::Unloaded => "",
        _ => "It is on its way already.",
    }
}

/// Pin, Reload, and Load, Cancel load or Unload.
pub(super) fn row_actions(live: Live, model: Shown, name: &str) -> El {
    let pinned = move || model.get().is_some_and(|m| m.pinned);
    let main = move || main_button(model.state());
    let on_disk = move || model.state() == ModelState::Unloaded;
    let button = || el("button").class("btn small");
    let of = || unseen(format!(" {name}"));
    let reload = unless(button(), move || reload_unable(model.state())).say("Reload").child(of());
    let force = move || Some(if main().force { "true" } else { "" }.to_owned());
    let act = unless(button(), move || main().unable).text(move || main().label.to_owned()).child(of());
    el("div")
        .class("acts")
        .child(pin_button(live, name).hidden_if(move || on_disk() && !pinned()))
        .child(
            verb_form("/manage/reload").hidden_if(on_disk).child(hidden_field("model", name)).child(reload),
        )
        .child(
            verb_form_of(move || main().to)
                .child(hidden_field("model", name))
                .child(el("input").attr("type", "hidden").attr("name", "force").attr_of("value", force))
                .child(act),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_follows_the_state() {
        use ModelState::*;
        let states = [Unloaded, Waiting, Loading, Ready, Draining, Unloading, Failed, Stuck];
        assert_eq!(
            states.map(|state| main_button(state).label),
            ["Load", "Cancel load", "Cancel load", "Unload", "Unload now", "Unload", "Load", "Unload"]
        );
        assert!(main_button(Draining).force);
        assert!(!main_button(Ready).force);
        assert!(!main_button(Unloading).unable.is_empty());
    }
}

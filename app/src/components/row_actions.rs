//! What can be done to one model, always in the same place.
//!
//! The button furthest right is the same element in every state: what it says and where it posts follow the state.

use leptos::prelude::*;
use protocol::{Model, ModelState};

use super::VerbForm;

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

/// Pin, Reload, and Load, Cancel load or Unload.
#[component]
pub(super) fn RowActions(
    /// Which model.
    model: Memo<Option<Model>>,
    /// Its name, for the forms and for those who listen.
    name: StoredValue<String>,
) -> impl IntoView {
    let state = Memo::new(move |_| model.with(|m| m.as_ref().map_or(ModelState::Unloaded, |m| m.state)));
    let pinned = Memo::new(move |_| model.with(|m| m.as_ref().is_some_and(|m| m.pinned)));
    let main = Memo::new(move |_| main_button(state.get()));
    let on_disk = Memo::new(move |_| state.get() == ModelState::Unloaded);
    let reload = Memo::new(move |_| match state.get() {
        ModelState::Ready | ModelState::Failed | ModelState::Stuck | ModelState::Unloaded => "",
        _ => "It is on its way already.",
    });
    let of = move || view! { <span class="visually-hidden">" " {name.get_value()}</span> };
    let reason = |text: &'static str| Some(text).filter(|text| !text.is_empty());
    view! {
        <div class="acts">
            <VerbForm to="/manage/pin" hidden=Memo::new(move |_| on_disk.get() && !pinned.get())>
                <input type="hidden" name="model" value=name.get_value() />
                <button
                    class="btn small"
                    name="pinned"
                    value=move || if pinned.get() { "false" } else { "true" }
                    title="A pinned model is spared by its timer, by evictions and by clean-ups"
                >
                    {move || if pinned.get() { "Unpin" } else { "Pin" }}
                    {of()}
                </button>
            </VerbForm>
            <VerbForm to="/manage/reload" hidden=on_disk>
                <input type="hidden" name="model" value=name.get_value() />
                <button
                    class="btn small"
                    aria-disabled=move || reason(reload.get()).map(|_| "true")
                    title=move || reason(reload.get()).unwrap_or("Drain, unload, check the memory, load again")
                >
                    "Reload"
                    {of()}
                </button>
            </VerbForm>
            <VerbForm to=Signal::derive(move || main.get().to)>
                <input type="hidden" name="model" value=name.get_value() />
                <input type="hidden" name="force" value=move || if main.get().force { "true" } else { "" } />
                <button
                    class="btn small act"
                    aria-disabled=move || reason(main.get().unable).map(|_| "true")
                    title=move || reason(main.get().unable)
                >
                    {move || main.get().label}
                    {of()}
                </button>
            </VerbForm>
        </div>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_follows_the_state() {
        use ModelState::*;
        let said = [Unloaded, Waiting, Loading, Ready, Draining, Unloading, Failed, Stuck]
            .map(|s| main_button(s).label);
        assert_eq!(
            said,
            ["Load", "Cancel load", "Cancel load", "Unload", "Unload now", "Unload", "Load", "Unload"]
        );
        assert!(main_button(Draining).force);
        assert!(!main_button(Ready).force);
        assert!(!main_button(Unloading).unable.is_empty());
    }
}

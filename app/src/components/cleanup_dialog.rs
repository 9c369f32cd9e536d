//! What a clean-up takes, before the click: each model, its bytes, and who is kept and why.

use leptos::prelude::*;
use protocol::{Expected, Kept};

use super::{Dialog, VerbForm, dialog::Close};
use crate::{
    Live,
    pure::cleanup,
    words::{bytes, count},
};

/// The dialog behind "Clean up AI resources".
#[component]
pub fn CleanUpDialog() -> impl IntoView {
    let live = expect_context::<Live>();
    let force = RwSignal::new(false);
    let preview = Memo::new(move |_| live.snapshot.with(|s| cleanup::clean_up(&s.models, force.get())));
    let busy = live.memo(|s| {
        let gently = cleanup::clean_up(&s.models, false).goes.len();
        cleanup::clean_up(&s.models, true).goes.len() > gently
    });
    let nothing = Memo::new(move |_| preview.with(|p| p.goes.is_empty()));
    let total = move || preview.with(|p| p.bytes());
    let cut_off = move || preview.with(|p| u64::from(p.cut_off));
    view! {
        <Dialog name="cleanup" title="Clean up AI resources">
            <p hidden=move || nothing.get()>
                "These models are unloaded. Their memory goes back to the machine, and each gets a receipt."
            </p>
            <p hidden=move || !nothing.get()>
                "No idle model is loaded."
            </p>
            <Goes goes=Signal::derive(move || preview.with(|p| p.goes.clone())) />
            <Stays kept=Signal::derive(move || preview.with(|p| p.kept.clone())) />
            <VerbForm to="/manage/cleanup" class="stack">
                <input type="hidden" name="what" value="all" />
                <label class="check" hidden=move || !busy.get()>
                    <input
                        type="checkbox"
                        name="force"
                        value="true"
                        on:change=move |event| force.set(event_target_checked(&event))
                    />
                    <span>
                        "Busy models too. Their requests are cut off."
                        <span class="sub">
                            {move || match cut_off() {
                                0 => String::new(),
                                cut => format!("{} will end with an error.", count(cut, "request")),
                            }}
                        </span>
                    </span>
                </label>
                <div class="acts end">
                    <Close name="cleanup" />
                    <button
                        class="btn main"
                        aria-disabled=move || (nothing.get() && !busy.get()).then_some("true")
                        title=move || (nothing.get() && !busy.get()).then_some("There is nothing to free.")
                    >
                        "Clean up"
                        {move || match total() {
                            0 => String::new(),
                            bytes => format!(" \u{b7} frees about {}", crate::words::about(bytes)),
                        }}
                    </button>
                </div>
            </VerbForm>
        </Dialog>
    }
    .into_any()
}

/// The models that go, with their bytes.
#[component]
pub(super) fn Goes(goes: Signal<Vec<Expected>>) -> impl IntoView {
    let rows = move || {
        let row = |one: Expected| {
            let amount = one.expected_bytes.map_or_else(|| "not measured yet".to_owned(), bytes);
            view! {
                <li>
                    <span>{one.model.to_string()}</span>
                    <b class="val">{amount}</b>
                </li>
            }
        };
        goes.get().into_iter().map(row).collect_view()
    };
    view! {
        <ul class="sums" hidden=move || goes.with(Vec::is_empty)>
            {rows}
        </ul>
    }
    .into_any()
}

/// The models that stay, with the reason.
#[component]
fn Stays(kept: Signal<Vec<Kept>>) -> impl IntoView {
    let rows = move || {
        let row = |one: Kept| {
            view! {
                <li>
                    <span>{one.model.to_string()}</span>
                    <span class="quiet">{one.reason}</span>
                </li>
            }
        };
        kept.get().into_iter().map(row).collect_view()
    };
    view! {
        <div hidden=move || kept.with(Vec::is_empty)>
            <h3 class="label">"Kept"</h3>
            <ul class="sums">{rows}</ul>
        </div>
    }
    .into_any()
}

//! What reinitialising all loaded models does, before the click.

use leptos::prelude::*;

use super::{Dialog, VerbForm, cleanup_dialog::Goes, dialog::Close};
use crate::{Live, pure::cleanup, words::count};

/// The dialog behind "Reinitialise loaded models".
#[component]
pub fn ReinitialiseDialog() -> impl IntoView {
    let live = expect_context::<Live>();
    let preview = live.memo(|s| cleanup::reinitialise(&s.models));
    let number = move || preview.with(|p| p.goes.len() as u64);
    let in_flight = move || preview.with(|p| u64::from(p.cut_off));
    view! {
        <Dialog name="reinitialise" title="Reinitialise loaded models">
            <p hidden=move || number() == 0>
                "Each of these models is drained and unloaded, its memory is checked, and it is loaded afresh."
            </p>
            <p hidden=move || number() != 0>
                "No model is ready, so there is nothing to reinitialise."
            </p>
            <Goes goes=Signal::derive(move || preview.with(|p| p.goes.clone())) />
            <p class="sub" hidden=move || in_flight() == 0>
                {move || count(in_flight(), "request")}
                " in flight: they have 30 s to end and are cut off then. New ones wait for the new instance."
            </p>
            <VerbForm to="/manage/reload" class="stack">
                <input type="hidden" name="model" value="*" />
                <div class="acts end">
                    <Close name="reinitialise" />
                    <button
                        class="btn main"
                        aria-disabled=move || (number() == 0).then_some("true")
                        title=move || (number() == 0).then_some("No model is ready.")
                    >
                        "Reinitialise "
                        {move || count(number(), "model")}
                    </button>
                </div>
            </VerbForm>
        </Dialog>
    }
    .into_any()
}

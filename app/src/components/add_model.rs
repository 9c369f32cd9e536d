//! How a model comes here: fetched by its name, or a file put into the folder.

use leptos::prelude::*;

use super::VerbForm;
use crate::Live;

/// What is shown when there is no model at all.
#[component]
pub fn NoModels(
    /// Whether there are models.
    #[prop(into)]
    hidden: Signal<bool>,
) -> impl IntoView {
    view! {
        <div class="no-models" hidden=move || hidden.get()>
            <p>"There is no model on this machine yet. smollm2 is a small one that answers conversations."</p>
            <VerbForm to="/manage/pull">
                <input type="hidden" name="ref" value="smollm2" />
                <button class="btn main">"Download smollm2, 94 MiB"</button>
            </VerbForm>
            <p class="sub">"Or put a .gguf file into " <Folder /> "; it appears here by itself."</p>
        </div>
    }
    .into_any()
}

/// The form below the table.
#[component]
pub fn AddModel(
    /// Whether there is no model at all, which has its own words.
    #[prop(into)]
    hidden: Signal<bool>,
) -> impl IntoView {
    view! {
        <details class="edit add" hidden=move || hidden.get()>
            <summary>"Add a model"</summary>
            <div class="adding">
                <VerbForm to="/manage/pull" class="inline">
                    <label for="pull-ref">"Fetch "</label>
                    <input
                        id="pull-ref"
                        name="ref"
                        list="pull-refs"
                        placeholder="smollm2"
                        autocomplete="off"
                        spellcheck="false"
                        required
                    />
                    <button class="btn small">"Download"</button>
                </VerbForm>
                <datalist id="pull-refs">
                    <option value="smollm2">"SmolLM2 135M Instruct, chat, 94 MiB"</option>
                    <option value="minilm">"all-MiniLM-L6-v2, embeddings, 87 MiB"</option>
                </datalist>
                <VerbForm to="/manage/rescan" class="inline">
                    <span class="sub">"Or put a .gguf file into " <Folder /> "."</span>
                    <button class="btn small">"Look again"</button>
                </VerbForm>
            </div>
        </details>
    }
    .into_any()
}

#[component]
fn Folder() -> impl IntoView {
    let live = expect_context::<Live>();
    let folder = live.memo(|s| s.server.models_dir.clone());
    view! {
        <code>
            {move || folder.with(|f| if f.is_empty() { "the models folder".to_owned() } else { f.clone() })}
        </code>
    }
}

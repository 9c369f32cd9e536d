//! The models, with what can be done to all of them.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

use super::{AddModel, Ask, CleanUpDialog, Downloads, NoModels, ReinitialiseDialog, model_row::ModelRow};
use crate::{
    Live,
    pure::{cleanup, is_loaded},
    words::about,
};

/// The section with the table of models.
#[component]
pub fn ModelTable() -> impl IntoView {
    let live = expect_context::<Live>();
    let ids = live.ids();
    let none = Memo::new(move |_| ids.with(Vec::is_empty));
    let query = use_query_map().with_untracked(|query| query.get("q").unwrap_or_default());
    let wanted = RwSignal::new(query.clone());
    let fits = move |name: &str| wanted.with(|w| name.to_lowercase().contains(&w.trim().to_lowercase()));
    let nothing_fits =
        Memo::new(move |_| !none.get() && !ids.with(|ids| ids.iter().any(|id| fits(id.as_str()))));
    view! {
        <section aria-labelledby="models">
            <div class="head middle">
                <h2 id="models" class="mid val">
                    <LoadedCount />
                </h2>
                <form method="get" action="" role="search" class="filter" hidden=move || none.get()>
                    <input
                        id="filter"
                        name="q"
                        type="search"
                        aria-label="Filter models by name"
                        placeholder="Filter  /"
                        autocomplete="off"
                        value=query
                        on:input=move |event| wanted.set(event_target_value(&event))
                        on:keydown=move |event| {
                            if event.key() == "Enter" {
                                event.prevent_default();
                            }
                        }
                    />
                </form>
                <div class="acts">
                    <ReinitialiseButton />
                    <CleanUpButton />
                </div>
            </div>
            <Downloads />
            <table class="models" hidden=move || none.get()>
                <thead>
                    <tr>
                        <th scope="col">"Model"</th>
                        <th scope="col">"State"</th>
                        <th scope="col" class="num">
                            "Memory taken"
                        </th>
                        <th scope="col" class="num">
                            "In use by"
                        </th>
                        <th scope="col">"Unloads"</th>
                        <th scope="col" class="num">
                            "Actions"
                        </th>
                    </tr>
                </thead>
                <For each=move || ids.get() key=Clone::clone let:id>
                    <ModelRow shown=Memo::new({
                        let name = id.to_string();
                        move |_| fits(&name)
                    }) id=id />
                </For>
            </table>
            <p class="sub" hidden=move || !nothing_fits.get()>
                "No model has that in its name."
            </p>
            <NoModels hidden=Memo::new(move |_| !none.get()) />
            <AddModel hidden=none />
            <CleanUpDialog />
            <ReinitialiseDialog />
        </section>
    }
    .into_any()
}

#[component]
fn LoadedCount() -> impl IntoView {
    let live = expect_context::<Live>();
    let text = live.memo(|s| {
        let loaded = s.models.iter().filter(|m| is_loaded(m)).count();
        match s.models.len() {
            0 => "No models yet".to_owned(),
            all => format!("{loaded} of {all} models loaded"),
        }
    });
    move || text.get()
}

#[component]
fn CleanUpButton() -> impl IntoView {
    let live = expect_context::<Live>();
    let frees = live.memo(|s| cleanup::clean_up(&s.models, false).bytes());
    let nothing = live.memo(|s| {
        let preview = cleanup::clean_up(&s.models, true);
        preview.goes.is_empty() && preview.kept.is_empty()
    });
    let unable =
        Signal::derive(
            move || if nothing.get() { "No model is loaded: there is nothing to free." } else { "" },
        );
    view! {
        <Ask name="cleanup" class="btn main" unable=unable>
            "Clean up AI resources"
            {move || match frees.get() {
                0 => String::new(),
                bytes => format!(" \u{b7} frees about {}", about(bytes)),
            }}
        </Ask>
    }
    .into_any()
}

#[component]
fn ReinitialiseButton() -> impl IntoView {
    let live = expect_context::<Live>();
    let nothing = live.memo(|s| cleanup::reinitialise(&s.models).goes.is_empty());
    let unable = Signal::derive(move || {
        if nothing.get() { "No model is ready: there is nothing to reinitialise." } else { "" }
    });
    view! {
        <Ask name="reinitialise" unable=unable>
            "Reinitialise loaded models\u{2026}"
        </Ask>
    }
    .into_any()
}

//! Fetches that go on or have failed.

use leptos::prelude::*;

use super::VerbForm;
use crate::{Live, pure::download};

/// The list of downloads; empty when there is none.
#[component]
pub fn Downloads() -> impl IntoView {
    let live = expect_context::<Live>();
    let references = live.memo(|s| s.downloads.iter().map(|d| d.reference.clone()).collect::<Vec<_>>());
    view! {
        <ul class="downloads" aria-label="Downloads" hidden=move || references.with(Vec::is_empty)>
            <For each=move || references.get() key=Clone::clone let:reference>
                <DownloadRow reference=reference />
            </For>
        </ul>
    }
    .into_any()
}

#[component]
fn DownloadRow(reference: String) -> impl IntoView {
    let live = expect_context::<Live>();
    let download = {
        let reference = reference.clone();
        live.memo(move |s| s.downloads.iter().find(|d| d.reference == reference).cloned())
    };
    let failed = Memo::new(move |_| download.with(|d| d.as_ref().is_some_and(|d| d.error.is_some())));
    let value = move || {
        let (done, total) =
            download.with(|d| d.as_ref().and_then(|d| Some((d.done_bytes, d.total_bytes?))))?;
        (total > 0).then(|| (done as f64 / total as f64 * 100.0).floor().to_string())
    };
    let progress = {
        let reference = reference.clone();
        move || {
            let first = live.first_seen.with(|seen| seen.get(&reference).copied());
            let now = live.now.get().unix_ms();
            download
                .with(|d| d.as_ref().filter(|d| d.error.is_none()).map(|d| download::progress(d, first, now)))
        }
    };
    let name = StoredValue::new(reference);
    let error = move || download.with(|d| d.as_ref().and_then(|d| d.error.clone()).unwrap_or_default());
    view! {
        <li class="download" data-download=name.get_value()>
            <div>
                <b>{name.get_value()}</b>
                <progress
                    max="100"
                    value=value
                    hidden=move || failed.get()
                    aria-label=format!("Downloading {}", name.get_value())
                ></progress>
                <span class="sub val">{progress}</span>
                <span class="sub bad">{error}</span>
            </div>
            <VerbForm to="/manage/cancel_pull">
                <input type="hidden" name="ref" value=name.get_value() />
                <button class="btn small">
                    {move || if failed.get() { "Dismiss" } else { "Cancel" }}
                    <span class="visually-hidden">" download of " {name.get_value()}</span>
                </button>
            </VerbForm>
        </li>
    }
    .into_any()
}

//! What the words mean, which keys there are, and the same verbs from a terminal.

use leptos::prelude::*;

use super::{Dialog, dialog::Close};
use crate::live::{SHORTCUTS_OFF, shortcuts_on};

/// The words that a reader of the page may wonder about.
const WORDS: [(&str, &str); 6] = [
    (
        "Memory taken",
        "The private bytes of the model's process: exactly what the machine gets back when it goes.",
    ),
    (
        "File cache",
        "Weights mapped from disk. The system drops them by itself when it needs room, so they count as free.",
    ),
    (
        "Idle timeout",
        "How long a model may go unused. Only inference and loading count as use; looking does not.",
    ),
    ("Reload", "Drain, unload, check that the memory came back, load again."),
    ("Pinned", "No timer, eviction or clean-up unloads it. Unload still does."),
    ("Given back", "Measured after the process had ended, not assumed."),
];

const TERMINAL: [(&str, &str); 3] = [
    ("What is loaded", "innkeeper ps"),
    ("Clean up", "innkeeper cleanup"),
    ("Unload one", "innkeeper unload smollm2"),
];

/// The dialog behind `?`.
#[component]
pub fn HelpDialog() -> impl IntoView {
    let on = RwSignal::new(true);
    Effect::new(move |_| on.set(shortcuts_on()));
    let entry = |(word, meaning): (&'static str, &'static str)| {
        view! {
            <dt>{word}</dt>
            <dd>{meaning}</dd>
        }
    };
    let command = |(what, line): (&'static str, &'static str)| {
        view! {
            <dt>{what}</dt>
            <dd>
                <code>{line}</code>
            </dd>
        }
    };
    view! {
        <Dialog name="help" title="Help">
            <h3 class="label">"Words"</h3>
            <dl class="words">{WORDS.map(entry)}</dl>
            <h3 class="label">"Keys"</h3>
            <dl class="words">
                <dt>
                    <kbd>"/"</kbd>
                </dt>
                <dd>"goes to the filter"</dd>
                <dt>
                    <kbd>"?"</kbd>
                </dt>
                <dd>"opens this help"</dd>
            </dl>
            <label class="check">
                <input
                    type="checkbox"
                    prop:checked=move || on.get()
                    checked
                    on:change=move |event| keep(on, event_target_checked(&event))
                />
                <span>"These two keys are on"</span>
            </label>
            <h3 class="label">"The same from a terminal"</h3>
            <dl class="words">{TERMINAL.map(command)}</dl>
            <div class="acts end">
                <Close name="help" label="Close" />
            </div>
        </Dialog>
    }
    .into_any()
}

/// Remembers in this browser whether the keys are on.
fn keep(on: RwSignal<bool>, wanted: bool) {
    on.set(wanted);
    if let Ok(Some(storage)) = window().local_storage() {
        // A browser that keeps nothing forgets the choice; the keys work all the same.
        let _ =
            if wanted { storage.remove_item(SHORTCUTS_OFF) } else { storage.set_item(SHORTCUTS_OFF, "1") };
    }
}

//! What the words mean, which keys there are, and the same verbs from a terminal.

use leptos::{ev, prelude::*};

use super::dialog::{close, dialog};
use crate::{
    dom::{El, el},
    live::{SHORTCUTS_OFF, shortcuts_on},
};

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

const KEYS: [(&str, &str); 2] = [("/", "goes to the filter"), ("?", "opens this help")];

const TERMINAL: [(&str, &str); 3] = [
    ("What is loaded", "innkeeper ps"),
    ("Clean up", "innkeeper cleanup"),
    ("Unload one", "innkeeper unload smollm2"),
];

/// The dialog behind `?`.
pub(crate) fn help_dialog() -> El {
    let on = RwSignal::new(true);
    Effect::new(move |_| on.set(shortcuts_on()));
    let check = el("input")
        .attr("type", "checkbox")
        .flag_if("checked", move || on.get())
        .on(ev::change, |event| keep(event_target_checked(&event)));
    let part = |name: &'static str| el("h3").class("label").say(name);
    let list = |entries: Vec<[El; 2]>| el("dl").class("words").children(entries.into_iter().flatten());
    let say = |tag: &'static str, text: &'static str| el(tag).say(text);
    let words = WORDS.map(|(word, meaning)| [say("dt", word), say("dd", meaning)]);
    let keys = KEYS.map(|(key, does)| [el("dt").child(say("kbd", key)), say("dd", does)]);
    let lines = TERMINAL.map(|(what, line)| [say("dt", what), el("dd").child(say("code", line))]);
    dialog("help", "Help")
        .child(part("Words"))
        .child(list(words.into()))
        .child(part("Keys"))
        .child(list(keys.into()))
        .child(el("label").class("check").child(check).child(say("span", "These two keys are on")))
        .child(part("The same from a terminal"))
        .child(list(lines.into()))
        .child(el("div").class("acts end").child(close("help", "Close")))
}

/// Remembers in this browser whether the keys are on.
fn keep(wanted: bool) {
    if let Ok(Some(storage)) = window().local_storage() {
        // A browser that keeps nothing forgets the choice; the keys work all the same.
        let _ =
            if wanted { storage.remove_item(SHORTCUTS_OFF) } else { storage.set_item(SHORTCUTS_OFF, "1") };
    }
}

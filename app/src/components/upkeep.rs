//! The two verbs for all models at once: clean up and reinitialise, with what they would do before the click. They
//! stand on Resources and, as people look for them there, on Settings.

use leptos::prelude::*;

use super::{cleanup_dialog::clean_up_dialog, dialog::ask, reinitialise_dialog::reinitialise_dialog};
use crate::{
    Live,
    dom::{El, el},
    pure::cleanup,
    words::about,
};

/// Both buttons.
pub(crate) fn upkeep_buttons() -> El {
    let live = expect_context::<Live>();
    el("div").class("acts").child(reinitialise_button(live)).child(clean_up_button(live))
}

/// The dialogs behind them; once on a page.
pub(crate) fn upkeep_dialogs() -> El {
    el("div").child(clean_up_dialog()).child(reinitialise_dialog())
}

fn clean_up_button(live: Live) -> El {
    let unable = move || {
        let preview = cleanup::clean_up(&live.house().models, true);
        let nothing = preview.goes.is_empty() && preview.kept.is_empty();
        if nothing { "No model is loaded: there is nothing to free." } else { "" }
    };
    ask("cleanup", "btn main", unable, move || match cleanup::clean_up(&live.house().models, false).bytes() {
        0 => "Clean up AI resources".to_owned(),
        bytes => format!("Clean up AI resources \u{b7} frees about {}", about(bytes)),
    })
}

fn reinitialise_button(live: Live) -> El {
    let unable = move || {
        let nothing = cleanup::reinitialise(&live.house().models).goes.is_empty();
        if nothing { "No model is ready: there is nothing to reinitialise." } else { "" }
    };
    ask("reinitialise", "btn", unable, || "Reinitialise loaded models\u{2026}".to_owned())
}

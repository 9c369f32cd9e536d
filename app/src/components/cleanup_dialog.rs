//! What a clean-up takes, before the click: each model, its bytes, and who is kept and why.

use leptos::{ev, prelude::*};
use protocol::{Expected, Kept};

use super::{
    dialog::{close, dialog, unless},
    model_row::hidden_field,
    verb_form,
};
use crate::{
    Live,
    dom::{El, el, say},
    pure::cleanup::{self, Preview},
    words::{about, bytes, count},
};

/// The dialog behind "Clean up AI resources".
pub(super) fn clean_up_dialog() -> El {
    let live = expect_context::<Live>();
    let force = RwSignal::new(false);
    let would = move |force| cleanup::clean_up(&live.house().models, force);
    let preview = move || would(force.get());
    let busy = move || would(true).goes.len() > would(false).goes.len();
    let nothing = move || preview().goes.is_empty();
    let unable = move || if nothing() && !busy() { "There is nothing to free." } else { "" };
    let cut_off = move || match u64::from(preview().cut_off) {
        0 => String::new(),
        cut => format!("{} will end with an error.", count(cut, "request")),
    };
    let label = move || match preview().bytes() {
        0 => "Clean up".to_owned(),
        bytes => format!("Clean up \u{b7} frees about {}", about(bytes)),
    };
    let check = el("input")
        .attr("type", "checkbox")
        .attr("name", "force")
        .attr("value", "true")
        .on(ev::change, move |event| force.set(event_target_checked(&event)));
    let form = verb_form("/manage/cleanup")
        .class("stack")
        .child(hidden_field("what", "all"))
        .child(
            el("label").class("check").hidden_if(move || !busy()).child(check).child(
                el("span")
                    .say("Busy models too. Their requests are cut off.")
                    .child(el("span").class("sub").text(cut_off)),
            ),
        )
        .child(
            el("div")
                .class("acts end")
                .child(close("cleanup", "Cancel"))
                .child(unless(el("button").class("btn main"), unable).text(label)),
        );
    dialog("cleanup", "Clean up AI resources")
        .child(el("p").hidden_if(nothing).say(
            "These models are unloaded. Their memory goes back to the machine, and each gets a receipt.",
        ))
        .child(el("p").hidden_if(move || !nothing()).say("No idle model is loaded."))
        .child(goes(preview))
        .child(stays(preview))
        .child(form)
}

/// The models that go, with their bytes.
pub(super) fn goes(preview: impl Fn() -> Preview + Copy + Send + 'static) -> El {
    let row = |one: &Expected| {
        let amount = one.expected_bytes.map_or_else(|| "not measured yet".to_owned(), bytes);
        el("li").child(el("span").say(one.model.to_string())).child(el("b").class("val").say(amount)).into()
    };
    el("ul")
        .class("sums")
        .hidden_if(move || preview().goes.is_empty())
        .list(move || preview().goes.iter().map(row).collect())
}

/// The models that stay, with the reason.
fn stays(preview: impl Fn() -> Preview + Copy + Send + 'static) -> El {
    let row = |one: &Kept| {
        let reason = el("span").class("quiet").say(one.reason.clone());
        el("li").child(el("span").say(one.model.to_string())).child(reason).into()
    };
    el("div")
        .hidden_if(move || preview().kept.is_empty())
        .child(el("h3").class("label").child(say("Kept")))
        .child(el("ul").class("sums").list(move || preview().kept.iter().map(row).collect()))
}

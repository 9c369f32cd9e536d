//! Fetches that go on or have failed.

use leptos::prelude::*;

use super::{model_row::hidden_field, verb_form};
use crate::{
    Live,
    dom::{El, el, unseen},
    pure::download,
    words::percent,
};

/// The list of downloads; out of sight when there is none.
pub(super) fn downloads() -> El {
    let live = expect_context::<Live>();
    let references = move || live.house().downloads.iter().map(|d| d.reference.clone()).collect();
    el("ul")
        .class("downloads")
        .attr("aria-label", "Downloads")
        .hidden_if(move || live.house().downloads.is_empty())
        .each(references, move |reference| row(live, &reference).into())
}

fn row(live: Live, reference: &str) -> El {
    let id = StoredValue::new(reference.to_owned());
    let download = move || {
        let house = live.house();
        id.with_value(|id| house.downloads.iter().find(|d| d.reference == *id).cloned())
    };
    let failed = move || download().is_some_and(|d| d.error.is_some());
    let value = move || {
        let download = download()?;
        Some(percent(download.done_bytes, download.total_bytes?).to_string())
    };
    let progress = move || {
        let download = download().filter(|d| d.error.is_none())?;
        let first = live.seen().downloads.get(&download.reference).copied();
        Some(download::progress(&download, first, live.now.get().unix_ms()))
    };
    let error = move || download().and_then(|d| d.error);
    el("li")
        .class("download")
        .attr("data-download", reference)
        .child(
            el("div")
                .child(el("b").say(reference))
                .child(
                    el("progress")
                        .attr("max", "100")
                        .attr("aria-label", format!("Downloading {reference}"))
                        .attr_of("value", value)
                        .hidden_if(failed),
                )
                .child(el("span").class("sub val").text_if(progress))
                .child(el("span").class("sub bad").text_if(error)),
        )
        .child(
            verb_form("/manage/cancel_pull").child(hidden_field("ref", reference)).child(
                el("button")
                    .class("btn small")
                    .text(move || if failed() { "Dismiss" } else { "Cancel" }.to_owned())
                    .child(unseen(format!(" download of {reference}"))),
            ),
        )
}

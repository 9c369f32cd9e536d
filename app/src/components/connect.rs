//! How a program reaches this server: the base URL, and lines that work as they are pasted.

use leptos::prelude::*;
use protocol::{ModelKind, ModelState, Snapshot};

use super::copy_button::copy_button;
use crate::{
    Live,
    dom::{El, el},
    words,
};

/// The section "Connect a program".
pub(crate) fn connect_card() -> El {
    let live = expect_context::<Live>();
    let base = move || live.base_url.get();
    let model = move || asked_model(&live.house());
    let url = move || format!("{}/v1", base());
    let curl = move || words::curl(&base(), &model());
    let python = move || words::python(&base(), &model());
    el("section")
        .attr("aria-labelledby", "connect")
        .child(el("h2").id("connect").say("Connect a program"))
        .child(
            el("p")
                .class("lead")
                .say("Anything that speaks OpenAI's API works here. A model that is not loaded is loaded for the request. \
                     From another machine it takes a token, a line of tokens.toml in the data folder."),
        )
        .child(
            el("p")
                .class("line")
                .child(el("span").class("label").say("Base URL"))
                .child(el("code").id("base-url").text(url))
                .child(copy_button("Copy base URL", url)),
        )
        .child(snippet("curl", "snippet-curl", curl))
        .child(snippet("Python, with the package openai", "snippet-python", python))
}

fn snippet(name: &'static str, id: &'static str, text: impl Fn() -> String + Copy + Send + 'static) -> El {
    let label = if id == "snippet-curl" { "Copy curl" } else { "Copy Python" };
    el("figure")
        .class("snippet")
        .child(
            el("figcaption")
                .class("line between")
                .child(el("span").class("label").say(name))
                .child(copy_button(label, text)),
        )
        .child(
            el("pre")
                .id(id)
                .class("log")
                .attr("tabindex", "0")
                .attr("aria-label", name)
                .attr("role", "region")
                .text(text),
        )
}

/// The chat model that the lines ask: one that is loaded, else the first, else the one that is fetched first.
fn asked_model(snapshot: &Snapshot) -> String {
    let mut chat: Vec<_> = snapshot.models.iter().filter(|model| model.kind == ModelKind::Chat).collect();
    chat.sort_by_key(|model| match model.state {
        ModelState::Ready => 0,
        ModelState::Failed => 2,
        _ => 1,
    });
    chat.first().map_or_else(|| "smollm2".to_owned(), |model| model.id.to_string())
}

//! What a model's files are.

use leptos::{prelude::*, task::spawn_local};

use super::model_row::Shown;
use crate::{
    dom::{El, el},
    fetch,
    manage::About,
    words::{bytes, thousands},
};

/// The section "Files".
pub(crate) fn model_facts(model: Shown, name: &str, about: Option<About>) -> El {
    let id = StoredValue::new(name.to_owned());
    let shown = RwSignal::new(about);
    Effect::new(move |_| {
        if shown.with_untracked(Option::is_some) {
            return;
        }
        let path = id.with_value(|id| format!("/manage/model?model={id}"));
        spawn_local(async move {
            let about = fetch::get::<About>(&path).await;
            // The page may have been left meanwhile.
            let _ = shown.try_set(about);
        });
    });
    let of = move |say: fn(&About) -> Option<String>| {
        move || shown.with(|about| about.as_ref().and_then(say)).unwrap_or_else(|| "unknown".to_owned())
    };
    let fact = |name: &'static str, text: El| [el("dt").say(name), el("dd").child(text)];
    let text = |say| el("span").text(of(say));
    let facts = [
        fact("Name in the file", text(|a| a.name.clone())),
        fact("Family", el("span").text(model.text(|m| m.family.clone()))),
        fact("Quantisation", el("span").text(model.text(|m| m.quantization.clone()))),
        fact("Parameters", text(|a| a.parameters.map(thousands))),
        fact("Longest context", el("span").text(of(|a| a.context.map(|n| thousands(u64::from(n)))))),
        fact("Layers", el("span").text(of(|a| a.layers.map(|n| thousands(u64::from(n)))))),
        fact("Width", el("span").text(of(|a| a.width.map(|n| thousands(u64::from(n)))))),
        fact("Vocabulary", el("span").text(of(|a| a.vocabulary.map(|n| thousands(u64::from(n)))))),
        fact(
            "Chat template",
            text(|a| {
                a.has_template.map(|has| if has { "in the file" } else { "none in the file" }.to_owned())
            }),
        ),
        fact("Memory for each token", text(|a| a.kv_bytes_per_token.map(bytes))),
    ];
    let places = move || {
        shown
            .with(|about| about.as_ref().map(|a| a.files.iter().map(|file| file.path.clone()).collect()))
            .unwrap_or_default()
    };
    let file = move |path: String| {
        let size = shown.with_untracked(|about| {
            let file = about.as_ref()?.files.iter().find(|file| file.path == path)?;
            let link = if file.is_link { ", a link" } else { "" };
            Some(format!(" {}{link}", bytes(file.size_bytes)))
        });
        el("li")
            .child(el("code").say(path))
            .child(el("span").class("quiet").say(size.unwrap_or_default()))
            .into()
    };
    el("section")
        .attr("aria-labelledby", "files")
        .child(el("h2").id("files").say("Files"))
        .child(el("ul").class("files").each(places, file))
        .child(el("dl").class("words facts").children(facts.into_iter().flatten()))
}

//! What a model was expected to take, against what it takes.

use protocol::{Instance, Model};

use super::{model_row::Shown, plan_line};
use crate::{
    Live,
    dom::{El, el},
    words::{self, bytes, fixed},
};

/// The section "Memory".
pub(crate) fn model_memory(live: Live, model: Shown, name: &str) -> El {
    let loaded = move || model.get().is_some_and(|m| !m.instances.is_empty());
    let of = move |say: fn(&Instance) -> Option<String>| {
        move || {
            model
                .get()
                .and_then(|m| m.instances.first().and_then(say))
                .unwrap_or_else(|| "unknown".to_owned())
        }
    };
    let fact = |name: &'static str, text: El| [el("dt").say(name), el("dd").child(text)];
    let value = |text: El| text.class("val");
    let since = move || {
        let at = model.get().and_then(|m| m.instances.first().and_then(|i| i.loaded_at));
        at.map_or_else(|| "not yet".to_owned(), |at| live.clock_text(at, false))
    };
    let facts = [
        fact("Expected at ready", value(el("span").text(of(|i| i.predicted_bytes.map(bytes))))),
        fact(
            "Measured now",
            value(el("span").text(of(|i| i.memory.as_ref().map(|m| bytes(m.private_bytes))))),
        ),
        fact("Off by", value(el("span").text(model.text(off)))),
        fact("File cache", value(el("span").text(of(|i| i.memory.as_ref().map(|m| bytes(m.mapped_bytes)))))),
        fact("On a GPU", value(el("span").text(of(on_gpu)))),
        fact("Loaded", value(el("span").text(since))),
        fact("Load took", value(el("span").text(of(|i| i.load_ms.map(words::took))))),
        fact(
            "Reloads in the last hour",
            value(el("span").text(model.text(|m| m.reloads_per_hour.to_string()))),
        ),
        fact(
            "Runs on",
            value(el("span").text(of(|i| {
                Some(format!("{}, {}", i.device, words::count(u64::from(i.threads), "thread")))
            }))),
        ),
        fact(
            "Context now",
            value(
                el("span")
                    .text(of(|i| Some(format!("{} positions", words::thousands(u64::from(i.context)))))),
            ),
        ),
        fact(
            "Served by",
            value(el("span").text(of(|i| Some(i.served_by.clone()).filter(|s| !s.is_empty())))),
        ),
        fact(
            "Confined by",
            value(el("span").text(of(|i| Some(i.sandbox.clone()).filter(|s| !s.is_empty())))),
        ),
        fact("Process", value(el("span").text(of(|i| Some(i.pid.to_string()))))),
    ];
    el("section")
        .attr("aria-labelledby", "memory")
        .child(el("h2").id("memory").say("Memory"))
        .child(el("p").class("quiet").hidden_if(loaded).say("It is not loaded and takes nothing."))
        .child(plan_line(live, model, name, false))
        .child(
            el("dl").class("words facts").hidden_if(move || !loaded()).children(facts.into_iter().flatten()),
        )
}

/// How far the last load was from its prediction. What it takes after that is another matter: a conversation's cache comes on top.
fn off(model: &Model) -> String {
    let Some(percent) = model.prediction_error_percent else { return "unknown".to_owned() };
    // Above 0 where too much was predicted.
    let side = if percent > 0.0 { "less" } else { "more" };
    format!("{}\u{a0}% {side} than expected at ready", fixed(percent.abs(), 1))
}

fn on_gpu(instance: &Instance) -> Option<String> {
    let gpu = instance.memory.as_ref()?.gpu_bytes;
    Some(gpu.filter(|bytes| *bytes > 0).map_or_else(|| "nothing".to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn the_error_of_a_prediction_is_that_of_the_load_and_has_its_side() {
        // It has taken much more since.
        let mut model = example::ready("smollm2", 110);
        let said = |model: &Model| off(model).replace('\u{a0}', " ");
        assert_eq!(said(&model), "unknown");
        model.prediction_error_percent = Some(3.12);
        assert_eq!(said(&model), "3.1 % less than expected at ready");
        model.prediction_error_percent = Some(-50.0);
        assert_eq!(said(&model), "50.0 % more than expected at ready");
    }
}

//! One model: its state, its memory, who uses it, when it goes, and what can be done.

use std::sync::Arc;

use leptos::prelude::*;
use protocol::{Failure, Model, ModelState, Quality};

use super::{Field, copy_button::copy_button, plan_line, row_actions::row_actions, setting_form, verb_form};
use crate::{
    Live,
    dom::{El, el, unseen},
    pure::colour,
    words::{self, about, bytes, part_of, sentence},
};

/// A model as a row or a page knows it, kept up with the house.
#[derive(Clone, Copy)]
pub(crate) struct Shown(Memo<Option<Arc<Model>>>);

impl Shown {
    /// The model of this name.
    pub(crate) fn of(live: Live, name: &str) -> Self {
        let id = name.to_owned();
        let find = move |_: Option<&_>| {
            live.house().models.iter().find(|m| m.id.as_str() == id).cloned().map(Arc::new)
        };
        Self(Memo::new(find))
    }

    /// As it is now; `None` once it has gone from the shelf.
    pub(crate) fn get(self) -> Option<Arc<Model>> {
        self.0.get()
    }

    /// Whether there is such a model.
    pub(crate) fn is_there(self) -> bool {
        self.0.with(Option::is_some)
    }

    /// The model's state now.
    pub(crate) fn state(self) -> ModelState {
        self.0.with(|model| model.as_ref().map_or(ModelState::Unloaded, |m| m.state))
    }

    /// A text about it; empty once it has gone from the shelf.
    pub(crate) fn text(self, say: fn(&Model) -> String) -> impl Fn() -> String + Copy + Send + 'static {
        move || self.0.with(|model| model.as_ref().map(|m| say(m))).unwrap_or_default()
    }
}

/// A row, and while there is a failure a second one that explains it. Each cell is a text of its own, written only
/// when it changes; no element comes or goes with the state, so the focus stays where it is.
pub(super) fn model_row(name: &str) -> El {
    let live = expect_context::<Live>();
    let model = Shown::of(live, name);
    let swatch = move || {
        let model = model.get()?;
        Some(format!("swatch {}", colour(&live.house(), &model.id)))
    };
    let unheld = move || !model.state().holds_memory();
    let cell = |inside: El| el("td").child(inside);
    let row = el("tr")
        .attr("data-model", name)
        .attr_of("data-state", move || Some(model.state().word().to_owned()))
        .child(
            el("th")
                .attr("scope", "row")
                .child(
                    el("span")
                        .class("name")
                        .child(el("a").attr("href", format!("/model/{name}")).say(name))
                        .child(
                            el("i").attr("aria-hidden", "true").attr_of("class", swatch).hidden_if(unheld),
                        ),
                )
                .child(el("span").class("sub").text(model.text(words::about_file))),
        )
        .child(cell(state_cell(live, model, name)))
        .child(memory_cell(model))
        .child(
            el("td")
                .class("num nowrap")
                .child(el("span").class("val").text(model.text(words::in_use)))
                .child(el("span").class("quiet").text(model.text(nobody))),
        )
        .child(cell(
            unloads_cell(live, model, name)
                .child(plan_line(live, model, name, true))
                .child(timeout_form(live, model, name)),
        ))
        .child(cell(row_actions(live, model, name)));
    let sound = move || model.get().is_none_or(|m| m.failure.is_none());
    let trouble =
        el("tr").class("trouble").hidden_if(sound).child(el("td").attr("colspan", "6").child(trouble(model)));
    el("tbody").child(row).child(trouble)
}

fn nobody(model: &Model) -> String {
    let idle = model.state == ModelState::Ready && words::in_use(model).is_empty();
    if idle { "nobody".to_owned() } else { String::new() }
}

pub(super) fn state_cell(live: Live, model: Shown, name: &str) -> El {
    let more = move || model.get().map(|m| words::state_more(&m, live.now.get())).unwrap_or_default();
    let done = move || {
        let (done, total) =
            model.get()?.progress.as_ref().filter(|p| p.total > 0).map(|p| (p.done, p.total))?;
        Some(words::percent(done, total).to_string())
    };
    el("div")
        .child(
            el("span")
                .class("state")
                .attr_of("data-state", move || Some(model.state().word().to_owned()))
                .text(model.text(words::state)),
        )
        .child(
            el("progress")
                .attr("max", "100")
                .attr("aria-label", format!("Loading {name}"))
                .attr_of("value", done)
                .hidden_if(move || model.state() != ModelState::Loading),
        )
        .child(el("span").class("sub val").text(more))
}

fn memory_cell(model: Shown) -> El {
    let quality = move || model.get().and_then(|m| quality(&m));
    el("td")
        .class("num")
        .child(el("span").class("val").text(model.text(taken)))
        .say(" ")
        .child(
            el("span")
                .class("q")
                .attr_of("title", move || quality().map(|q| explained(q.1).to_owned()))
                .text_if(move || quality().map(|q| q.0.to_owned())),
        )
        .child(el("span").class("sub val").text(model.text(beside)))
}

/// `33.1 MiB`; while it loads `1.2 of 1.9 GiB`.
fn taken(model: &Model) -> String {
    let Some(instance) = model.instances.first() else { return String::new() };
    let held = instance.memory.as_ref().map(|m| m.private_bytes);
    match (held, instance.predicted_bytes) {
        (Some(held), Some(whole)) if model.state == ModelState::Loading && whole > held => {
            part_of(held, whole)
        }
        (Some(held), _) => bytes(held),
        (None, Some(whole)) => about(whole),
        (None, None) => String::new(),
    }
}

/// How good the number is: its word, and where it comes from.
fn quality(model: &Model) -> Option<(&'static str, Quality)> {
    let instance = model.instances.first()?;
    let quality = match (&instance.memory, instance.predicted_bytes) {
        (Some(_), Some(_)) if model.state == ModelState::Loading => Quality::Estimated,
        (Some(memory), _) => memory.quality,
        (None, predicted) => predicted.map(|_| Quality::Estimated)?,
    };
    let word = match quality {
        Quality::Exact => "exact",
        Quality::Derived => "derived",
        Quality::Estimated => "about",
    };
    Some((word, quality))
}

fn explained(quality: Quality) -> &'static str {
    match quality {
        Quality::Exact => {
            "Counted by the kernel for this very process: what the machine gets back when it goes."
        }
        Quality::Derived => "Computed from exact numbers of another moment.",
        Quality::Estimated => "A prediction; it becomes exact once the model is ready.",
    }
}

/// The line below: file cache, the GPU, or what a load would take.
fn beside(model: &Model) -> String {
    let Some(instance) = model.instances.first() else {
        return words::would_take(model).unwrap_or_default();
    };
    let Some(memory) = &instance.memory else { return String::new() };
    let mut parts = Vec::new();
    parts.extend(
        memory.gpu_bytes.filter(|gpu| *gpu > 0).map(|gpu| format!("+ {} on {}", bytes(gpu), instance.device)),
    );
    if memory.mapped_bytes > 0 {
        parts.push(format!("+ {} file cache", about(memory.mapped_bytes)));
    }
    parts.join(", ")
}

pub(super) fn unloads_cell(live: Live, model: Shown, name: &str) -> El {
    let unloads = move || model.get().map(|m| words::unloads(&m, live.now.get())).unwrap_or_default();
    let keep = verb_form("/manage/load")
        .class("inline")
        .hidden_if(move || !unloads().counting)
        .child(hidden_field("model", name))
        .child(
            el("button")
                .class("btn small")
                .attr("title", "Counts as a use: the timer starts again")
                .say("Keep")
                .child(unseen(format!(" {name} loaded"))),
        );
    el("div")
        .child(
            el("div")
                .class("line")
                .hidden_if(move || unloads().when.is_empty())
                .child(el("span").class("val").attr("aria-live", "off").text(move || unloads().when))
                .child(keep),
        )
        .child(el("span").class("sub").text(move || unloads().why))
}

/// The model's own idle timeout, and the form that changes it.
fn timeout_form(live: Live, model: Shown, name: &str) -> El {
    let said = model.text(|m| format!("idle timeout {}", words::idle_timeout(m.idle_timeout_seconds)));
    let key = format!("models.{name}.idle_timeout");
    let wrong = move || live.said.with(|said| said.as_ref().is_some_and(|notice| notice.at(&key).is_some()));
    el("details")
        .class("edit")
        .flag_if("open", wrong)
        .child(el("summary").text(said))
        .child(own_timeout(live, name, false))
}

/// The form for a model's own idle timeout.
pub(crate) fn own_timeout(live: Live, name: &str, explained: bool) -> El {
    let field = Field {
        key: format!("models.{name}.idle_timeout"),
        to: "/manage/idle_timeout",
        name: "idle_timeout",
        model: Some(name.to_owned()),
        label: format!("Idle timeout of {name}"),
        explained,
    };
    let id = StoredValue::new(name.to_owned());
    let own = move || id.with_value(|id| live.settings.get().of_model(id)?.idle_timeout.clone());
    setting_form(field, own, move || live.settings.get().idle_timeout.value.clone())
}

/// Why it failed, what to do, and the worker's last words.
pub(super) fn trouble(model: Shown) -> El {
    let failure = move |pick: fn(&Failure) -> String| {
        move || model.get().and_then(|m| m.failure.as_ref().map(pick)).unwrap_or_default()
    };
    let log = failure(|f| f.log_tail.join("\n"));
    let details = move || {
        let parts = [failure(|f| f.message.clone())(), failure(|f| f.hint.clone())(), log()];
        parts.join("\n").trim().to_owned()
    };
    el("div")
        .child(
            el("p")
                .child(el("b").class("bad").text(failure(|f| sentence(&f.message) + " ")))
                .child(el("span").text(failure(|f| sentence(&f.hint)))),
        )
        .child(
            el("details")
                .class("edit")
                .hidden_if(move || log().is_empty())
                .child(el("summary").say("Last words of its worker"))
                .child(el("pre").class("log").attr("tabindex", "0").text(log)),
        )
        .child(copy_button("Copy details", details))
}

/// A field that a form sends along.
pub(crate) fn hidden_field(name: &'static str, value: impl Into<String>) -> El {
    el("input").attr("type", "hidden").attr("name", name).attr("value", value)
}

//! One model: its state, its memory, who uses it, when it goes, and what can be done.

use leptos::prelude::*;
use protocol::{Model, ModelId, ModelState, Quality};

use super::{VerbForm, row_actions::RowActions};
use crate::{
    Live,
    pure::colour,
    words::{self, about, bytes, part_of},
};

/// A row (and, while there is a failure, a second one that explains it). Each cell is a text of its own, written only
/// when it changes; no element comes or goes with the state, so the focus stays where it is.
#[component]
pub(super) fn ModelRow(
    /// Which model.
    id: ModelId,
    /// Whether the filter lets it through.
    shown: Memo<bool>,
) -> impl IntoView {
    let live = expect_context::<Live>();
    let model = live.model(id.clone());
    let state = Memo::new(move |_| model.with(|m| m.as_ref().map_or(ModelState::Unloaded, |m| m.state)));
    let failed = Memo::new(move |_| model.with(|m| m.as_ref().is_some_and(|m| m.failure.is_some())));
    let dot = {
        let id = id.clone();
        live.memo(move |s| format!("swatch {}", colour(s, &id)))
    };
    let held = Memo::new(move |_| state.get().holds_memory());
    let name = StoredValue::new(id.to_string());
    view! {
        <tbody hidden=move || !shown.get()>
            <tr data-model=name.get_value() data-state=move || state.get().word()>
                <th scope="row">
                    <span class="name">
                        {name.get_value()} <i class=move || dot.get() hidden=move || !held.get() aria-hidden="true"></i>
                    </span>
                    <span class="sub">{text(model, words::about_file)}</span>
                </th>
                <td>
                    <StateCell model=model name=name />
                </td>
                <td class="num">
                    <MemoryCell model=model />
                </td>
                <td class="num nowrap">
                    <span class="val">{text(model, words::in_use)}</span>
                    <span class="quiet none">{text(model, nobody)}</span>
                </td>
                <td>
                    <UnloadsCell model=model name=name />
                </td>
                <td>
                    <RowActions model=model name=name />
                </td>
            </tr>
            <tr class="trouble" hidden=move || !failed.get()>
                <td colspan="6">
                    <Trouble model=model />
                </td>
            </tr>
        </tbody>
    }
    .into_any()
}

/// A model's text; empty once it has gone from the shelf.
fn text(
    model: Memo<Option<Model>>,
    say: fn(&Model) -> String,
) -> impl Fn() -> String + Copy + Send + 'static {
    move || model.with(|m| m.as_ref().map(say).unwrap_or_default())
}

fn nobody(model: &Model) -> String {
    if model.state == ModelState::Ready && words::in_use(model).is_empty() {
        "nobody".to_owned()
    } else {
        String::new()
    }
}

#[component]
fn StateCell(model: Memo<Option<Model>>, name: StoredValue<String>) -> impl IntoView {
    let live = expect_context::<Live>();
    let word = move || model.with(|m| m.as_ref().map_or("unloaded", |m| m.state.word()));
    let more = move || model.with(|m| m.as_ref().map(|m| words::state_more(m, live.now.get())));
    let loading = move || model.with(|m| m.as_ref().is_some_and(|m| m.state == ModelState::Loading));
    let done = move || {
        let fraction = |m: &Model| m.progress.as_ref().filter(|p| p.total > 0).map(|p| (p.done, p.total));
        let (done, total) = model.with(|m| m.as_ref().and_then(fraction))?;
        Some((done as f64 / total as f64 * 100.0).floor().to_string())
    };
    view! {
        <span class="state" data-state=word>
            {text(model, words::state)}
        </span>
        <progress max="100" value=done hidden=move || !loading() aria-label=format!("Loading {}", name.get_value())></progress>
        <span class="sub val">{more}</span>
    }
    .into_any()
}

#[component]
fn MemoryCell(model: Memo<Option<Model>>) -> impl IntoView {
    let quality = move || model.with(|m| m.as_ref().and_then(quality));
    view! {
        <span class="val">{text(model, taken)}</span>
        " "
        <span class="q" title=move || quality().map(explained)>
            {move || quality().map(|q| q.0)}
        </span>
        <span class="sub val">{text(model, beside)}</span>
    }
    .into_any()
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

fn explained((_, quality): (&'static str, Quality)) -> &'static str {
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
        return model.expected_bytes.map_or_else(String::new, |b| format!("would take about {}", about(b)));
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

#[component]
fn UnloadsCell(model: Memo<Option<Model>>, name: StoredValue<String>) -> impl IntoView {
    let live = expect_context::<Live>();
    let unloads = Memo::new(move |_| {
        model.with(|m| m.as_ref().map(|m| words::unloads(m, live.now.get())).unwrap_or_default())
    });
    let still = Memo::new(move |_| unloads.with(|u| !u.counting));
    let timeout = move |m: &Model| words::idle_timeout(m.idle_timeout_seconds);
    let limit = move || model.with(|m| m.as_ref().map(timeout).unwrap_or_default());
    let value = model.with_untracked(|m| m.as_ref().map(|m| m.idle_timeout_seconds.to_string()));
    view! {
        <div class="line" hidden=move || unloads.with(|u| u.when.is_empty())>
            <span class="val" aria-live="off">
                {move || unloads.with(|u| u.when.clone())}
            </span>
            <VerbForm to="/manage/load" class="inline" hidden=still>
                <input type="hidden" name="model" value=name.get_value() />
                <button class="btn small" title="Counts as a use: the timer starts again">
                    "Keep"
                    <span class="visually-hidden">" " {name.get_value()} " loaded"</span>
                </button>
            </VerbForm>
        </div>
        <span class="sub">{move || unloads.with(|u| u.why.clone())}</span>
        <details class="edit">
            <summary>"idle timeout " {limit}</summary>
            <VerbForm to="/manage/idle_timeout" class="inline">
                <input type="hidden" name="model" value=name.get_value() />
                <input
                    name="idle_timeout"
                    class="short"
                    value=value
                    aria-label=format!("Idle timeout of {}", name.get_value())
                    list="timeouts"
                    autocomplete="off"
                    required
                />
                <button class="btn small">"Set"</button>
            </VerbForm>
        </details>
    }
    .into_any()
}

/// Why it failed, what to do, and the worker's last words.
#[component]
fn Trouble(model: Memo<Option<Model>>) -> impl IntoView {
    let failure = move |pick: fn(&protocol::Failure) -> String| {
        model.with(|m| m.as_ref().and_then(|m| m.failure.as_ref()).map(pick).unwrap_or_default())
    };
    let quiet = move || failure(|f| f.log_tail.join("\n")).is_empty();
    view! {
        <p>
            <b class="bad">{move || failure(|f| words::sentence(&f.message))}</b>
            " "
            {move || failure(|f| words::sentence(&f.hint))}
        </p>
        <details hidden=quiet>
            <summary>"Last words of its worker"</summary>
            <pre class="log" tabindex="0">
                {move || failure(|f| f.log_tail.join("\n"))}
            </pre>
        </details>
    }
    .into_any()
}

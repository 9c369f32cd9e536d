//! What a load would do, before the click; where it would be refused, the way past the refusal with its warning.

use leptos::{prelude::*, task::spawn_local};
use protocol::Snapshot;

use super::{
    model_row::{Shown, hidden_field},
    verb_form,
};
use crate::{
    Live,
    dom::{El, el, unseen},
    fetch,
    live::Link,
    manage::PlanWords,
};

/// The plans that came with the page.
#[derive(Clone, Copy)]
pub(crate) struct Plans(pub(crate) StoredValue<Vec<PlanWords>>);

/// The line for a model that is not loaded. `brief`: only what a reader would not expect, since what it takes stands
/// beside it.
pub(crate) fn plan_line(live: Live, model: Shown, name: &str, brief: bool) -> El {
    let id = StoredValue::new(name.to_owned());
    let first = use_context::<Plans>().and_then(|Plans(plans)| {
        plans.with_value(|all| all.iter().find(|one| one.model.as_str() == name).cloned())
    });
    let plan = RwSignal::new(first);
    let resting = move || model.is_there() && model.state().is_at_rest();
    // A plan that waits for somebody is settled by time alone: it is asked for again while it stands there.
    let beat = move || {
        let waits = plan.with(|words| words.as_ref().is_some_and(|words| words.waits));
        if waits && live.link.get() == Link::Live { live.now.get().unix_ms() / 2000 } else { 0 }
    };
    let moment = Memo::new(move |_| resting().then(|| (what_matters(&live.house()), beat())));
    Effect::new(move |before: Option<Option<(String, i64)>>| {
        let now = moment.get();
        // The server's own words are as new as the page.
        let known = before.is_none() && plan.with_untracked(Option::is_some);
        if now.is_some() && before.as_ref() != Some(&now) && !known {
            let path = id.with_value(|id| format!("/manage/plan_words?model={id}"));
            spawn_local(async move {
                let words = fetch::get(&path).await;
                // The page may have been left meanwhile.
                let _ = plan.try_set(words);
            });
        }
        now
    });
    let shown = move || plan.get().filter(|words| resting() && !(brief && words.plain));
    let part = move |pick: fn(PlanWords) -> String| move || shown().map(pick).unwrap_or_default();
    let refused = move || shown().is_some_and(|words| words.anyway);
    el("div")
        .class("plan")
        .hidden_if(move || shown().is_none())
        .child(
            el("p")
                .class("sub")
                .child(el("span").text(part(|words| words.text)))
                .say(" ")
                .child(el("span").text(part(|words| words.hint))),
        )
        .child(
            el("details")
                .class("edit")
                .hidden_if(move || !refused())
                .child(el("summary").say("Load anyway\u{2026}"))
                .child(el("p").class("sub").say(
                    "It goes past the limit and into what is kept free for other programs: they may become slow, or the \
                     system may end one of them. It is still refused where that is certain.",
                ))
                .child(
                    verb_form("/manage/load")
                        .child(hidden_field("model", name))
                        .child(hidden_field("anyway", "true"))
                        .child(el("button").class("btn small danger").say("Load anyway").child(unseen(format!(" {name}")))),
                ),
        )
}

/// What a plan depends on, as a text that changes when a plan may: what is spoken for, the limit, and who could go.
fn what_matters(snapshot: &Snapshot) -> String {
    let mut text = format!("{} {}", snapshot.budget.ram_reserved_bytes, snapshot.budget.ram_limit_bytes);
    for model in &snapshot.models {
        let busy = if model.in_flight > 0 || model.pinned { "!" } else { "" };
        text.push_str(&format!(" {}{busy}", model.state.word()));
    }
    text
}

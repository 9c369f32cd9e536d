//! The ledger as a table: what happened, why and by whom, what it did to memory, how long it took; the proof inside.

use std::sync::Arc;

use leptos::prelude::*;
use protocol::{LedgerEvent, Receipt};

use crate::{
    Live,
    dom::{El, el},
    ledger::Shown,
    words::{self, bytes, count, took},
};

const COLUMNS: [(&str, &str); 5] =
    [("When", ""), ("What", ""), ("Why", ""), ("Memory", "num"), ("Took", "num")];

/// The table; `of_one` leaves out which model it was.
pub(crate) fn ledger_table(shown: Shown, of_one: bool) -> El {
    let live = expect_context::<Live>();
    let column =
        |(name, class): (&'static str, &'static str)| el("th").attr("scope", "col").class(class).say(name);
    let row = move |id: String| {
        shown.find(&id).map_or_else(|| el("tr"), |event| event_row(live, &event, of_one)).into()
    };
    el("table")
        .class("ledger")
        .hidden_if(move || shown.is_empty())
        .child(el("thead").child(el("tr").children(COLUMNS.map(column))))
        .child(el("tbody").each(move || shown.ids(), row))
}

fn event_row(live: Live, event: &Arc<LedgerEvent>, of_one: bool) -> El {
    let at = event.at;
    let when = el("time")
        .attr("datetime", at.to_string())
        .child(el("span").text(move || live.clock_text(at, false)))
        .child(el("span").class("sub").text(move || words::day(at, live.zone.get().unwrap_or(0))));
    let what = el("td").child(
        el("span").class("kind").attr("data-kind", event.kind.word()).say(words::happened(event.kind)),
    );
    let what = match event.model.as_ref().filter(|_| !of_one) {
        Some(model) => what.child(el("span").class("sub whose").say(model.to_string())),
        None => what,
    };
    el("tr")
        .attr("data-event", event.id.to_string())
        .attr("data-kind", event.kind.word())
        .child(el("td").class("nowrap").child(when))
        .child(what)
        .child(
            el("td")
                .child(el("span").say(words::cause(event)))
                .child(el("span").class("sub").say(format!("by {}", event.asked_by)))
                .child(more(event)),
        )
        .child(el("td").class("num nowrap").say(words::moved(event)))
        .child(el("td").class("num nowrap").say(event.duration_ms.map(took).unwrap_or_default()))
}

/// What else there is to know, folded away; nothing where there is nothing.
fn more(event: &LedgerEvent) -> El {
    let mut facts: Vec<(&'static str, String)> = Vec::new();
    if let Some(receipt) = &event.receipt {
        facts.extend(proof(receipt));
    }
    if !event.detail.is_empty() {
        facts.push(("Detail", event.detail.clone()));
    }
    if facts.is_empty() {
        return el("span");
    }
    let title = if event.receipt.is_some() { "Receipt" } else { "Details" };
    facts.push(("Number", event.id.to_string()));
    let facts = facts.into_iter().flat_map(|(name, value)| [el("dt").say(name), el("dd").say(value)]);
    el("details")
        .class("edit")
        .child(el("summary").say(title))
        .child(el("dl").class("words facts").children(facts))
}

fn proof(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let words = words::receipt(receipt);
    let mut facts = vec![
        ("Verdict", words.text()),
        ("Held", bytes(receipt.ram.held_bytes)),
        ("Returned", bytes(receipt.ram.returned_bytes)),
        ("Left behind", bytes(receipt.ram.residual_bytes)),
        ("Ended by", words::method(receipt.method).to_owned()),
    ];
    facts.extend(receipt.pid.map(|pid| ("Process", pid.to_string())));
    for gpu in &receipt.gpus {
        facts.push((
            "On a GPU",
            format!("GPU {}: {}", gpu.index, words::part_of(gpu.returned_bytes, gpu.held_bytes)),
        ));
    }
    if receipt.cut_off_requests > 0 {
        facts.push(("Cut off", count(u64::from(receipt.cut_off_requests), "request")));
    }
    facts.extend(receipt.left.iter().map(|left| ("Left", left.clone())));
    facts
}

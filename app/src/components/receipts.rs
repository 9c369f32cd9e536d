//! The proof after each unload.

use leptos::prelude::*;
use protocol::{Receipt, Verdict};

use super::moment::moment;
use crate::{
    Live,
    dom::{El, el},
    words::{self, ReceiptWords},
};

/// So many receipts are shown at once; the rest stands in the ledger.
const SHOWN: usize = 6;

/// "Given back".
pub(crate) fn given_back() -> El {
    let live = expect_context::<Live>();
    let ids = move || live.house().receipts.iter().take(SHOWN).map(|one| one.id.to_string()).collect();
    let find =
        move |id: &str| live.house_once().receipts.iter().find(|one| one.id.to_string() == id).map(proof);
    el("section")
        .attr("aria-labelledby", "given-back")
        .child(el("h2").id("given-back").say("Given back"))
        .child(el("p").class("quiet empty").hidden_if(move || !live.house().receipts.is_empty()).say(
            "Nothing has been unloaded yet. When a model goes, the proof appears here: what it held, what came back, \
             and how long that took.",
        ))
        .child(
            el("ul")
                .class("receipts")
                .each(ids, move |id| find(&id).unwrap_or_else(|| el("li")).into()),
        )
}

fn proof(receipt: &Receipt) -> El {
    let at = receipt.at;
    let ReceiptWords { good, who, amount, rest, why } = words::receipt(receipt);
    let (mark, class) = if good { ("\u{2713}", "tick") } else { ("!", "warnmark") };
    let words = el("div")
        .say(who + " ")
        .child(el("b").say(amount))
        .say(format!(" {rest}"))
        .child(el("span").class("sub").say(why));
    let words = match receipt.verdict {
        Verdict::Returned | Verdict::NotLoaded => words,
        Verdict::Residual | Verdict::Stuck => words.child(what_now()),
    };
    el("li")
        .class("receipt")
        .attr("data-receipt", receipt.id.to_string())
        .child(el("span").class(class).attr("aria-hidden", "true").say(mark))
        .child(words)
        .child(el("span").class("sub").child(moment(move || at, true)))
}

fn what_now() -> El {
    el("details").class("edit").child(el("summary").say("What now?")).child(el("p").class("sub").say(
        "The worker has ended or cannot be ended, and memory that it had is still held. End the process that is named \
         above, or restart the server; until then that memory counts as taken.",
    ))
}

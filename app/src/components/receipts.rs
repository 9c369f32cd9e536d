//! The proof after each unload.

use leptos::prelude::*;
use protocol::Receipt;

use super::Moment;
use crate::{
    Live,
    words::{self, ReceiptWords},
};

/// So many receipts are shown at once; the rest stands in the ledger.
const SHOWN: usize = 6;

/// "Given back".
#[component]
pub fn GivenBack() -> impl IntoView {
    let live = expect_context::<Live>();
    let receipts = live.memo(|s| s.receipts.iter().take(SHOWN).cloned().collect::<Vec<_>>());
    view! {
        <section aria-labelledby="given-back">
            <h2 id="given-back">"Given back"</h2>
            <p class="quiet empty" hidden=move || !receipts.with(Vec::is_empty)>
                "Nothing has been unloaded yet. When a model goes, the proof appears here: what it held, what came back, \
                 and how long that took."
            </p>
            <ul class="receipts">
                <For each=move || receipts.get() key=|one| one.id let:one>
                    <Proof receipt=one />
                </For>
            </ul>
        </section>
    }
    .into_any()
}

#[component]
fn Proof(receipt: Receipt) -> impl IntoView {
    let at = receipt.at;
    let trouble = !matches!(receipt.verdict, protocol::Verdict::Returned | protocol::Verdict::NotLoaded);
    let ReceiptWords { good, who, amount, rest, why } = words::receipt(&receipt);
    let (mark, class) = if good { ("\u{2713}", "tick") } else { ("!", "warnmark") };
    view! {
        <li class="receipt" data-receipt=receipt.id.to_string()>
            <span class=class aria-hidden="true">
                {mark}
            </span>
            <div>
                {who} " " <b>{amount}</b> " " {rest} <span class="sub">{why}</span>
                {trouble
                    .then(|| {
                        view! {
                            <details class="edit">
                                <summary>"What now?"</summary>
                                <p class="sub">
                                    "The worker has ended, but memory that it had is still held. End the process that is \
                                     named above, or restart the server; until then that memory counts as taken."
                                </p>
                            </details>
                        }
                    })}
            </div>
            <span class="sub">
                <Moment at=at short=true />
            </span>
        </li>
    }
    .into_any()
}

//! What models held over the last fifteen minutes: an area each, stacked, and the same as a table.

use leptos::prelude::*;

use crate::{
    Live,
    pure::{colour, series::Point},
    words::{bytes, round},
};

/// "Held by models, last 15 minutes".
#[component]
pub fn HeldChart() -> impl IntoView {
    let live = expect_context::<Live>();
    let areas = move || {
        live.series.with(|series| {
            let area = |id| {
                let class = live.snapshot.with_untracked(|s| colour(s, &id));
                view! { <path class=format!("area {class}") d=series.area(&id) /> }
            };
            series.ids().into_iter().map(area).collect_view()
        })
    };
    let summary = move || {
        live.series.with(|series| {
            let now = series.last().map_or(0, Point::total);
            match series.peak().filter(|peak| peak.total() > 0) {
                Some(peak) => format!(
                    "peak {} at {}, now {}",
                    bytes(peak.total()),
                    live.clock_text(peak.at, true),
                    bytes(now)
                ),
                None => "no model has held memory since this page was opened".to_owned(),
            }
        })
    };
    let from = move || live.series.with(|s| s.first().map(|first| live.clock_text(first.at, false)));
    view! {
        <section aria-labelledby="held">
            <div class="head">
                <h2 id="held">"Held by models, last 15 minutes"</h2>
                <span class="sub">{summary}</span>
            </div>
            <figure class="chart">
                <span class="axis">{move || live.series.with(|s| round(s.top()))}</span>
                <svg viewBox="0 0 1000 120" preserveAspectRatio="none" aria-hidden="true" focusable="false">
                    <path class="grid" d="M0 0.5H1000M0 40H1000M0 80H1000M0 119.5H1000" />
                    <g>{areas}</g>
                </svg>
                <div class="ticks" aria-hidden="true">
                    <span>"15 min ago"</span>
                    <span>"10"</span>
                    <span>"5"</span>
                    <span>"now"</span>
                </div>
            </figure>
            <details class="edit">
                <summary>"as a table"</summary>
                <p class="sub">"Seen by this page since " {from} ", one line a minute."</p>
                <table class="held">
                    <thead>
                        <tr>
                            <th scope="col">"Time"</th>
                            <th scope="col" class="num">
                                "All models"
                            </th>
                            <th scope="col">"Each"</th>
                        </tr>
                    </thead>
                    <tbody>{move || rows(live)}</tbody>
                </table>
            </details>
        </section>
    }
    .into_any()
}

fn rows(live: Live) -> impl IntoView + use<> {
    let row = |point: &Point| {
        let each: Vec<_> = point.held.iter().map(|(id, amount)| format!("{id} {}", bytes(*amount))).collect();
        view! {
            <tr>
                <td>{live.clock_text(point.at, true)}</td>
                <td class="num">{bytes(point.total())}</td>
                <td>{each.join(", ")}</td>
            </tr>
        }
    };
    live.series.with(|series| series.minutes().into_iter().map(row).collect_view())
}

//! What models held over the last fifteen minutes: an area each, stacked, and the same as a table.

use leptos::prelude::*;

use crate::{
    Live,
    dom::{El, el},
    pure::{
        colour,
        series::{Point, Series},
    },
    words::{bytes, round},
};

/// "Held by models, last 15 minutes".
pub(crate) fn held_chart() -> El {
    let live = expect_context::<Live>();
    el("section")
        .attr("aria-labelledby", "held")
        .child(
            el("div")
                .class("head")
                .child(el("h2").id("held").say("Held by models, last 15 minutes"))
                .child(el("span").class("sub").text(move || summary(live, &live.seen().series))),
        )
        .child(picture(live))
        .child(table(live))
}

fn summary(live: Live, series: &Series) -> String {
    match series.peak().filter(|peak| peak.total() > 0) {
        Some(peak) => format!(
            "peak {} at {}, now {}",
            bytes(peak.total()),
            live.clock_text(peak.at, true),
            bytes(series.last().map_or(0, Point::total))
        ),
        None => "no model has held memory in that time".to_owned(),
    }
}

fn picture(live: Live) -> El {
    let areas = move || {
        let (seen, house) = (live.seen(), live.house_once());
        let area = |id| {
            let class = format!("area {}", colour(&house, &id));
            el("path").class(class).attr("d", seen.series.area(&id)).into()
        };
        seen.series.ids().into_iter().map(area).collect()
    };
    let ticks = ["15 min ago", "10", "5", "now"].map(|tick| el("span").say(tick));
    el("figure")
        .class("chart")
        .child(el("span").class("axis").text(move || round(live.seen().series.top())))
        .child(
            el("svg")
                .attr("viewBox", "0 0 1000 120")
                .attr("preserveAspectRatio", "none")
                .attr("aria-hidden", "true")
                .attr("focusable", "false")
                .child(el("path").class("grid").attr("d", "M0 0.5H1000M0 40H1000M0 80H1000M0 119.5H1000"))
                .list(areas),
        )
        .child(el("div").class("ticks").attr("aria-hidden", "true").children(ticks))
}

fn table(live: Live) -> El {
    let row = move |point: &Point| {
        let each: Vec<_> = point.held.iter().map(|(id, amount)| format!("{id} {}", bytes(*amount))).collect();
        el("tr")
            .child(el("td").say(live.clock_text(point.at, true)))
            .child(el("td").class("num").say(bytes(point.total())))
            .child(el("td").say(each.join(", ")))
            .into()
    };
    let from = move || {
        let first = live.seen().series.first().map(|first| first.at);
        let at = first.map(|at| live.clock_text(at, false)).unwrap_or_default();
        format!("Measured since {at}, one line a minute.")
    };
    let column =
        |class: &'static str, name: &'static str| el("th").attr("scope", "col").class(class).say(name);
    let head =
        el("tr").child(column("", "Time")).child(column("num", "All models")).child(column("", "Each"));
    el("details")
        .class("edit")
        .child(el("summary").say("as a table"))
        .child(el("p").class("sub").text(from))
        .child(
            el("table")
                .class("held")
                .child(el("thead").child(head))
                .child(el("tbody").list(move || live.seen().series.minutes().into_iter().map(row).collect())),
        )
}

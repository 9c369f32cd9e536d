//! How well models answer: load time, time to first token, speed and queue wait, over three windows.

use std::time::Duration;

use leptos::{prelude::*, task::spawn_local};

use crate::{
    Live,
    dom::{El, el},
    fetch,
    ledger::{Query, WINDOWS},
    live::Link,
    manage::PerformanceRow,
};

const COLUMNS: [&str; 6] = ["Requests", "First token", "Tokens", "Waited", "Load", "GiB-hours"];

/// Between two looks at the numbers.
const LOOK: Duration = Duration::from_secs(5);

/// The section; `rows` came with the page.
pub(crate) fn performance_table(live: Live, query: &Query, rows: Option<Vec<PerformanceRow>>) -> El {
    let window = query.window;
    let known = rows.is_some();
    let rows = RwSignal::new(rows.unwrap_or_default());
    let path = format!("/manage/performance_words?window={window}");
    let path = StoredValue::new(path);
    let look = move || {
        let path = path.get_value();
        spawn_local(async move {
            let Some(new) = fetch::get::<Vec<PerformanceRow>>(&path).await else { return };
            if rows.try_with_untracked(|rows| *rows != new) == Some(true) {
                // The page may have been left meanwhile.
                let _ = rows.try_set(new);
            }
        });
    };
    Effect::new(move |_| {
        if !known {
            look();
        }
        let again = move || {
            if live.link.get_untracked() == Link::Live {
                look();
            }
        };
        if let Ok(timer) = set_interval_with_handle(again, LOOK) {
            on_cleanup(move || timer.clear());
        }
    });
    let nothing = move || rows.with(Vec::is_empty);
    let column = |name: &'static str| el("th").attr("scope", "col").class("num").say(name);
    el("section")
        .attr("aria-labelledby", "performance")
        .child(
            el("div")
                .class("head middle")
                .child(el("h2").id("performance").class("mid").say("How well models answer"))
                .child(windows(query)),
        )
        .child(el("p").class("quiet empty").hidden_if(move || !nothing()).say("No model was asked within this time."))
        .child(
            el("table")
                .class("performance")
                .hidden_if(nothing)
                .child(el("thead").child(el("tr").child(el("th").attr("scope", "col").say("Model")).children(COLUMNS.map(column))))
                .child(el("tbody").each(
                    move || rows.with(|rows| rows.iter().map(|row| row.model.clone()).collect()),
                    move |model| row(rows, model).into(),
                )),
        )
        .child(el("p").class("sub").hidden_if(nothing).say(
            "The middle value of all requests; p95 and p99: so many of a hundred stayed within it. First token counts from the \
             request, a load and the wait included.",
        ))
}

fn row(rows: RwSignal<Vec<PerformanceRow>>, model: String) -> El {
    let cell = |at: usize| {
        let id = StoredValue::new(model.clone());
        let find = move |more: bool| {
            rows.with(|rows| {
                let row = id.with_value(|id| rows.iter().find(|row| row.model == *id))?;
                row.cells.get(at).map(|cell| if more { cell.more.clone() } else { cell.main.clone() })
            })
            .unwrap_or_default()
        };
        el("td")
            .class("num")
            .attr("data-label", COLUMNS[at])
            .child(el("span").class("val").text(move || find(false)))
            .child(el("span").class("sub val").text(move || find(true)))
    };
    let name = el("a").attr("href", format!("/model/{model}")).say(model.clone());
    el("tr")
        .attr("data-model", model.clone())
        .child(el("th").attr("scope", "row").child(el("span").class("name").child(name)))
        .children((0..COLUMNS.len()).map(cell))
}

/// Which span of time; the address carries it.
fn windows(query: &Query) -> El {
    let link = |(window, name): (&'static str, &'static str)| {
        let here = query.window == window;
        let link = el("a")
            .class("btn small")
            .attr("href", format!("/activity{}", query.within(window).text()))
            .attr("rel", "external")
            .say(name);
        if here { link.attr("aria-current", "true") } else { link }
    };
    el("nav").class("segments").attr("aria-label", "Span of time").children(WINDOWS.map(link))
}

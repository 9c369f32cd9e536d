//! Bars of memory: SVG rectangles in percent of the width, since the policy allows no inline styles.

use leptos::prelude::*;

use crate::{
    dom::{El, el},
    pure::bars::Segment,
    words::fixed,
};

/// A bar with its segments from the left, and a mark at so many percent if there is one. Hidden from screen readers:
/// the list beside it says the same.
pub(crate) fn memory_bar(
    class: &'static str,
    segments: impl Fn() -> Vec<Segment> + Copy + Send + 'static,
    mark: impl Fn() -> Option<f64> + Copy + Send + 'static,
) -> El {
    let rect = |segment: Segment| {
        el("rect")
            .class(format!("part {}", segment.class))
            .attr("x", share(segment.x))
            .attr("width", share(segment.width))
            .attr("y", "-2")
            .attr("height", "60")
            .into()
    };
    let at = move || Some(mark().map_or_else(|| "-5".to_owned(), share));
    el("svg")
        .class(class)
        .attr("aria-hidden", "true")
        .attr("focusable", "false")
        .list(move || segments().into_iter().map(rect).collect())
        .child(el("line").class("mark").attr("y1", "0").attr("y2", "60").attr_of("x1", at).attr_of("x2", at))
}

fn share(percent: f64) -> String {
    format!("{}%", fixed(percent, 2))
}

/// The hatching for "other programs", once a page.
pub(crate) fn patterns() -> AnyView {
    view! {
        <svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false">
            <defs>
                <pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
                    <rect class="hatch-ground" width="8" height="8" />
                    <rect class="hatch-line" width="4" height="8" />
                </pattern>
            </defs>
        </svg>
    }
    .into_any()
}

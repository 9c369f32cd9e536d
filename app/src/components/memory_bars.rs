//! Bars of memory: SVG rectangles in percent of the width, since the policy allows no inline styles.

use leptos::prelude::*;

use crate::pure::bars::Segment;

/// A bar. Hidden from screen readers: the list beside it says the same.
#[component]
pub fn MemoryBar(
    /// What is drawn, from the left.
    #[prop(into)]
    segments: Signal<Vec<Segment>>,
    /// How it looks: its height.
    #[prop(default = "bar")]
    class: &'static str,
    /// A mark at so many percent; `None`: no mark.
    #[prop(optional, into)]
    mark: Signal<Option<f64>>,
) -> impl IntoView {
    let rects = move || {
        segments
            .get()
            .into_iter()
            .map(|segment| {
                let shape = format!("part {}", segment.class);
                view! {
                    <rect
                        class=shape
                        x=format!("{:.2}%", segment.x)
                        width=format!("{:.2}%", segment.width)
                        y="-2"
                        height="60"
                    />
                }
            })
            .collect_view()
    };
    let at = move || mark.get().map_or_else(|| "-5".to_owned(), |at| format!("{at:.2}%"));
    view! {
        <svg class=class aria-hidden="true" focusable="false">
            <g>{rects}</g>
            <line class="mark" x1=at x2=at y1="0" y2="60" />
        </svg>
    }
    .into_any()
}

/// The hatching for "other programs", once a page.
#[component]
pub fn Patterns() -> impl IntoView {
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
}

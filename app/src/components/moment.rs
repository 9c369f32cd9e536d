//! A moment, in UTC until the browser's zone is known: so the first render is the same on both sides.

use leptos::prelude::*;
use protocol::Time;

use crate::Live;

/// `<time>` with the exact moment in its attribute.
#[component]
pub fn Moment(
    /// Which moment.
    #[prop(into)]
    at: Signal<Time>,
    /// Without seconds.
    #[prop(optional)]
    short: bool,
) -> impl IntoView {
    let live = expect_context::<Live>();
    view! { <time datetime=move || at.get().to_string()>{move || live.clock_text(at.get(), short)}</time> }
}

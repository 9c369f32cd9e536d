//! Resources: where the memory is, who holds it, and how to get it back.

use leptos::prelude::*;

use super::page;
use crate::{
    components::{given_back, held_chart, memory_panel, model_table, sessions_panel, timeouts},
    dom::el,
};

/// The page at `/`.
pub(crate) fn resources_page() -> AnyView {
    page("Resources", |main| {
        main.child(memory_panel())
            .child(model_table())
            .child(el("div").class("two").child(given_back()).child(sessions_panel()))
            .child(held_chart())
            .child(timeouts())
    })
}

//! Resources: where the memory is, who holds it, and how to get it back.

use leptos::prelude::*;

use super::page;
use crate::{
    components::{Plans, given_back, held_chart, memory_panel, model_table, sessions_panel, timeouts},
    dom::el,
    prepared::Waiting,
};

/// The page at `/`.
pub(crate) fn resources_page() -> AnyView {
    provide_context(Plans(StoredValue::new(expect_context::<Waiting>().take().plans)));
    page("Resources", |main| {
        main.child(memory_panel())
            .child(model_table())
            .child(el("div").class("two").child(given_back()).child(sessions_panel()))
            .child(held_chart())
            .child(timeouts())
    })
}

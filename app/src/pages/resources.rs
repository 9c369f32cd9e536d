//! Resources: where the memory is, who holds it, and how to get it back.

use leptos::prelude::*;
use leptos_meta::Title;

use crate::components::{GivenBack, HeldChart, MemoryPanel, ModelTable, SessionsPanel};

/// The page at `/`.
#[component]
pub fn ResourcesPage() -> impl IntoView {
    view! {
        <Title text="Resources - Innkeeper" />
        <main id="main" tabindex="-1">
            <MemoryPanel />
            <ModelTable />
            <div class="two">
                <GivenBack />
                <SessionsPanel />
            </div>
            <HeldChart />
            <datalist id="timeouts">
                <option value="1m"></option>
                <option value="5m"></option>
                <option value="15m"></option>
                <option value="1h"></option>
                <option value="0">"as soon as nobody uses it"</option>
                <option value="never"></option>
            </datalist>
        </main>
    }
    .into_any()
}

//! The page for a path that leads nowhere.

use leptos::prelude::*;
use leptos_meta::Title;

/// Says so and shows the way back.
#[component]
pub fn NotFound() -> impl IntoView {
    view! {
        <Title text="Not found - Innkeeper" />
        <main id="main" tabindex="-1">
            <section>
                <h1 class="big">"There is no such page."</h1>
                <p>
                    "The memory is on " <a href="/">"Resources"</a> ", a conversation on " <a href="/chat">"Chat"</a> "."
                </p>
            </section>
        </main>
    }
    .into_any()
}

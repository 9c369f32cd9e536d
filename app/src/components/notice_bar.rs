//! What the last verb said, and what just happened for those who listen instead of looking.

use leptos::prelude::*;

use crate::{Live, live::Link};

/// The notice at the foot of the window, a line while the connection is lost, and the region for the ear.
#[component]
pub fn NoticeBar() -> impl IntoView {
    let live = expect_context::<Live>();
    let text = move |pick: fn(&crate::Notice) -> &String| {
        live.said.with(|said| said.as_ref().map(|notice| pick(notice).clone()).unwrap_or_default())
    };
    let old = Memo::new(move |_| {
        let version = live.snapshot.with(|s| s.server.version.clone());
        !version.is_empty() && live.version.with_value(|first| *first != version && !first.is_empty())
    });
    let lost = move || matches!(live.link.get(), Link::Reconnecting | Link::Stale);
    let since =
        Memo::new(move |last: Option<&Option<protocol::Time>>| match (lost(), last.copied().flatten()) {
            (false, _) => None,
            (true, Some(since)) => Some(since),
            (true, None) => Some(live.now.get_untracked()),
        });
    view! {
        <p class="visually-hidden" aria-live="polite" id="told">
            {move || live.told.get()}
        </p>
        <div class="foot">
            <p class="strip warn" hidden=move || live.link.get() != Link::Stale>
                "Connection lost "
                {move || since.get().map(|at| live.clock_text(at, false)).unwrap_or_default()}
                "; retrying. Values are old."
            </p>
            <p class="strip" hidden=move || !old.get()>
                "Innkeeper was updated while this page was open. "
                <a href="" rel="external">
                    "Reload the page"
                </a>
            </p>
            <div class="strip notice" role="status" id="notice" data-good=move || {
                live.said.with(|said| said.as_ref().map(|n| if n.good { "true" } else { "false" }))
            }>
                <p>
                    <b>{move || text(|n| &n.text)}</b>
                    " "
                    <span>{move || text(|n| &n.hint)}</span>
                </p>
                <a
                    href=""
                    rel="external"
                    class="btn small"
                    hidden=move || live.said.with(Option::is_none)
                    on:click=move |event| {
                        event.prevent_default();
                        live.said.set(None);
                    }
                >
                    "Dismiss"
                </a>
            </div>
        </div>
    }
    .into_any()
}

//! The pages and their server functions: compiled once for the server (`ssr`) and once for the browser (`hydrate`).
//!
//! A page is drawn by the server from [`first`]'s data, works without JavaScript, and is kept fresh by [`live`] once
//! it is hydrated. Both halves say the same because both say it through [`words`]. This room knows no HTTP server, no
//! status code and no file; what it needs beyond the manager's desk is its port [`ports::House`].
#![recursion_limit = "256"]

pub mod chat;
pub mod components;
mod dom;
mod fetch;
pub mod first;
mod ledger;
pub mod live;
pub mod manage;
pub mod pages;
#[cfg(feature = "ssr")]
pub mod ports;
pub mod pure;
pub mod words;

mod browser;
#[cfg(test)]
mod example;
mod json;
mod notice;
mod prepared;
#[cfg(all(test, feature = "ssr"))]
mod rendered;
#[cfg(feature = "ssr")]
mod request;
#[cfg(feature = "ssr")]
mod shell;
mod theme;

pub use browser::Browser;
pub use first::First;
pub use live::Live;
pub use manage::Refusal;
pub use notice::Notice;
pub use prepared::Prepared;
#[cfg(feature = "ssr")]
pub use prepared::{is_missing, is_prepared, prepare};
#[cfg(feature = "ssr")]
pub use request::in_words as caller;
#[cfg(feature = "ssr")]
pub use shell::{Assets, shell};
pub use theme::Theme;

use leptos::prelude::*;
use leptos_meta::provide_meta_context;
use leptos_router::{
    ParamSegment, SsrMode, StaticSegment,
    components::{FlatRoutes, Route, Router},
};

use chat::Conversation;
use components::{header, help_dialog, notice_bar};
use dom::el;
use pages::{activity_page, chat_page, model_page, not_found, resources_page, settings_page};
use prepared::Waiting;

/// Everything inside `<body>`. Header, notices and the event stream stand outside the routes and outlive them.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    let first = first::take();
    let live = Live::new(&first);
    provide_context(live);
    provide_context(Conversation::new(first.conversation));
    provide_context(Waiting::new(first.prepared));
    live.listen();
    view! { <Router>{move || inside(live)}</Router> }
}

fn inside(live: Live) -> AnyView {
    let routes = view! {
        <FlatRoutes fallback=not_found>
            <Route path=StaticSegment("") view=resources_page ssr=SsrMode::Async />
            <Route path=StaticSegment("chat") view=chat_page ssr=SsrMode::Async />
            <Route path=StaticSegment("activity") view=activity_page ssr=SsrMode::Async />
            <Route path=(StaticSegment("model"), ParamSegment("id")) view=model_page ssr=SsrMode::Async />
            <Route path=StaticSegment("settings") view=settings_page ssr=SsrMode::Async />
        </FlatRoutes>
    };
    el("div")
        .class("page")
        .attr_of("data-link", move || Some(live.link.get().word().to_owned()))
        .child(header())
        .child(routes.into_any())
        .child(help_dialog())
        .child(notice_bar())
        .into()
}

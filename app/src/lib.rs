//! The pages and their server functions: compiled once for the server (`ssr`) and once for the browser (`hydrate`).
//!
//! A page is drawn by the server from [`first`]'s data, works without JavaScript, and is kept fresh by [`live`] once
//! it is hydrated. Both halves say the same because both say it through [`words`]. This room knows no HTTP server, no
//! status code and no file; what it needs beyond the manager's desk is its port [`ports::House`].
#![recursion_limit = "256"]

pub mod chat;
pub mod components;
pub mod first;
pub mod live;
pub mod manage;
pub mod pages;
pub mod ports;
pub mod pure;
pub mod words;

mod browser;
#[cfg(test)]
mod example;
mod notice;
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
#[cfg(feature = "ssr")]
pub use shell::{Assets, shell};
pub use theme::Theme;

use leptos::prelude::*;
use leptos_meta::provide_meta_context;
use leptos_router::{
    SsrMode, StaticSegment,
    components::{FlatRoutes, Route, Router},
};

use chat::Conversation;
use components::{Header, HelpDialog, NoticeBar};
use pages::{ChatPage, NotFound, ResourcesPage};

/// Everything inside `<body>`. Header, notices and the event stream stand outside the routes and outlive them.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    let first = first::take();
    let live = Live::new(&first);
    provide_context(live);
    provide_context(Conversation::new(first.conversation));
    live.listen();
    view! {
        <Router>
            <div class="page" data-link=move || live.link.get().word()>
                <Header />
                <FlatRoutes fallback=NotFound>
                    <Route path=StaticSegment("") view=ResourcesPage ssr=SsrMode::Async />
                    <Route path=StaticSegment("chat") view=ChatPage ssr=SsrMode::Async />
                </FlatRoutes>
                <HelpDialog />
                <NoticeBar />
            </div>
        </Router>
    }
}

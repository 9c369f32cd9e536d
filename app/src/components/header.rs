//! The head of every page: where one can go, how fresh the page is, how it looks.

use leptos::prelude::*;
use leptos_router::hooks::use_location;

use super::{Ask, VerbForm};
use crate::{Live, Theme, live::Link};

/// The pages that there are, in the order of the navigation.
const PAGES: [(&str, &str); 2] = [("/", "Resources"), ("/chat", "Chat")];

/// The header.
#[component]
pub fn Header() -> impl IntoView {
    let here = use_location().pathname;
    let links = PAGES.map(|(path, name)| {
        view! {
            <a href=path aria-current=move || (here.get() == path).then_some("page")>
                {name}
            </a>
        }
    });
    view! {
        <header class="top">
            <a href="#main" class="skip" rel="external">
                "Skip to the content"
            </a>
            <b class="brand">"Innkeeper"</b>
            <nav aria-label="Pages">{links}</nav>
            <Badge />
            <ThemeChoice />
            <Ask name="help" class="btn small">
                "Help"
            </Ask>
        </header>
    }
    .into_any()
}

/// How fresh the page is.
#[component]
fn Badge() -> impl IntoView {
    let live = expect_context::<Live>();
    let text = move || match live.link.get() {
        Link::Still => "Not live",
        Link::Live => "Live",
        Link::Reconnecting => "Reconnecting",
        Link::Stale => "Stale",
    };
    view! {
        <span class="live" role="status" data-link=move || live.link.get().word()>
            {text}
        </span>
    }
    .into_any()
}

/// Light, dark, or as the system has it; kept in a cookie, so that the first byte of a page carries it.
#[component]
fn ThemeChoice() -> impl IntoView {
    let live = expect_context::<Live>();
    let buttons = Theme::ALL.map(|theme| {
        view! {
            <button
                name="theme"
                value=theme.word()
                class="btn small"
                aria-pressed=move || if live.theme.get() == theme { "true" } else { "false" }
                on:click=move |_| show(live, theme)
            >
                {theme.label()}
            </button>
        }
    });
    view! {
        <VerbForm to="/manage/theme" class="themes">
            <fieldset class="segments">
                <legend class="visually-hidden">"Theme"</legend>
                {buttons}
            </fieldset>
        </VerbForm>
    }
    .into_any()
}

/// Shows the choice at once; the form keeps it.
fn show(live: Live, theme: Theme) {
    live.theme.set(theme);
    if let Some(root) = document().document_element() {
        // Setting or removing a fixed attribute cannot fail.
        let _ = match theme.attribute() {
            Some(name) => root.set_attribute("data-theme", name),
            None => root.remove_attribute("data-theme"),
        };
    }
}

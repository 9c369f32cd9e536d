//! The pages, one a file.

mod chat;
mod not_found;
mod resources;

pub(crate) use chat::chat_page;
pub(crate) use not_found::not_found;
pub(crate) use resources::resources_page;

use leptos::{prelude::*, view};
use leptos_meta::Title;

use crate::dom::{El, el};

/// A page: its title, and the landmark that everything else stands in.
fn page(title: &'static str, fill: impl FnOnce(El) -> El) -> AnyView {
    let main = fill(el("main").id("main").attr("tabindex", "-1"));
    let title = view! { <Title text=format!("{title} - Innkeeper") /> };
    (title, AnyView::from(main)).into_any()
}

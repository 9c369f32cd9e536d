//! The pages, one a file.

mod activity;
mod chat;
mod model;
mod not_found;
mod resources;
mod settings;

pub(crate) use activity::activity_page;
pub(crate) use chat::chat_page;
pub(crate) use model::model_page;
pub(crate) use not_found::not_found;
pub(crate) use resources::resources_page;
pub(crate) use settings::settings_page;

use leptos::{prelude::*, view};
use leptos_meta::Title;

use crate::dom::{El, el};

/// A page: its title, and the landmark that everything else stands in.
fn page(title: impl Into<String>, fill: impl FnOnce(El) -> El) -> AnyView {
    let title = title.into();
    let main = fill(el("main").id("main").attr("tabindex", "-1"));
    let title = view! { <Title text=format!("{title} - Innkeeper") /> };
    (title, AnyView::from(main)).into_any()
}

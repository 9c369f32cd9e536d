//! POST /manage/theme

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::Theme;

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The choice.
    pub theme: Theme,
}

/// Keeps this browser's theme in a cookie, which the server reads before it writes the page's first byte.
#[server(name = SetTheme, prefix = "/manage", endpoint = "theme")]
pub async fn theme(theme: Theme) -> Result<Chosen, Refusal> {
    let year = if theme == Theme::System { 0 } else { 31_536_000 };
    let cookie = format!("theme={}; Path=/; Max-Age={year}; SameSite=Lax", theme.word());
    if let (Some(options), Ok(cookie)) =
        (use_context::<leptos_axum::ResponseOptions>(), http::HeaderValue::from_str(&cookie))
    {
        options.append_header(http::header::SET_COOKIE, cookie);
    }
    Ok(Chosen { theme })
}

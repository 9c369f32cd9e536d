//! GET and POST /manage/settings

use leptos::prelude::*;
use leptos::server_fn::codec::GetUrl;
use protocol::Settings;

use super::Refusal;

/// Everything that can be set while the server runs, each value with where it came from.
#[server(name = ReadSettings, prefix = "/manage", endpoint = "settings", input = GetUrl)]
pub async fn settings() -> Result<Settings, Refusal> {
    Ok(crate::request::house()?.settings())
}

/// Changes settings; they hold at once and over a restart. A field that is absent or empty stays as it is; all of the
/// others are taken, or none is.
#[server(name = ChangeSettings, prefix = "/manage", endpoint = "settings")]
pub async fn change_settings(
    ram_limit: Option<String>,
    reserve: Option<String>,
    gpu_limit: Option<String>,
    idle_timeout: Option<String>,
    session_timeout: Option<String>,
    after_last_session: Option<String>,
) -> Result<Settings, Refusal> {
    let values: Vec<(String, String)> = [
        ("ram_limit", ram_limit),
        ("reserve", reserve),
        ("gpu_limit", gpu_limit),
        ("idle_timeout", idle_timeout),
        ("session_timeout", session_timeout),
        ("after_last_session", after_last_session),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?.trim().to_owned())))
    .filter(|(_, value)| !value.is_empty())
    .collect();
    if values.is_empty() {
        return Err(Refusal::argument("Nothing was given to change.", "Send at least one of the settings."));
    }
    Ok(crate::request::house()?.set(values, crate::request::caller()).await?)
}

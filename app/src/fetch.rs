//! Reads from the server while a page is open. In browsers only; on the server nothing calls it.

use leptos::prelude::*;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::Response;

/// What the server says at a path; `None`: it cannot be reached, refuses, or says what this page does not know.
pub(crate) async fn get<T: DeserializeOwned>(path: &str) -> Option<T> {
    let response: Response = JsFuture::from(window().fetch_with_str(path)).await.ok()?.unchecked_into();
    if !response.ok() {
        return None;
    }
    let text = JsFuture::from(response.text().ok()?).await.ok()?;
    crate::json::read(&text.as_string()?)
}

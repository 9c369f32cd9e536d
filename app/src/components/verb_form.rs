//! The one form for all verbs. Without JavaScript it posts and the server redirects back with a notice; hydrated it
//! sends the same fields and shows the same words.

use leptos::{
    ev::{self, SubmitEvent},
    prelude::*,
    task::spawn_local,
};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, FormData, Headers, HtmlFormElement, RequestInit, Response, UrlSearchParams};

use crate::{
    Live, Notice,
    dom::{El, el},
};

/// What a hydrated form accepts: the answer as a notice, always with status 200, since a browser logs every other
/// status as an error.
pub const NOTICE_TYPE: &str = "application/vnd.innkeeper.notice+json";

/// On a form whose fields show what is kept: after a success they follow it again.
pub(super) const FOLLOWS: &str = "data-follows";

/// A form that posts its fields to a verb under `/manage`.
pub(crate) fn verb_form(to: &'static str) -> El {
    verb_form_of(move || to)
}

/// The same for a verb that changes with what the form is about.
pub(crate) fn verb_form_of(to: impl Fn() -> &'static str + Copy + Send + 'static) -> El {
    let live = expect_context::<Live>();
    let busy = RwSignal::new(None::<String>);
    el("form")
        .attr("method", "post")
        .attr_of("action", move || Some(to().to_owned()))
        .attr_of("aria-busy", move || busy.get().map(|_| "true".to_owned()))
        .on(ev::submit, move |event| submit(&event, untrack(to), busy, live))
}

fn submit(event: &SubmitEvent, to: &'static str, busy: RwSignal<Option<String>>, live: Live) {
    event.prevent_default();
    let button = event.submitter();
    if let Some(reason) = button.as_deref().and_then(unable) {
        live.said.set(Some(Notice::bad(reason, "")));
        return;
    }
    let Some(form) = event.target().and_then(|t| t.dyn_into::<HtmlFormElement>().ok()) else { return };
    let Some((fields, request)) = request(&form, button.as_deref()) else { return };
    // The same request is not sent twice at a time; another one may be, so that a load can be cancelled and an unload
    // that drains can be forced.
    let what = format!("{to}?{fields}");
    if busy.with_untracked(|busy| busy.as_ref() == Some(&what)) {
        return;
    }
    if let Ok(Some(dialog)) = form.closest("dialog") {
        dialog.unchecked_into::<web_sys::HtmlDialogElement>().close();
    }
    busy.set(Some(what));
    spawn_local(async move {
        let notice = post(to, &request).await.unwrap_or_else(|_| lost());
        if notice.good && form.has_attribute(FOLLOWS) {
            form.reset();
        }
        // Quick ones may be over before the form is gone with its page.
        let _ = busy.try_set(None);
        live.said.set(Some(notice).filter(|notice| !notice.text.is_empty()));
    });
}

/// Why a button cannot act now; `None`: it can.
fn unable(button: &Element) -> Option<String> {
    (button.get_attribute("aria-disabled").as_deref() == Some("true"))
        .then(|| button.get_attribute("title").unwrap_or_else(|| "That cannot be done now.".to_owned()))
}

/// The form's fields as text, and the request that carries them.
fn request(form: &HtmlFormElement, button: Option<&Element>) -> Option<(String, RequestInit)> {
    let fields = FormData::new_with_form(form).ok()?;
    if let Some((name, value)) = button.and_then(|b| b.get_attribute("name").zip(b.get_attribute("value"))) {
        fields.append_with_str(&name, &value).ok()?;
    }
    let body = UrlSearchParams::new_with_str_sequence_sequence(&fields).ok()?;
    let headers = Headers::new().ok()?;
    headers.set("accept", NOTICE_TYPE).ok()?;
    let request = RequestInit::new();
    request.set_method("POST");
    request.set_headers(&headers);
    request.set_body(&body);
    Some((body.to_string().into(), request))
}

async fn post(to: &str, request: &RequestInit) -> Result<Notice, JsValue> {
    let response = JsFuture::from(window().fetch_with_str_and_init(to, request)).await?;
    let text = JsFuture::from(response.unchecked_into::<Response>().text()?).await?;
    let text = text.as_string().unwrap_or_default();
    Ok(crate::json::read(&text).unwrap_or_else(|| {
        Notice::bad("The server gave an answer that cannot be read.", "Reload this page.")
    }))
}

fn lost() -> Notice {
    Notice::bad("The server cannot be reached.", "Check that it still runs, then try again.")
}

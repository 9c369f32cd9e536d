//! Who uses models, and what is being computed right now.

use leptos::prelude::*;
use protocol::{RequestState, RequestView, Session};

use super::VerbForm;
use crate::{
    Live,
    words::{bytes, count, span, took},
};

/// "Sessions" and "Requests in flight".
#[component]
pub fn SessionsPanel() -> impl IntoView {
    let live = expect_context::<Live>();
    let sessions = live.memo(|s| s.sessions.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
    let requests = live.memo(|s| s.requests.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
    view! {
        <section aria-labelledby="sessions">
            <h2 id="sessions">"Sessions"</h2>
            <p class="quiet empty" hidden=move || !sessions.with(Vec::is_empty)>
                "Nobody uses a model. A session begins with the first request and gives back what it holds when it ends."
            </p>
            <table hidden=move || sessions.with(Vec::is_empty)>
                <thead class="visually-hidden">
                    <tr>
                        <th scope="col">"Session"</th>
                        <th scope="col">"Ends"</th>
                        <th scope="col">"Action"</th>
                    </tr>
                </thead>
                <tbody>
                    <For each=move || sessions.get() key=Clone::clone let:id>
                        <SessionRow id=id />
                    </For>
                </tbody>
            </table>
            <h2 id="requests" class="second">
                "Requests in flight"
            </h2>
            <p class="quiet empty" hidden=move || !requests.with(Vec::is_empty)>
                "None."
            </p>
            <table aria-labelledby="requests" hidden=move || requests.with(Vec::is_empty)>
                <thead class="visually-hidden">
                    <tr>
                        <th scope="col">"Request"</th>
                        <th scope="col">"So far"</th>
                        <th scope="col">"Action"</th>
                    </tr>
                </thead>
                <tbody>
                    <For each=move || requests.get() key=Clone::clone let:id>
                        <RequestRow id=id />
                    </For>
                </tbody>
            </table>
        </section>
    }
    .into_any()
}

#[component]
fn SessionRow(id: String) -> impl IntoView {
    let live = expect_context::<Live>();
    let session = {
        let id = id.clone();
        live.memo(move |s| s.sessions.iter().find(|one| one.id == id).cloned())
    };
    let id = StoredValue::new(id);
    let say =
        move |say: fn(&Session) -> String| move || session.with(|s| s.as_ref().map(say).unwrap_or_default());
    let ends = move || {
        let now = live.now.get().unix_ms();
        session.with(|s| match s.as_ref().map(|s| s.ends_at) {
            Some(Some(at)) => format!("ends in {}", span(u64::try_from(at.unix_ms() - now).unwrap_or(0))),
            Some(None) => "in use".to_owned(),
            None => String::new(),
        })
    };
    view! {
        <tr data-session=id.get_value()>
            <td>
                {say(|s| s.label.clone())} <span class="sub val">{say(does)}</span>
            </td>
            <td class="num nowrap">
                <span class="val" aria-live="off">
                    {ends}
                </span>
                <span class="sub">{say(|s| s.last_reset_by.clone())}</span>
            </td>
            <td class="num">
                <VerbForm to="/manage/end_session">
                    <input type="hidden" name="session" value=id.get_value() />
                    <button class="btn small">"End" <span class="visually-hidden">" session " {id.get_value()}</span></button>
                </VerbForm>
            </td>
        </tr>
    }
    .into_any()
}

/// `with smollm2 · 4 requests · holds 3.10 MiB of conversation`
fn does(session: &Session) -> String {
    let mut parts = Vec::new();
    parts.extend(session.model.as_ref().map(|model| format!("with {model}")));
    parts.push(count(session.requests, "request"));
    if session.held_bytes > 0 {
        parts.push(format!("holds {} of conversation", bytes(session.held_bytes)));
    }
    parts.join(" \u{b7} ")
}

#[component]
fn RequestRow(id: String) -> impl IntoView {
    let live = expect_context::<Live>();
    let request = {
        let id = id.clone();
        live.memo(move |s| s.requests.iter().find(|one| one.id == id).cloned())
    };
    let id = StoredValue::new(id);
    let say = move |say: fn(&RequestView) -> String| {
        move || request.with(|r| r.as_ref().map(say).unwrap_or_default())
    };
    let state = move || request.with(|r| r.as_ref().map(|r| r.state.word()));
    view! {
        <tr data-request=id.get_value() data-state=state>
            <td>
                {say(|r| r.model.to_string())} <span class="sub">{say(|r| format!("for {}", r.client))}</span>
            </td>
            <td class="num nowrap">
                <span class="val">{say(stands)}</span>
                <span class="sub val">{say(|r| took(r.elapsed_ms))}</span>
            </td>
            <td class="num">
                <VerbForm to="/manage/cancel">
                    <input type="hidden" name="request" value=id.get_value() />
                    <button class="btn small">"Cancel" <span class="visually-hidden">" request " {id.get_value()}</span></button>
                </VerbForm>
            </td>
        </tr>
    }
    .into_any()
}

fn stands(request: &RequestView) -> String {
    match request.state {
        RequestState::Queued => "waiting for its model".to_owned(),
        RequestState::Prefill => "reading the prompt".to_owned(),
        RequestState::Decode => count(request.completion_tokens, "token"),
        RequestState::Cancelling => "being cancelled".to_owned(),
    }
}

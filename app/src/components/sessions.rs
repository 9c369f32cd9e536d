//! Who uses models, and what is being computed right now.

use leptos::prelude::*;
use protocol::{RequestState, RequestView, Session};

use super::{model_row::hidden_field, verb_form};
use crate::{
    Live,
    dom::{El, el, unseen},
    words::{bytes, count, span, took},
};

/// "Sessions" and "Requests in flight".
pub(crate) fn sessions_panel() -> El {
    let live = expect_context::<Live>();
    let sessions = move || live.house().sessions.iter().map(|one| one.id.clone()).collect();
    let requests = move || live.house().requests.iter().map(|one| one.id.clone()).collect();
    let no_sessions = move || live.house().sessions.is_empty();
    let no_requests = move || live.house().requests.is_empty();
    let empty = |text: &'static str| el("p").class("quiet empty").say(text);
    el("section")
        .attr("aria-labelledby", "sessions")
        .child(el("h2").id("sessions").say("Sessions"))
        .child(
            empty("Nobody uses a model. A session begins with the first request and gives back what it holds when it ends.")
                .hidden_if(move || !no_sessions()),
        )
        .child(
            table("sessions", ["Session", "Ends", "Action"])
                .hidden_if(no_sessions)
                .child(el("tbody").each(sessions, move |id| session_row(live, &id).into())),
        )
        .child(el("h2").id("requests").class("second").say("Requests in flight"))
        .child(empty("None.").hidden_if(move || !no_requests()))
        .child(
            table("requests", ["Request", "So far", "Action"])
                .hidden_if(no_requests)
                .child(el("tbody").each(requests, move |id| request_row(live, &id).into())),
        )
}

fn table(name: &'static str, columns: [&'static str; 3]) -> El {
    let columns = columns.map(|column| el("th").attr("scope", "col").say(column));
    let head = el("thead").class("visually-hidden").child(el("tr").children(columns));
    el("table").attr("aria-labelledby", name).child(head)
}

fn session_row(live: Live, id: &str) -> El {
    let key = StoredValue::new(id.to_owned());
    let session = move || {
        let house = live.house();
        key.with_value(|key| house.sessions.iter().find(|one| one.id == *key).cloned())
    };
    let text = move |say: fn(&Session) -> String| move || session().as_ref().map(say).unwrap_or_default();
    let ends = move || {
        let now = live.now.get().unix_ms();
        let Some(session) = session() else { return String::new() };
        match session.ends_at {
            Some(at) => format!("ends in {}", span(u64::try_from(at.unix_ms() - now).unwrap_or(0))),
            None => session.kept_by,
        }
    };
    el("tr")
        .attr("data-session", id)
        .child(
            el("td")
                .child(el("span").text(text(|s| s.label.clone())))
                .child(el("span").class("sub val").text(text(does))),
        )
        .child(
            el("td")
                .class("num nowrap")
                .child(el("span").class("val").attr("aria-live", "off").text(ends))
                .child(el("span").class("sub").text(text(|s| s.last_reset_by.clone()))),
        )
        .child(el("td").class("num").child(button("/manage/end_session", "session", id, "End")))
}

fn button(to: &'static str, name: &'static str, id: &str, label: &'static str) -> El {
    verb_form(to)
        .child(hidden_field(name, id))
        .child(el("button").class("btn small").say(label).child(unseen(format!(" {name} {id}"))))
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

fn request_row(live: Live, id: &str) -> El {
    let key = StoredValue::new(id.to_owned());
    let request = move || {
        let house = live.house();
        key.with_value(|key| house.requests.iter().find(|one| one.id == *key).cloned())
    };
    let text = move |say: fn(&RequestView) -> String| move || request().as_ref().map(say).unwrap_or_default();
    el("tr")
        .attr("data-request", id)
        .attr_of("data-state", move || request().map(|r| r.state.word().to_owned()))
        .child(
            el("td")
                .child(el("span").text(text(|r| r.model.to_string())))
                .child(el("span").class("sub").text(text(|r| format!("for {}", r.client)))),
        )
        .child(
            el("td")
                .class("num nowrap")
                .child(el("span").class("val").text(text(stands)))
                .child(el("span").class("sub val").text(text(|r| took(r.elapsed_ms)))),
        )
        .child(el("td").class("num").child(button("/manage/cancel", "request", id, "Cancel")))
}

fn stands(request: &RequestView) -> String {
    match request.state {
        RequestState::Queued => "waiting for its model".to_owned(),
        RequestState::Prefill => "reading the prompt".to_owned(),
        RequestState::Decode => count(request.completion_tokens, "token"),
        RequestState::Cancelling => "being cancelled".to_owned(),
    }
}

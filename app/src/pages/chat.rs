//! Chat: try a model. Streams when hydrated; without JavaScript the form posts and the server keeps the conversation.

use leptos::{ev, prelude::*};
use leptos_router::hooks::use_query_map;
use protocol::{Model, ModelKind, ModelState, Snapshot};
use wasm_bindgen::JsCast;
use web_sys::{HtmlSelectElement, HtmlTextAreaElement};

use super::page;
use crate::{
    Live,
    chat::{self, Conversation, Line, Standing, Who},
    components::{dialog::unless, verb_form},
    dom::{El, el, unseen},
    words::{self, about, bytes},
};

/// The page at `/chat`.
pub(crate) fn chat_page() -> AnyView {
    let live = expect_context::<Live>();
    let conversation = expect_context::<Conversation>();
    let wanted = use_query_map().with_untracked(|query| query.get("model"));
    let chosen = RwSignal::new(first_choice(&live.house_once(), wanted.as_deref()));
    let none = move || !live.house().models.iter().any(is_chat);
    let empty = move || conversation.lines.with(Vec::is_empty);
    let forget =
        el("button").class("btn small").on(ev::click, move |_| conversation.clear()).say("New conversation");
    let ids = move || conversation.lines.with(|lines| lines.iter().map(|line| line.id.to_string()).collect());
    let turn = move |id: String| {
        let find = |lines: &Vec<Line>| lines.iter().find(|line| line.id.to_string() == id).cloned();
        conversation.lines.with_untracked(find).map_or_else(|| el("li"), |line| turn_view(live, line)).into()
    };
    let hint = move || match none() {
        true => "There is no chat model on this machine yet. Resources shows how to get one.",
        false => {
            "Say something. A model that is not loaded is loaded for it; Resources shows what it takes and when it goes."
        }
    };
    let lines = el("div")
        .class("lines-frame")
        .attr("tabindex", "0")
        .attr("role", "region")
        .attr("aria-label", "Conversation")
        .child(el("ol").class("lines").each(ids, turn))
        .child(el("p").class("quiet empty").hidden_if(move || !empty()).text(move || hint().to_owned()));
    page("Chat", |main| {
        main.class("chat").child(
            el("section")
                .class("talk")
                .attr("aria-labelledby", "chat")
                .child(
                    el("div")
                        .class("head middle")
                        .child(el("h1").id("chat").class("mid").say("Chat"))
                        .child(verb_form("/manage/forget").hidden_if(empty).child(forget)),
                )
                .child(lines)
                .child(composer(live, conversation, chosen, none)),
        )
    })
}

fn is_chat(model: &Model) -> bool {
    model.kind == ModelKind::Chat
}

/// The model that was asked for, else one that is loaded, else the first.
fn first_choice(snapshot: &Snapshot, wanted: Option<&str>) -> String {
    let chat = || snapshot.models.iter().filter(|model| is_chat(model));
    chat()
        .find(|model| Some(model.id.as_str()) == wanted)
        .or_else(|| chat().find(|model| model.state == ModelState::Ready))
        .or_else(|| chat().next())
        .map(|model| model.id.to_string())
        .unwrap_or_default()
}

fn turn_view(live: Live, line: Line) -> El {
    let Line { who, model, pieces, tail, note, standing, .. } = line;
    let failed = {
        let standing = standing.clone();
        move || (standing.get() == Standing::Failed).then(|| "true".to_owned())
    };
    let name = match who {
        Who::User => "You".to_owned(),
        // A turn that the server kept does not say whose it was.
        Who::Assistant => Some(model.clone()).filter(|m| !m.is_empty()).unwrap_or_else(|| "Model".to_owned()),
    };
    let waiting = move || match standing.get() {
        Standing::Waiting => Some(waits_for(&live.house(), &model)),
        _ => None,
    };
    let silent = {
        let (pieces, tail) = (pieces.clone(), tail.clone());
        move || pieces.with(Vec::is_empty) && tail.with(String::is_empty)
    };
    let places = {
        let pieces = pieces.clone();
        move || (0..pieces.with(Vec::len)).map(|at| at.to_string()).collect()
    };
    let piece = move |at: String| {
        let text = pieces
            .with_untracked(|p| at.parse().ok().and_then(|at: usize| p.get(at).map(ToString::to_string)));
        text.unwrap_or_default().into_any()
    };
    el("li")
        .class(format!("turn {}", who.word()))
        .attr_of("data-failed", failed)
        .child(el("span").class("label").say(name))
        .child(el("p").class("text").hidden_if(silent).each(places, piece).text(move || tail.get()))
        .child(el("p").class("sub waiting").text_if(waiting))
        .child(el("p").class("sub note").text_if(move || Some(note.get()).filter(|note| !note.is_empty())))
}

/// What an answer waits for, in words.
fn waits_for(snapshot: &Snapshot, id: &str) -> String {
    let Some(model) = snapshot.models.iter().find(|model| model.id.as_str() == id) else {
        return String::new();
    };
    match model.state {
        ModelState::Ready => "reading your words".to_owned(),
        ModelState::Unloaded | ModelState::Failed => format!("loading {id}"),
        _ => format!("{id}: {}", words::state(model)),
    }
}

fn composer(
    live: Live,
    conversation: Conversation,
    chosen: RwSignal<String>,
    none: impl Fn() -> bool + Copy + Send + 'static,
) -> El {
    let running = conversation.running;
    let send = move || {
        let (Some(prompt), Some(system)) = (field("prompt"), field("system")) else { return };
        let words = prompt.value();
        if words.trim().is_empty() || running.get_untracked() || untrack(none) {
            return;
        }
        prompt.set_value("");
        chat::ask(conversation, live, chosen.get_untracked(), &system.value(), words);
    };
    let unable = move || match (none(), running.get()) {
        (true, _) => "There is no chat model yet.",
        (_, true) => "The model is still answering.",
        _ => "",
    };
    let stop = el("button")
        .attr("type", "button")
        .class("btn")
        .hidden_if(move || !running.get())
        .on(ev::click, |_| chat::stop())
        .say("Stop");
    el("form")
        .class("composer")
        .attr("action", "/manage/chat")
        .attr("method", "post")
        .on(ev::submit, move |event| {
            event.prevent_default();
            send();
        })
        .child(
            el("details")
                .class("edit")
                .child(el("summary").say("What the model is told first"))
                .child(system_field()),
        )
        .child(prompt_field(send))
        .child(
            el("div")
                .class("line")
                .child(model_choice(live, chosen))
                .child(el("span").class("sub val").text(move || stands(&live.house(), &chosen.get())))
                .child(
                    el("span")
                        .class("acts")
                        .child(stop)
                        .child(unless(el("button").class("btn main"), unable).say("Send")),
                ),
        )
}

fn system_field() -> El {
    el("textarea")
        .id("system")
        .attr("name", "system")
        .attr("rows", "2")
        .attr("aria-label", "System text")
        .attr("placeholder", "You are a helpful assistant.")
}

fn prompt_field(send: impl Fn() + 'static) -> El {
    el("textarea")
        .id("prompt")
        .attr("name", "prompt")
        .attr("rows", "3")
        .attr("aria-label", "Message")
        .attr("placeholder", "Enter sends, Shift+Enter begins a new line")
        .flag("required")
        .on(ev::keydown, move |event| {
            // Whoever writes with an input method confirms a word with Enter.
            if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
                event.prevent_default();
                send();
            }
        })
}

fn field(id: &str) -> Option<HtmlTextAreaElement> {
    document().get_element_by_id(id)?.dyn_into().ok()
}

fn model_choice(live: Live, chosen: RwSignal<String>) -> El {
    let ids = move || live.house().models.iter().filter(|m| is_chat(m)).map(|m| m.id.to_string()).collect();
    let option = move |id: String| {
        let option = el("option").attr("value", id.clone()).say(id.clone());
        if chosen.get_untracked() == id { option.flag("selected") } else { option }.into()
    };
    let choose = move |event: ev::Event| {
        if let Some(select) = event.target().and_then(|t| t.dyn_into::<HtmlSelectElement>().ok()) {
            chosen.set(select.value());
        }
    };
    let select = el("select").attr("name", "model").on(ev::change, choose).each(ids, option);
    el("label").class("choice").child(unseen("Model")).child(select)
}

/// How the chosen model stands, and what asking it would take.
fn stands(snapshot: &Snapshot, id: &str) -> String {
    let Some(model) = snapshot.models.iter().find(|model| model.id.as_str() == id) else {
        return String::new();
    };
    let held = crate::pure::held(model);
    match (model.state, model.expected_bytes) {
        (ModelState::Ready, _) if held > 0 => format!("ready, holds {}", bytes(held)),
        (ModelState::Unloaded, Some(expected)) => format!("not loaded; would take about {}", about(expected)),
        (ModelState::Unloaded, None) => "not loaded; loaded with your first message".to_owned(),
        _ => words::state(model),
    }
}

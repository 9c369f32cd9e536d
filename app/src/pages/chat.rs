//! Chat: try a model. Streams when hydrated; without JavaScript the form posts and the server keeps the conversation.

use leptos::{ev::KeyboardEvent, html::Textarea, prelude::*};
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;
use protocol::{Model, ModelKind, ModelState, Snapshot};
use wasm_bindgen::JsCast;

use crate::{
    Live,
    chat::{self, Conversation, Line, Standing, Who},
    components::VerbForm,
    words::{self, about, bytes},
};

/// The page at `/chat`.
#[component]
pub fn ChatPage() -> impl IntoView {
    let live = expect_context::<Live>();
    let conversation = expect_context::<Conversation>();
    let wanted = use_query_map().with_untracked(|query| query.get("model"));
    let chosen = RwSignal::new(live.snapshot.with_untracked(|s| first_choice(s, wanted.as_deref())));
    let none = live.memo(|s| !s.models.iter().any(is_chat));
    let empty = Memo::new(move |_| conversation.lines.with(Vec::is_empty));
    view! {
        <Title text="Chat - Innkeeper" />
        <main id="main" class="chat" tabindex="-1">
            <section class="talk" aria-labelledby="chat">
                <div class="head middle">
                    <h1 id="chat" class="mid">
                        "Chat"
                    </h1>
                    <VerbForm to="/manage/forget" hidden=empty>
                        <button class="btn small" on:click=move |_| conversation.clear()>
                            "New conversation"
                        </button>
                    </VerbForm>
                </div>
                <div class="lines-frame" tabindex="0" role="region" aria-label="Conversation">
                    <ol class="lines">
                        <For each=move || conversation.lines.get() key=|line| line.id let:line>
                            <TurnView line=line />
                        </For>
                    </ol>
                    <p class="quiet empty" hidden=move || !empty.get()>
                        {move || match none.get() {
                            true => "There is no chat model on this machine yet. Resources shows how to get one.",
                            false => {
                                "Say something. A model that is not loaded is loaded for it; Resources shows what it takes \
                                 and when it goes."
                            }
                        }}
                    </p>
                </div>
                <Composer chosen=chosen none=none />
            </section>
        </main>
    }
    .into_any()
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

#[component]
fn TurnView(line: Line) -> impl IntoView {
    let live = expect_context::<Live>();
    let Line { who, model, pieces, tail, note, standing, .. } = line;
    let failed = {
        let standing = standing.clone();
        move || standing.get() == Standing::Failed
    };
    let waiting = move || match standing.get() {
        Standing::Waiting => Some(live.snapshot.with(|s| waits_for(s, &model))),
        _ => None,
    };
    // An empty text would still be a text to the style sheet; nothing is nothing.
    let note = move || Some(note.get()).filter(|note| !note.is_empty());
    let silent = {
        let (pieces, tail) = (pieces.clone(), tail.clone());
        move || pieces.with(Vec::is_empty) && tail.with(String::is_empty)
    };
    let name = match who {
        Who::User => "You",
        Who::Assistant => "Model",
    };
    view! {
        <li class=format!("turn {}", who.word()) data-failed=move || failed().then_some("true")>
            <span class="label">{name}</span>
            <p class="text" hidden=silent>
                <For each={move || pieces.get().into_iter().enumerate()} key=|(at, _)| *at let:piece>
                    {piece.1.to_string()}
                </For>
                {move || tail.get()}
            </p>
            <p class="sub waiting">{waiting}</p>
            <p class="sub note">{note}</p>
        </li>
    }
    .into_any()
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

#[component]
fn Composer(chosen: RwSignal<String>, none: Memo<bool>) -> impl IntoView {
    let live = expect_context::<Live>();
    let conversation = expect_context::<Conversation>();
    let (prompt, system) = (NodeRef::<Textarea>::new(), NodeRef::<Textarea>::new());
    let send = move || {
        let (Some(prompt), Some(system)) = (prompt.get_untracked(), system.get_untracked()) else { return };
        let words = prompt.value();
        if words.trim().is_empty() || conversation.running.get_untracked() || none.get_untracked() {
            return;
        }
        prompt.set_value("");
        chat::ask(conversation, live, chosen.get_untracked(), &system.value(), words);
    };
    let on_key = move |event: KeyboardEvent| {
        // Whoever writes with an input method confirms a word with Enter.
        if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
            event.prevent_default();
            send();
        }
    };
    let running = conversation.running;
    view! {
        <form
            class="composer"
            action="/manage/chat"
            method="post"
            on:submit=move |event| {
                event.prevent_default();
                send();
            }
        >
            <details class="edit">
                <summary>"What the model is told first"</summary>
                <textarea
                    name="system"
                    rows="2"
                    node_ref=system
                    aria-label="System text"
                    placeholder="You are a helpful assistant."
                ></textarea>
            </details>
            <textarea
                name="prompt"
                rows="3"
                node_ref=prompt
                aria-label="Message"
                placeholder="Enter sends, Shift+Enter begins a new line"
                required
                on:keydown=on_key
            ></textarea>
            <div class="line">
                <ModelChoice chosen=chosen />
                <span class="acts">
                    <button type="button" class="btn" hidden=move || !running.get() on:click=|_| chat::stop()>
                        "Stop"
                    </button>
                    <button
                        class="btn main"
                        aria-disabled=move || (running.get() || none.get()).then_some("true")
                        title=move || match (none.get(), running.get()) {
                            (true, _) => Some("There is no chat model yet."),
                            (_, true) => Some("The model is still answering."),
                            _ => None,
                        }
                    >
                        "Send"
                    </button>
                </span>
            </div>
        </form>
    }
    .into_any()
}

#[component]
fn ModelChoice(chosen: RwSignal<String>) -> impl IntoView {
    let live = expect_context::<Live>();
    let ids = live.memo(|s| s.models.iter().filter(|m| is_chat(m)).map(|m| m.id.clone()).collect::<Vec<_>>());
    let stands = move || live.snapshot.with(|s| chosen.with(|id| stands(s, id)));
    view! {
        <label class="choice">
            <span class="visually-hidden">"Model"</span>
            <select
                name="model"
                on:change=move |event| {
                    if let Some(select) = event.target().and_then(|t| t.dyn_into::<web_sys::HtmlSelectElement>().ok()) {
                        chosen.set(select.value());
                    }
                }
            >
                <For each=move || ids.get() key=Clone::clone let:id>
                    <option
                        value=id.to_string()
                        selected=chosen.with_untracked(|chosen| *chosen == id.to_string())
                    >
                        {id.to_string()}
                    </option>
                </For>
            </select>
        </label>
        <span class="sub val">{stands}</span>
    }
    .into_any()
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

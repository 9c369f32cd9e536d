//! The pages as the server writes them, whole documents through leptos's own handler.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot go on has failed")]

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use leptos::{nonce::Nonce, prelude::*};
use protocol::{Download, ModelId, Problem, Snapshot};

use crate::{
    App, Assets, Browser, Notice, Prepared, Theme,
    chat::{Turn, Who},
    example,
    first::nothing_yet,
    ports::{Answer, House},
    shell,
};

struct Double(Snapshot);

fn refused<T: Send + 'static>() -> Answer<'static, T> {
    Box::pin(async { Err(Problem::new(protocol::Code::NotFound, "Not in this test.", "")) })
}

impl House for Double {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.0.clone())
    }
    fn pull(&self, _: String, _: String) -> Answer<'_, Download> {
        refused()
    }
    fn cancel_pull(&self, _: String) -> Answer<'_, bool> {
        refused()
    }
    fn remove(&self, _: ModelId, _: String) -> Answer<'_, u64> {
        refused()
    }
    fn about(&self, _: ModelId) -> Answer<'_, crate::manage::About> {
        refused()
    }
    fn log(&self, _: &ModelId) -> Vec<String> {
        Vec::new()
    }
    fn find(&self, _: ModelId) -> Answer<'_, protocol::Model> {
        refused()
    }
    fn rescan(&self) -> Answer<'_, u32> {
        refused()
    }
    fn settings(&self) -> protocol::Settings {
        example::settings()
    }
    fn set(&self, _: Vec<(String, String)>, _: String) -> Answer<'_, protocol::Settings> {
        refused()
    }
    fn set_of_model(
        &self,
        _: ModelId,
        _: crate::ports::Own,
        _: String,
        _: String,
    ) -> Answer<'_, protocol::Model> {
        refused()
    }
    fn history(&self, _: manager::HistoryQuery) -> Answer<'_, manager::HistoryPage> {
        refused()
    }
    fn measurements(&self, _: String, _: i64, _: u64) -> Answer<'_, protocol::Measurements> {
        refused()
    }
    fn performance(&self) -> Answer<'_, protocol::Performance> {
        refused()
    }
    fn conversation(&self, key: &str) -> Vec<Turn> {
        let turn = |who, text: &str, note: &str| Turn {
            who,
            text: text.to_owned(),
            note: note.to_owned(),
            failed: note.starts_with("It"),
        };
        if key != "cookie" {
            return Vec::new();
        }
        vec![
            turn(Who::User, "Why is the sky blue?", ""),
            turn(
                Who::Assistant,
                "Because air scatters short waves\n  more than long ones.\n<script>alert(1)</script>",
                "41 tok/s \u{b7} first token after 0.31 s \u{b7} 38 tokens \u{b7} smollm2 was loaded for it in 0.42 s",
            ),
            turn(Who::User, "And at night?", ""),
            turn(Who::Assistant, "", "It does not fit: needs 9.1 GiB; 6.0 is free. Unload qwen (4.2 GiB)?"),
        ]
    }
    fn say(&self, _: String, _: ModelId, _: String, _: Option<String>) -> Answer<'_, Turn> {
        refused()
    }
    fn forget(&self, _: &str) {}
    fn held(&self) -> Answer<'_, Vec<crate::pure::series::Point>> {
        refused()
    }
}

/// What the server gathers for Activity and for a model's page.
fn prepared() -> Prepared {
    let mut unload = example::event(7, protocol::EventKind::Unload, "smollm2");
    unload.receipt = Some(example::receipt("smollm2", 34_708_000, 34_708_000));
    let load = example::event(6, protocol::EventKind::Load, "smollm2");
    let about = crate::manage::About {
        model: "smollm2".parse().unwrap(),
        files: vec![crate::manage::ModelFile {
            path: "/data/models/smollm2.gguf".to_owned(),
            size_bytes: 98_580_000,
            is_link: false,
        }],
        name: Some("Smollm2 135M".to_owned()),
        parameters: Some(134_515_008),
        context: Some(8192),
        layers: Some(30),
        width: Some(576),
        vocabulary: Some(49_152),
        has_template: Some(true),
        kv_bytes_per_token: Some(23_040),
    };
    Prepared {
        history: Some(crate::manage::History { events: vec![unload, load], next: Some(6) }),
        about: Some(about),
        log: vec!["ready in 0.42 s".to_owned()],
        performance: Some(vec![crate::manage::PerformanceRow {
            model: "smollm2".to_owned(),
            cells: ["12", "0.31 s", "41/s", "2 ms", "0.42 s", "0.031"]
                .map(|main| crate::manage::PerformanceCell { main: main.to_owned(), more: "p95".to_owned() })
                .into(),
        }]),
        plans: Vec::new(),
        held: Vec::new(),
    }
}

/// A document, as a browser gets it.
async fn page(path: &str, snapshot: Snapshot, notice: Option<Notice>, theme: Theme) -> String {
    let context = move || {
        provide_context(Arc::new(Double(snapshot.clone())) as Arc<dyn House>);
        provide_context(Nonce::new());
        provide_context(notice.clone());
        provide_context(theme);
        provide_context(Browser("cookie".to_owned()));
        provide_context(prepared());
    };
    let assets = || Assets { js: "/a.js".to_owned(), wasm: "/a.wasm".to_owned(), css: "/a.css".to_owned() };
    let _ = any_spawner::Executor::init_tokio();
    let render = leptos_axum::render_app_async_with_context(context, move || shell(assets()));
    let response = render(Request::get(path).body(Body::empty()).unwrap()).await;
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a browser would show: the document without what hydration needs.
fn visible(html: &str) -> String {
    html.split("<script").map(|part| part.split_once("</script>").map_or(part, |(_, rest)| rest)).collect()
}

/// Where pictures of the pages are made from, when somebody asks for them.
fn keep(name: &str, html: &str) {
    if let Ok(folder) = std::env::var("INNKEEPER_PREVIEW") {
        std::fs::write(format!("{folder}/{name}.html"), html).unwrap();
    }
}

#[tokio::test]
async fn every_part_of_resources_is_there_without_javascript() {
    let html = page("/", example::busy_day(), None, Theme::Dark).await;
    keep("resources-dark", &html);
    let shown = visible(&html);
    for text in [
        "Models use 2.25 GiB. 18.0 GiB is free.",
        "2 of 5 models loaded",
        "frees about 33 MiB",
        "reading weights, 62\u{a0}%",
        "would take about 41 MiB",
        "in 1 min 48 s",
        "last use: load by the page",
        "33.1 of 33.1 MiB",
        "512 MiB did not come back: held by process 4121",
        "No GPU found: NVIDIA driver not loaded. Models run on the CPU.",
        "The file ends before its last tensor.",
        "14:02:31 UTC",
        "name=\"idle_timeout\"",
        "action=\"/manage/cleanup\"",
        "action=\"/manage/cancel\"",
    ] {
        assert!(shown.contains(text), "{text} is missing");
    }
    assert!(html.contains("data-theme=\"dark\""));
}

#[tokio::test]
async fn rows_carry_their_model_and_state() {
    let html = page("/", example::busy_day(), None, Theme::System).await;
    for (model, state) in
        [("smollm2", "ready"), ("llama-3.2-3b", "loading"), ("minilm", "unloaded"), ("phi-broken", "failed")]
    {
        assert!(html.contains(&format!("data-model=\"{model}\" data-state=\"{state}\"")), "{model}");
    }
    assert!(!html.contains("<html lang=\"en\" data-theme"));
}

#[tokio::test]
async fn no_page_has_an_inline_style_and_every_script_has_the_nonce() {
    for path in [
        "/",
        "/chat",
        "/activity",
        "/model/smollm2",
        "/settings",
        "/?ask=cleanup",
        "/settings?ask=cleanup",
        "/nowhere",
    ] {
        let html = page(path, example::busy_day(), None, Theme::Light).await;
        assert!(!html.contains(" style="), "{path}");
        let scripts = html.matches("<script").count();
        assert!(scripts >= 2, "{path}: the boot script and the first paint's data");
        assert_eq!(
            html.matches("<script").count(),
            html.split("<script").filter(|s| s.split('>').next().unwrap().contains("nonce=")).count(),
            "{path}"
        );
        assert_eq!(html.matches("<h1").count(), 1, "{path}");
        assert_eq!(html.matches("<main").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_dialog_can_be_asked_for_without_javascript() {
    let html = page("/?ask=cleanup", example::busy_day(), None, Theme::Light).await;
    keep("cleanup-light", &html);
    let dialog = html.split("<dialog").find(|part| part.contains("id=\"cleanup\"")).unwrap();
    assert!(dialog.split('>').next().unwrap().contains(" open"));
    assert!(dialog.contains("smollm2") && dialog.contains("33.1 MiB"), "what goes");
    assert!(dialog.contains("2 requests") && dialog.contains("is being loaded"), "what is kept and why");
    let reinitialise = html.split("<dialog").find(|part| part.contains("id=\"reinitialise\"")).unwrap();
    assert!(!reinitialise.split('>').next().unwrap().contains(" open"));
}

#[tokio::test]
async fn a_notice_is_shown_with_its_hint() {
    let notice = Notice::bad("Needs 9.1 GiB; 6.0 is free.", "Unload qwen (4.2 GiB)?");
    let html = visible(&page("/", example::busy_day(), Some(notice), Theme::Light).await);
    assert!(html.contains("data-good=\"false\""));
    assert!(html.contains("Needs 9.1 GiB; 6.0 is free.") && html.contains("Unload qwen (4.2 GiB)?"));
}

#[tokio::test]
async fn an_empty_house_offers_a_model_and_says_where_files_go() {
    let mut snapshot = nothing_yet();
    snapshot.server.models_dir = "/data/models".to_owned();
    let html = page("/", snapshot, None, Theme::Light).await;
    keep("empty-light", &html);
    let shown = visible(&html);
    assert!(shown.contains("Download smollm2, 94 MiB") && shown.contains("/data/models"));
    assert!(shown.contains("Memory has not been measured yet."));
}

#[tokio::test]
async fn a_conversation_is_shown_as_text_and_never_as_html() {
    let html = page("/chat", example::busy_day(), None, Theme::Light).await;
    keep("chat-light", &html);
    let shown = visible(&html);
    assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(shown.contains("\n  more than long ones."));
    assert!(!shown.contains("<option value=\"minilm\""), "embeddings do not chat");
}

#[tokio::test]
async fn the_filter_works_without_javascript() {
    let html = page("/?q=SMOL", example::busy_day(), None, Theme::Light).await;
    keep("resources-light-filtered", &html);
    let rows = |hidden: bool| {
        html.split("<tbody")
            .skip(1)
            .filter(|r| r.contains("data-model") && r.split('>').next().unwrap().contains("hidden") == hidden)
            .count()
    };
    assert_eq!((rows(false), rows(true)), (1, 4));
}

#[tokio::test]
async fn every_setting_says_its_value_and_where_it_comes_from() {
    let shown = visible(&page("/settings", example::busy_day(), None, Theme::Light).await);
    for text in [
        "data-setting=\"session_timeout\"",
        "An argument of the command line decides this.",
        "value=\"10m\"",
        "saved here",
        "the default of all models",
        "frees about 33 MiB",
        "/v1/chat/completions",
    ] {
        assert!(shown.contains(text), "{text} is missing");
    }
}

#[tokio::test]
async fn a_wrong_value_is_told_at_its_field_with_what_was_typed() {
    let mut notice = Notice::bad("`soon` is no span of time.", "Nothing was changed.");
    (notice.field, notice.typed) = ("models.smollm2.idle_timeout".to_owned(), "soon".to_owned());
    for path in ["/", "/settings", "/model/smollm2"] {
        let shown = visible(&page(path, example::busy_day(), Some(notice.clone()), Theme::Light).await);
        assert_eq!(shown.matches("`soon` is no span of time. Nothing was changed.").count(), 1, "{path}");
        assert_eq!(shown.matches("value=\"soon\"").count(), 1, "{path}");
        assert!(!shown.contains("data-good="), "{path}: not said twice");
    }
}

#[tokio::test]
async fn the_ledger_shows_causes_proofs_and_the_way_to_older_events() {
    let shown =
        visible(&page("/activity?kind=unload&model=smollm2", example::busy_day(), None, Theme::Light).await);
    for text in [
        "Asked.",
        "by the page",
        "33.1 of 33.1 MiB",
        "/activity?model=smollm2&amp;kind=unload&amp;after=6",
        "2026-11-23",
        "/manage/history.csv?model=smollm2&amp;kind=unload",
        "/activity?model=smollm2&amp;kind=unload&amp;window=5m",
        "0.31 s",
    ] {
        assert!(shown.contains(text), "{text} is missing");
    }
}

#[tokio::test]
async fn a_models_page_has_its_files_its_memory_its_log_and_the_way_out() {
    let shown = visible(&page("/model/smollm2?ask=remove", example::busy_day(), None, Theme::Light).await);
    for text in [
        "/data/models/smollm2.gguf",
        "134,515,008",
        "ready in 0.42 s",
        "the disk gets 94.0 MiB back",
        "exact",
    ] {
        assert!(shown.contains(text), "{text} is missing");
    }
    let gone = visible(&page("/model/nobody", example::busy_day(), None, Theme::Light).await);
    assert!(gone.contains("There is no model of this name any more"));
}

#[tokio::test]
async fn pictures_of_the_pages_can_be_made() {
    let html = page("/", example::busy_day(), None, Theme::Light).await;
    keep("resources-light", &html);
    assert!(html.starts_with("<!DOCTYPE html>"));
    let chat = page("/chat", example::busy_day(), None, Theme::Dark).await;
    keep("chat-dark", &chat);
    assert!(chat.contains("data-theme=\"dark\""));
}

#[tokio::test]
async fn routes_can_be_listed_outside_any_request() {
    let routes = leptos_axum::generate_route_list(App);
    let paths: Vec<_> = routes.iter().map(|route| route.path().to_owned()).collect();
    assert_eq!(paths, ["/", "/chat", "/activity", "/model/{id}", "/settings"]);
}

#[tokio::test]
async fn what_is_wrong_has_its_words_a_process_that_cannot_be_ended_and_a_driver_that_hangs() {
    let mut snapshot = example::busy_day();
    let model = snapshot.models.iter_mut().find(|model| model.id.as_str() == "smollm2").unwrap();
    model.state = protocol::ModelState::Stuck;
    let absent = snapshot.gpu_absent.as_mut().unwrap();
    absent.kind = protocol::GpuAbsence::Stuck;
    absent.reason = "NVIDIA driver does not answer".to_owned();
    let shown = visible(&page("/", snapshot.clone(), None, Theme::Light).await);
    for text in [
        "data-model=\"smollm2\" data-state=\"stuck\"",
        "process 4121 cannot be ended",
        "No GPU can be used: NVIDIA driver does not answer. Models run on the CPU.",
    ] {
        assert!(shown.contains(text), "{text} is missing");
    }
    assert!(!shown.contains("No GPU found"));
    let shown = visible(&page("/model/smollm2", snapshot, None, Theme::Light).await);
    for text in ["process 4121 cannot be ended", "Confined by", "landlock, seccomp"] {
        assert!(shown.contains(text), "{text} is missing");
    }
}

#[tokio::test]
async fn a_warning_stands_where_the_memory_does() {
    let mut snapshot = example::busy_day();
    assert!(!visible(&page("/", snapshot.clone(), None, Theme::Light).await).contains("The disk is full"));
    snapshot.warnings.push(protocol::Warning {
        code: "history_not_written".to_owned(),
        message: "The disk is full.".to_owned(),
        hint: "Make room.".to_owned(),
        since: protocol::Time::from_unix_ms(0),
    });
    assert!(visible(&page("/", snapshot, None, Theme::Light).await).contains("The disk is full. Make room."));
}

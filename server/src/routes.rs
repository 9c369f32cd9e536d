//! Every route on one page.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, post},
};
use leptos_axum::handle_server_fns_with_context;
use protocol::{Code, Problem, ServerState};
use serde_json::json;

use crate::{
    answer::{Answer, negotiate},
    assets, changes,
    compose::House,
    events, export, guard, hidden, hold, logs, metrics, ollama, openai, pages,
};

/// The whole site: guarded, then routed.
pub(crate) fn routes(house: &House) -> Router {
    let verbs: Vec<_> = leptos::server_fn::axum::server_fn_paths().collect();
    let paths = verbs.iter().map(|(path, _)| (*path).to_owned()).collect();
    let context = pages::context(house);
    let manage = verbs.iter().fold(Router::new(), |router, (path, method)| {
        let context = context.clone();
        let verb = move |request: Request| handle_server_fns_with_context(context.clone(), request);
        match MethodFilter::try_from(method.clone()) {
            Ok(filter) => router.route(path, MethodRouter::new().on(filter, verb)),
            Err(_) => router,
        }
    });
    let manage = manage
        .route("/manage/log", get(logs::log))
        .route("/manage/{*rest}", get(nothing_here).post(nothing_here))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(negotiate));
    let v1 = Router::new()
        .route("/v1/models", get(openai::list))
        .route("/v1/models/{*id}", get(openai::one))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/{*rest}", get(nothing_here).post(nothing_here))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(openai::named));
    let api = Router::new()
        .route("/api/version", get(ollama::version))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/generate", post(ollama::generate))
        .route("/api/chat", post(ollama::chat))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embeddings))
        .route("/api/{*rest}", get(nothing_here).post(nothing_here))
        .method_not_allowed_fallback(wrong_method);
    Router::new()
        .merge(pages::pages(house, paths))
        .merge(manage)
        .merge(v1)
        .merge(api)
        .route("/events", get(events::events))
        // Outside the layer that holds a whole answer in memory.
        .route("/manage/hold", post(hold::hold))
        .route("/manage/set", post(changes::set))
        .route("/manage/page", post(hidden::page))
        .route("/manage/history.csv", get(export::csv))
        .route("/manage/history.json", get(export::json))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/pkg/{hash}/{name}", get(assets::serve))
        .route("/favicon.ico", get(assets::favicon))
        .layer(DefaultBodyLimit::max(usize::try_from(house.config().body_bytes).unwrap_or(usize::MAX)))
        .layer(from_fn(own_words_for_large_bodies))
        .layer(from_fn_with_state(Arc::clone(house.guard()), guard::guard))
        .with_state(house.clone())
}

/// GET /readyz: 503 with the reason while draining.
async fn ready(State(house): State<House>) -> Response {
    match house.desk().snapshot().server.state {
        ServerState::Ready => (StatusCode::OK, "ready\n").into_response(),
        ServerState::Draining => {
            let reason = Json(json!({ "ready": false, "reason": "the server is stopping" }));
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, HeaderValue::from_static("5"))], reason)
                .into_response()
        }
    }
}

async fn nothing_here(uri: Uri) -> Response {
    Answer::for_path(uri.path()).problem(&Problem::new(
        Code::NotFound,
        format!("There is nothing at {}.", uri.path()),
        "The README lists the paths of the API.",
    ))
}

async fn wrong_method(uri: Uri) -> Response {
    Answer::for_path(uri.path()).problem(&Problem::new(
        Code::MethodNotAllowed,
        format!("{} cannot be used with this method.", uri.path()),
        "Reads use GET, everything else POST.",
    ))
}

/// Axum tells a body over the limit in plain text; this tells it in the words of the path.
async fn own_words_for_large_bodies(request: Request, next: Next) -> Response {
    let answer = Answer::for_path(request.uri().path());
    let response = next.run(request).await;
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/plain"));
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE && plain {
        return answer.problem(&Problem::new(
            Code::TooLarge,
            "The body is larger than this server takes.",
            "Send less, or raise `[limits] body` in the configuration.",
        ));
    }
    response
}

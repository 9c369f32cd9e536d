//! The pages: leptos's routes with what they need in context, and the policy that goes with each document.

use app::{App, Assets, Prepared};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use leptos::{
    config::{Env, LeptosOptions},
    nonce::Nonce,
    prelude::{Owner, provide_context, use_context},
    reactive::computed::ScopedFuture,
};
use leptos_axum::{
    LeptosRoutes, ResponseOptions, generate_route_list_with_exclusions_and_ssg_and_context,
    render_app_async_with_context,
};

use crate::{
    answer::{NOTICE_COOKIE, cookie, notice_of},
    assets::SITE_HASH,
    client,
    compose::House,
};

/// The options leptos wants, by hand: no Cargo.toml and no environment at run time.
pub(crate) fn options() -> LeptosOptions {
    LeptosOptions::builder()
        .output_name("innkeeper")
        .site_pkg_dir(format!("pkg/{SITE_HASH}"))
        .env(Env::PROD)
        .build()
}

/// Where the built site stands; the hash is in the folder's name.
fn site() -> Assets {
    let path = |name: &str| format!("/pkg/{SITE_HASH}/{name}");
    Assets { js: path("innkeeper.js"), wasm: path("innkeeper_bg.wasm"), css: path("innkeeper.css") }
}

/// Every page, and 404 for the rest. `verbs` are the paths of the server functions, which have routes of their own.
pub(crate) fn pages(house: &House, verbs: Vec<String>) -> Router<House> {
    let context = context(house);
    let (routes, _) =
        generate_route_list_with_exclusions_and_ssg_and_context(App, Some(verbs), context.clone());
    let not_found = {
        let context = context.clone();
        move || {
            context();
            if let Some(response) = use_context::<ResponseOptions>() {
                response.set_status(StatusCode::NOT_FOUND);
            }
        }
    };
    let shell = || app::shell(site());
    Router::new()
        .leptos_routes_with_context(house, routes, context, shell)
        .fallback(render_app_async_with_context(not_found, shell))
        .layer(from_fn_with_state(house.clone(), prepare))
        .layer(from_fn(policy))
}

/// What pages and server functions find in their context.
pub(crate) fn context(house: &House) -> impl Fn() + Clone + Send + Sync + 'static {
    let house = house.clone();
    move || {
        let parts = use_context::<Parts>();
        if let Some(nonce) = parts.as_ref().and_then(|parts| parts.extensions.get::<Nonce>()) {
            provide_context(nonce.clone());
        }
        let headers = parts.as_ref().map(|parts| &parts.headers);
        provide_context(headers.and_then(notice_of));
        let prepared = parts.as_ref().and_then(|parts| parts.extensions.get::<Prepared>());
        provide_context(prepared.cloned().unwrap_or_default());
        if let Some(browser) = headers.and_then(client::browser) {
            provide_context(app::Browser(browser.to_owned()));
        }
        provide_context(app::Theme::from_cookie(headers.and_then(|headers| cookie(headers, "theme"))));
        provide_context(house.desk().clone());
        provide_context(house.ports());
    }
}

/// Gathers what a page needs besides the snapshot, before leptos draws it without waiting for anything.
async fn prepare(State(house): State<House>, mut request: Request, next: Next) -> Response {
    let mut missing = false;
    if app::is_prepared(request.uri().path()) {
        let path = request.uri().path_and_query().map(|all| all.as_str().to_owned()).unwrap_or_default();
        let gathered = Owner::new().with(|| {
            context(&house)();
            ScopedFuture::new(async move { app::prepare(&path).await })
        });
        let prepared = gathered.await;
        missing = app::is_missing(request.uri().path(), &prepared);
        request.extensions_mut().insert(prepared);
    }
    let mut response = next.run(request).await;
    if missing {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// The policy with its nonce; a sentence that was shown is cleared.
async fn policy(mut request: Request, next: Next) -> Response {
    let nonce = Nonce::new();
    request.extensions_mut().insert(nonce.clone());
    let shows_notice = cookie(request.headers(), NOTICE_COOKIE).is_some();
    let is_new = client::browser(request.headers()).is_none();
    let mut response = next.run(request).await;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic' 'wasm-unsafe-eval'; style-src 'self' 'nonce-{nonce}'; \
         connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    );
    let head = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        head.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    head.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    head.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if shows_notice
        && let Ok(gone) =
            HeaderValue::from_str(&format!("{NOTICE_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"))
    {
        head.append(header::SET_COOKIE, gone);
    }
    if is_new && let Ok(named) = HeaderValue::from_str(&new_browser()) {
        head.append(header::SET_COOKIE, named);
    }
    response
}

/// A name for a browser that has none yet. It ends with the browser, and nobody can guess it.
fn new_browser() -> String {
    let (one, other) = (crate::random::word(), crate::random::word());
    format!("{}={one:016x}{other:016x}; Path=/; HttpOnly; SameSite=Lax", client::SESSION_COOKIE)
}

//! How errors and the answers of the verbs reach whoever asked: one table from error to status, one shape for each
//! dialect (ours, OpenAI's, Ollama's), and one layer around `/manage` that serves programs, plain forms and
//! hydrated forms with the same words.

use app::Notice;
use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::{Code, Problem, ProblemBody};
use serde_json::json;

/// The media type by which a hydrated form asks for a sentence instead of data.
pub(crate) const NOTICE_TYPE: &str = "application/vnd.innkeeper.notice+json";

/// The cookie that carries a sentence over a redirect, once.
pub(crate) const NOTICE_COOKIE: &str = "innkeeper_notice";

/// The largest answer of a verb that is turned into a sentence.
const ANSWER_LIMIT: usize = 8 << 20;

/// The shape in which a part of the API tells errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `{"error":{code,message,hint,retry_after_seconds}}`.
    Ours,
    /// `{"error":{message,type,param,code}}`.
    OpenAi,
    /// `{"error":"text"}`.
    Ollama,
}

impl Answer {
    /// The dialect that is spoken at a path.
    pub(crate) fn for_path(path: &str) -> Self {
        if path.starts_with("/v1/") {
            Self::OpenAi
        } else if path.starts_with("/api/") {
            Self::Ollama
        } else {
            Self::Ours
        }
    }

    /// A problem as an answer with its status and headers.
    pub(crate) fn problem(self, problem: &Problem) -> Response {
        let body = match self {
            Self::Ours => json!(ProblemBody { error: problem.clone() }),
            Self::OpenAi => openai_error(problem),
            Self::Ollama => json!({ "error": problem.to_string() }),
        };
        let mut response = (status(problem.code), Json(body)).into_response();
        head_of(problem, response.headers_mut());
        response
    }
}

/// An error object as OpenAI's SDKs read it, with our hint in the sentence and beside it.
pub(crate) fn openai_error(problem: &Problem) -> serde_json::Value {
    let kind = match status(problem.code).as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        400..=499 => "invalid_request_error",
        503 => "unavailable_error",
        _ => "server_error",
    };
    json!({ "error": {
        "message": problem.to_string(), "type": kind, "param": null, "code": problem.code.word(), "hint": problem.hint,
        "retry_after_seconds": problem.retry_after_seconds,
    }})
}

/// The one table from error to status.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::BadArgument | Code::ContextLengthExceeded | Code::WrongKind => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::UnknownModel | Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Conflict => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedModel => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::LoadCancelled
        | Code::LoadFailed
        | Code::WorkerDied
        | Code::CutOff
        | Code::Quarantined
        | Code::Draining
        | Code::QueueFull
        | Code::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        Code::InsufficientMemory | Code::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
    }
}

/// Retry-After where a retry may help, and `x-should-retry: false` where the SDKs would retry in vain.
fn head_of(problem: &Problem, head: &mut HeaderMap) {
    if let Some(seconds) = problem.retry_after_seconds {
        head.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    } else if status(problem.code).as_u16() >= 500 || problem.code == Code::Conflict {
        head.insert("x-should-retry", HeaderValue::from_static("false"));
    }
}

/// Who reads the answer of a verb.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Program,
    PlainForm,
    HydratedForm,
}

/// The layer around `/manage`. Functions answer in data alone; this turns the answer into what its reader can use:
/// a program gets data and status, a plain form a redirect and a sentence shown once, a hydrated form the sentence
/// (always with 200, since a browser logs every other answer as an error).
pub(crate) async fn negotiate(mut request: Request, next: Next) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let reader = if accept.contains(NOTICE_TYPE) {
        Reader::HydratedForm
    } else if accept.contains("text/html") && request.method() == Method::POST {
        Reader::PlainForm
    } else {
        Reader::Program
    };
    let back = way_back(request.headers());
    let path = request.uri().path().to_owned();
    if let Some(problem) = frightening_argument(request.uri().query()) {
        return Answer::Ours.problem(&problem);
    }
    let form;
    (request, form) = remembered(request, reader).await;
    // Leptos has redirects of its own for whoever accepts HTML; they stand aside for this layer.
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let (mut head, body) = next.run(request).await.into_parts();
    let failed = head.headers.remove("serverfnerror").is_some();
    let Ok(bytes) = to_bytes(body, ANSWER_LIMIT).await else {
        return Answer::Ours.problem(&Problem::new(
            Code::Internal,
            "The answer could not be put together.",
            "Ask for less at once, with `limit`.",
        ));
    };
    let problem = if failed || head.status.is_client_error() || head.status.is_server_error() {
        Some(
            serde_json::from_slice::<ProblemBody>(&bytes)
                .map_or_else(|_| untold(&path, head.status), |b| b.error),
        )
    } else {
        None
    };
    if reader == Reader::Program {
        return match problem {
            Some(problem) => Answer::Ours.problem(&problem),
            None => {
                head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                Response::from_parts(head, Body::from(bytes))
            }
        };
    }
    let notice = match problem {
        Some(problem) => told(&problem, &form),
        None => app::words::notice(&path, &serde_json::from_slice(&bytes).unwrap_or_default()),
    };
    let mut response = match reader {
        Reader::HydratedForm => Json(&notice).into_response(),
        _ => redirect(&back, &notice),
    };
    for cookie in head.headers.get_all(header::SET_COOKIE) {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}

/// Forms up to this size are remembered for the sake of what was typed.
const SMALL_FORM: usize = 4096;

/// The body of a small form, which stays in the request too; empty for anything else.
async fn remembered(request: Request, reader: Reader) -> (Request, Bytes) {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let small = length.is_some_and(|length: usize| length <= SMALL_FORM);
    if reader == Reader::Program || !small {
        return (request, Bytes::new());
    }
    let (head, body) = request.into_parts();
    // A body that breaks off is empty to whoever reads it next, and is refused there.
    let bytes = to_bytes(body, SMALL_FORM).await.unwrap_or_default();
    (Request::from_parts(head, Body::from(bytes.clone())), bytes)
}

/// A problem for a person; what was typed into the field that it is about goes along.
fn told(problem: &Problem, form: &[u8]) -> Notice {
    let mut notice = app::words::refused(problem);
    let name = notice.field.rsplit('.').next().unwrap_or_default();
    let query = format!("/?{}", String::from_utf8_lossy(form));
    let fields =
        query.parse::<Uri>().ok().and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    let typed = fields.and_then(|Query(fields)| fields.into_iter().find(|(key, _)| key == name));
    notice.typed = typed.map(|(_, value)| value.chars().take(100).collect()).unwrap_or_default();
    notice
}

/// An error that came without our words: a wrong method, a body over the limit.
fn untold(path: &str, status: StatusCode) -> Problem {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            Code::MethodNotAllowed,
            format!("{path} cannot be used with this method."),
            "Reads use GET, everything else POST with form fields.",
        ),
        StatusCode::NOT_FOUND => Problem::new(
            Code::NotFound,
            format!("There is nothing at {path}."),
            "The README lists the paths.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Code::TooLarge,
            "The body is larger than the limit.",
            "Raise `[limits] body`, or send less.",
        ),
        _ => Problem::new(
            Code::Internal,
            format!("Unexpected answer {status} of {path}."),
            "Look into the server's log.",
        ),
    }
}

/// Arguments of a verb stand in the body. One in the address would be ignored, which could frighten later.
fn frightening_argument(query: Option<&str>) -> Option<Problem> {
    query.filter(|q| q.contains("dry_run")).map(|_| {
        Problem::new(
            Code::BadArgument,
            "`dry_run` stands in the address.",
            "Send it in the body, form-encoded.",
        )
    })
}

/// The path of a same-origin Referer, else `/`.
fn way_back(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let (Some(referer), Some(host)) = (text(header::REFERER), text(header::HOST)) else {
        return "/".to_owned();
    };
    let rest = referer.split_once("://").map_or("", |(_, rest)| rest);
    match rest.split_once('/') {
        Some((authority, path)) if authority == host && !path.starts_with(['/', '\\']) => format!("/{path}"),
        _ => "/".to_owned(),
    }
}

fn redirect(back: &str, notice: &Notice) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let head = response.headers_mut();
    head.insert(header::LOCATION, HeaderValue::from_str(back).unwrap_or(HeaderValue::from_static("/")));
    let text = serde_json::to_string(notice).unwrap_or_default();
    let cookie =
        format!("{NOTICE_COOKIE}={}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax", percent_encode(&text));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        head.append(header::SET_COOKIE, cookie);
    }
    response
}

/// Every byte that is no letter or digit as `%XX`, so that the value fits a cookie.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    // A cookie holds 4 kB with its name; a sentence is far under that, a page of log is not.
    for byte in text.bytes().take(1200) {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The sentence that a redirect brought along, if any.
pub(crate) fn notice_of(headers: &HeaderMap) -> Option<Notice> {
    let value = cookie(headers, NOTICE_COOKIE)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = if *first == b'%' {
            after.get(..2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok())
        } else {
            None
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    serde_json::from_slice(&bytes).ok()
}

/// A cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse::<header::HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn a_redirect_never_leaves_this_origin() {
        for (referer, back) in [
            ("http://localhost:1/chat?x=1", "/chat?x=1"),
            ("http://evil.example/chat", "/"),
            ("http://localhost:1//evil.example", "/"),
            ("http://localhost:1", "/"),
            ("nonsense", "/"),
        ] {
            assert_eq!(
                way_back(&headers(&[("referer", referer), ("host", "localhost:1")])),
                back,
                "{referer}"
            );
        }
        assert_eq!(way_back(&HeaderMap::new()), "/");
    }

    #[test]
    fn a_sentence_survives_its_cookie() {
        let notice = Notice {
            good: true,
            text: "ünladen; 33,1 MiB \"back\" = fine".into(),
            hint: "%41".into(),
            ..Notice::default()
        };
        let response = redirect("/", &notice);
        let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let pair = set.split(';').next().unwrap();
        assert_eq!(notice_of(&headers(&[("cookie", &format!("a=b; {pair}"))])), Some(notice));
        assert_eq!(notice_of(&headers(&[("cookie", "innkeeper_notice=%ZZ%")])), None);
    }

    #[test]
    fn what_was_typed_comes_back_with_the_refusal_of_its_field() {
        let problem = Problem::new(Code::BadArgument, "no span", "").about("models.a.b.idle_timeout");
        let notice = told(&problem, b"model=a.b&idle_timeout=ten+m%C3%BCnutes");
        assert_eq!(
            (notice.field.as_str(), notice.typed.as_str()),
            ("models.a.b.idle_timeout", "ten m\u{fc}nutes")
        );
        assert_eq!(told(&problem, b"").typed, "");
        assert_eq!(told(&Problem::new(Code::Conflict, "no", ""), b"model=x").typed, "");
    }

    #[test]
    fn every_5xx_says_whether_a_retry_helps() {
        let response = Answer::OpenAi.problem(&Problem::new(Code::InsufficientMemory, "No.", "Unload."));
        assert_eq!(response.status(), 507);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let response = Answer::Ours.problem(&Problem::new(Code::QueueFull, "Full.", "Wait.").retry_after(3));
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
    }
}

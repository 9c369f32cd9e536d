//! POST /manage/page: what becomes of a page that cannot be seen. Such a page holds no stream, so it says itself that it is
//! still there, that it can be seen again, or that it was closed. Nothing else is known of it.

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use manager::Hidden;
use protocol::{Code, Problem};

use crate::{answer::Answer, client, compose::House};

/// The form.
#[derive(serde::Deserialize)]
pub(crate) struct Said {
    state: String,
}

/// The handler. Whoever has no cookie of ours has no session that a page could keep.
pub(crate) async fn page(
    State(house): State<House>,
    headers: HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Response {
    let what = match form.as_ref().map(|Form(said)| said.state.as_str()) {
        Ok("hidden") => Hidden::Now,
        Ok("shown") => Hidden::NoMore,
        Ok("closed") => Hidden::Gone,
        _ => {
            let hint = "Send one form field, state: hidden, shown or closed.";
            return Answer::Ours.problem(&Problem::new(Code::BadArgument, "There is no such state.", hint));
        }
    };
    if let Some(session) = client::browser_session(&headers) {
        house.desk().page_hidden(session.key, what);
    }
    StatusCode::NO_CONTENT.into_response()
}

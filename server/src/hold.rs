//! POST /manage/hold: a lease for as long as the connection is open, for `innkeeper with`. However its caller ends, the
//! connection closes with it, and the lease goes back.
//!
//! The answer begins when the model is there: one line `{"model":...}`, then empty lines that keep the connection open,
//! and a line with an error if the model is taken away.

use std::{convert::Infallible, mem, time::Duration};

use axum::{
    Form,
    body::Body,
    extract::{State, rejection::FormRejection},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use manager::{Lease, LeaseWish};
use protocol::{Code, ModelId, Problem, ProblemBody};
use serde_json::json;
use supervisor::Instance;
use tokio_util::sync::CancellationToken;

use crate::{answer::Answer, compose::House, relay};

/// Whoever listens hears something at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The form.
#[derive(serde::Deserialize)]
pub(crate) struct Wish {
    model: String,
}

struct Held {
    model: ModelId,
    lease: Lease<Instance>,
    draining: CancellationToken,
    greeted: bool,
}

/// The handler.
pub(crate) async fn hold(State(house): State<House>, form: Result<Form<Wish>, FormRejection>) -> Response {
    match held(&house, form).await {
        Ok(held) => {
            let lines = stream::unfold(Some(held), next_line);
            let headers = [
                (header::CONTENT_TYPE, "application/x-ndjson"),
                (header::CACHE_CONTROL, "no-store"),
                (header::HeaderName::from_static("x-accel-buffering"), "no"),
            ];
            (headers, Body::from_stream(lines)).into_response()
        }
        Err(problem) => Answer::Ours.problem(&problem),
    }
}

async fn held(house: &House, form: Result<Form<Wish>, FormRejection>) -> Result<Held, Problem> {
    let bad = |why: String| Problem::new(Code::BadArgument, why, "Send one form field: model.");
    let Form(Wish { model }) = form.map_err(|error| bad(error.body_text()))?;
    let id: ModelId = model.trim().parse().map_err(|error: protocol::BadModelId| bad(error.to_string()))?;
    let model = house.wanted(&id).await?.id;
    let wish = LeaseWish {
        model: model.clone(),
        request: crate::random::name("hold"),
        client: "innkeeper with".to_owned(),
        session: None,
        idle_timeout: None,
        context: None,
    };
    let lease = house.handle().lease(wish).await?;
    Ok(Held { model, lease, draining: house.draining().clone(), greeted: false })
}

/// The next line, and what is held after it; dropped with its reader, the lease goes back.
async fn next_line(held: Option<Held>) -> Option<(Result<String, Infallible>, Option<Held>)> {
    let mut held = held?;
    if !mem::replace(&mut held.greeted, true) {
        return Some((Ok(format!("{}\n", json!({ "model": held.model }))), Some(held)));
    }
    let meter = held.lease.meter().clone();
    let taken = || meter.why().cloned().unwrap_or_else(relay::lost);
    tokio::select! {
        () = meter.cancelled().cancelled() => {
            Some((Ok(format!("{}\n", json!(ProblemBody { error: taken() }))), None))
        }
        () = held.draining.cancelled() => None,
        () = tokio::time::sleep(KEEP_ALIVE) => Some((Ok("\n".to_owned()), Some(held))),
    }
}

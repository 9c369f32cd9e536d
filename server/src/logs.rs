//! GET /manage/log?model=: the worker's own words, kept after its death.

use axum::{
    Json,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{answer::Answer, compose::House};

#[derive(Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    model: String,
}

/// The handler.
pub(crate) async fn log(State(house): State<House>, Query(which): Query<Which>) -> Response {
    let found = async {
        let id = crate::openai::model_id(Some(which.model).filter(|m| !m.is_empty()))?;
        house.find(&id).await
    };
    match found.await {
        Ok(model) => Json(json!({ "model": model.id, "lines": house.worker_log(&model.id) })).into_response(),
        Err(problem) => Answer::Ours.problem(&problem),
    }
}

//! GET /v1/models and /v1/models/{id}.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use protocol::Model;
use serde_json::{Value, json};

use crate::{answer::Answer, compose::House};

/// Every model, loaded or not.
pub(crate) async fn list(State(house): State<House>) -> Json<Value> {
    let snapshot = house.desk().snapshot();
    let created = snapshot.server.started_at.unix_ms() / 1000;
    let data: Vec<Value> = snapshot.models.iter().map(|model| object(model, created)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// One model.
pub(crate) async fn one(State(house): State<House>, Path(id): Path<String>) -> Response {
    let found = async {
        let id = super::request::model_id(Some(id))?;
        house.find(&id).await
    };
    match found.await {
        Ok(model) => {
            let created = house.desk().snapshot().server.started_at.unix_ms() / 1000;
            Json(object(&model, created)).into_response()
        }
        Err(problem) => Answer::OpenAi.problem(&problem),
    }
}

fn object(model: &Model, created: i64) -> Value {
    json!({ "id": model.id, "object": "model", "created": created, "owned_by": "innkeeper", "kind": model.kind,
        "state": model.state, "size_bytes": model.size_bytes })
}

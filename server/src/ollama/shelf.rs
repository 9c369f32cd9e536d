//! What there is: /api/version, /api/tags, /api/ps, /api/show.

use app::manage::About;
use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use protocol::{Model, ModelId, ModelKind, Problem, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::OnShelf;

use crate::{
    answer::Answer,
    compose::{House, VERSION},
    openai::{json as read, model_id},
    relay,
};

/// GET /api/version.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

/// GET /api/tags: every model on disk.
pub(crate) async fn tags(State(house): State<House>) -> Response {
    match on_disk(&house).await {
        Ok(all) => {
            Json(json!({ "models": all.iter().map(|(_, of)| of).collect::<Vec<_>>() })).into_response()
        }
        Err(problem) => Answer::Ollama.problem(&problem),
    }
}

/// GET /api/ps: every model that is loaded.
pub(crate) async fn ps(State(house): State<House>) -> Response {
    let all = match on_disk(&house).await {
        Ok(all) => all,
        Err(problem) => return Answer::Ollama.problem(&problem),
    };
    let loaded = all.into_iter().filter_map(|(model, mut of)| {
        let instance = model.instances.first().filter(|_| model.state.holds_memory())?;
        let held = instance.memory.as_ref();
        of["size"] = json!(held.map_or(0, |held| held.private_bytes + held.mapped_bytes));
        of["size_vram"] = json!(held.and_then(|held| held.gpu_bytes).unwrap_or(0));
        of["context_length"] = json!(instance.context);
        // One that stays has no such time.
        of["expires_at"] = json!(model.unload_at);
        Some(of)
    });
    Json(json!({ "models": loaded.collect::<Vec<_>>() })).into_response()
}

#[derive(Deserialize)]
struct Which {
    model: Option<String>,
    /// As older clients say it. Ollama's own sends both fields, one of them empty.
    name: Option<String>,
}

impl Which {
    fn id(self) -> Result<ModelId, Problem> {
        let given = |name: Option<String>| name.filter(|name| !name.is_empty());
        model_id(given(self.model).or(given(self.name)))
    }
}

/// POST /api/show.
pub(crate) async fn show(State(house): State<House>, body: Bytes) -> Response {
    let shown = async {
        let which: Which = read(&body)?;
        let id = house.find(&which.id()?).await?.id;
        let about = app::ports::House::about(&house, id.clone()).await?;
        let all = on_disk(&house).await?;
        let of = all.into_iter().find(|(model, _)| model.id == id);
        of.map(|(model, of)| described(&model, &about, of)).ok_or_else(relay::lost)
    };
    match shown.await {
        Ok(value) => Json(value).into_response(),
        Err(problem) => Answer::Ollama.problem(&problem),
    }
}

fn described(model: &Model, about: &About, mut of: Value) -> Value {
    let family = &model.family;
    let mut info = json!({ "general.architecture": family, "general.parameter_count": about.parameters });
    for (name, value) in
        [("context_length", about.context), ("block_count", about.layers), ("embedding_length", about.width)]
    {
        // Of a file that nobody could look into nothing is known.
        if let Some(value) = value {
            info[format!("{family}.{name}")] = json!(value);
        }
    }
    of["details"]["parameter_size"] = json!(about.parameters.map(parameters).unwrap_or_default());
    let can = if model.kind == ModelKind::Chat { "completion" } else { "embedding" };
    json!({ "modelfile": "", "parameters": "", "template": "", "details": of["details"], "model_info": info,
        "capabilities": [can], "modified_at": of["modified_at"] })
}

/// Each model with what Ollama tells of it.
async fn on_disk(house: &House) -> Result<Vec<(Model, Value)>, Problem> {
    let store = house.store().clone();
    let scan = tokio::task::spawn_blocking(move || store.scan().map_err(|error| error.problem()));
    let scan = scan.await.unwrap_or_else(|_| Err(relay::lost()))?;
    let snapshot = house.desk().snapshot();
    let known = snapshot.models.iter().filter_map(|model| {
        let found = scan.models.iter().find(|one| one.id == model.id)?;
        Some((model.clone(), told(house, model, found)))
    });
    Ok(known.collect())
}

fn told(house: &House, model: &Model, found: &OnShelf) -> Value {
    let name = format!("{}:latest", model.id);
    let written = found.key.0.iter().map(|file| file.mtime_ns / 1_000_000).max().unwrap_or(0);
    let facts = house.facts().get(&found.key.text()).and_then(Result::ok);
    let size = facts.map(|facts| parameters(facts.parameters)).unwrap_or_default();
    let format = if found.files.iter().any(|file| file.path.extension().is_some_and(|end| end == "gguf")) {
        "gguf"
    } else {
        "safetensors"
    };
    json!({
        "name": name, "model": name, "size": model.size_bytes, "digest": digest(found),
        "modified_at": Time::from_unix_ms(i64::try_from(written).unwrap_or(0)).to_string(),
        "details": { "parent_model": "", "format": format, "family": model.family, "families": [model.family],
            "parameter_size": size, "quantization_level": model.quantization },
    })
}

/// Tells one version of a model's files from another, which is what clients use it for. It is made from which files they are,
/// not from what is in them: to read gigabytes for a list would be too much.
fn digest(found: &OnShelf) -> String {
    Sha256::digest(found.key.text()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `134.52M`, `1.2B`.
fn parameters(count: u64) -> String {
    let millions = count as f64 / 1e6;
    if millions >= 1000.0 { format!("{:.1}B", millions / 1000.0) } else { format!("{millions:.2}M") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_in_either_field_and_an_empty_one_names_none() {
        let of = |body: &str| read::<Which>(body.as_bytes()).unwrap().id().map(|id| id.to_string()).ok();
        assert_eq!(of(r#"{"model":"a:latest","name":""}"#).as_deref(), Some("a"));
        assert_eq!(of(r#"{"model":"","name":"b"}"#).as_deref(), Some("b"));
        assert_eq!(of(r#"{"model":"","name":""}"#), None);
    }

    #[test]
    fn parameters_are_counted_as_ollama_writes_them() {
        assert_eq!(parameters(134_515_008), "134.52M");
        assert_eq!(parameters(1_235_814_400), "1.2B");
    }
}

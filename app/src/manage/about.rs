//! GET /manage/model

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::ModelId;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Where it is.
    pub path: String,
    /// How large.
    pub size_bytes: u64,
    /// Whether somebody put a link there; removing it frees nothing.
    pub is_link: bool,
}

/// What is in a model's files. Everything but the files is `null` until they were inspected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Which.
    pub model: ModelId,
    /// Its files, in their order.
    pub files: Vec<ModelFile>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Values in its weights.
    pub parameters: Option<u64>,
    /// The longest context it was made for.
    pub context: Option<u32>,
    /// Layers.
    pub layers: Option<u32>,
    /// Width of a hidden state.
    pub width: Option<u32>,
    /// Entries in its vocabulary.
    pub vocabulary: Option<u32>,
    /// Whether its file brings a chat template.
    pub has_template: Option<bool>,
    /// Bytes of KV cache for each position of a conversation.
    pub kv_bytes_per_token: Option<u64>,
}

/// What is in a model's files. Resets no timer.
#[server(name = ReadModel, prefix = "/manage", endpoint = "model", input = GetUrl)]
pub async fn about(model: String) -> Result<About, Refusal> {
    let id = super::arguments::id(&model)?;
    Ok(crate::request::house()?.about(id).await?)
}

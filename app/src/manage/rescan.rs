//! POST /manage/rescan

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// What is on the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// How many models.
    pub models: u32,
}

/// Reads the models folder again.
#[server(name = LookAgain, prefix = "/manage", endpoint = "rescan")]
pub async fn rescan() -> Result<Shelf, Refusal> {
    Ok(Shelf { models: crate::request::house()?.rescan().await? })
}

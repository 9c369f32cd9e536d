//! POST /manage/cancel_pull

use leptos::prelude::*;

use super::{Cancelled, Refusal};

/// Stops a fetch, or clears a failed one away.
#[server(name = CancelPull, prefix = "/manage", endpoint = "cancel_pull")]
pub async fn cancel_pull(r#ref: String) -> Result<Cancelled, Refusal> {
    Ok(Cancelled { cancelled: crate::request::house()?.cancel_pull(r#ref).await? })
}

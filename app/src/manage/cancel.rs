//! POST /manage/cancel

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Whether there was something to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// False: it had ended already.
    pub cancelled: bool,
}

/// Tells a request to stop, waiting or running.
#[server(name = CancelRequest, prefix = "/manage", endpoint = "cancel")]
pub async fn cancel(request: String) -> Result<Cancelled, Refusal> {
    Ok(Cancelled { cancelled: crate::request::desk()?.cancel_request(&request).await })
}

//! GET /manage/snapshot

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::Snapshot;

use super::Refusal;

/// Everything at this moment. Resets no timer.
#[server(name = TakeSnapshot, prefix = "/manage", endpoint = "snapshot", input = GetUrl)]
pub async fn snapshot() -> Result<Snapshot, Refusal> {
    Ok((*crate::request::house()?.snapshot()).clone())
}

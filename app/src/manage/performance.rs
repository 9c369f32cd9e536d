//! GET /manage/performance

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::Performance;

use super::Refusal;

/// How well each model answered over the last five minutes, hour and day: load time, time to first token, tokens a
/// second and queue wait with their percentiles, and what it took of the memory.
#[server(name = ReadPerformance, prefix = "/manage", endpoint = "performance", input = GetUrl)]
pub async fn performance() -> Result<Performance, Refusal> {
    Ok(crate::request::house()?.performance().await?)
}

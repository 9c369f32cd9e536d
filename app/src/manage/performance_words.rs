//! GET /manage/performance_words

use leptos::{prelude::*, server_fn::codec::GetUrl};
use serde::{Deserialize, Serialize};

use super::Refusal;

/// A number in words, and what else there is to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerformanceCell {
    /// The number.
    pub main: String,
    /// The line below it; may be empty.
    pub more: String,
}

/// How one model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerformanceRow {
    /// Which.
    pub model: String,
    /// Requests, first token, tokens a second, queue wait, load, GiB-hours.
    pub cells: Vec<PerformanceCell>,
}

/// How well models answered within a window (`5m`, `1h`, `24h`), in words, so that the browser needs none of the
/// numbers behind them. Programs read /manage/performance.
#[server(name = ReadPerformanceWords, prefix = "/manage", endpoint = "performance_words", input = GetUrl)]
pub async fn performance_words(window: String) -> Result<Vec<PerformanceRow>, Refusal> {
    Ok(crate::words::performance(&super::performance().await?, &window))
}

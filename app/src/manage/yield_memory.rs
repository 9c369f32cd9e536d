//! POST /manage/yield

use leptos::prelude::*;
use protocol::Snapshot;

use super::Refusal;

/// Gives the machine's memory to others: everything is unloaded, and loads are refused for so many minutes, at most a
/// week. 0 ends it.
#[server(name = YieldMemory, prefix = "/manage", endpoint = "yield")]
pub async fn yield_memory(minutes: u32) -> Result<Snapshot, Refusal> {
    if minutes > 7 * 24 * 60 {
        return Err(Refusal::argument(
            format!("{minutes} minutes are more than a week."),
            "Send at most 10080.",
        ));
    }
    crate::request::desk()?.yield_memory(minutes, crate::request::caller()).await?;
    Ok((*crate::request::house()?.snapshot()).clone())
}

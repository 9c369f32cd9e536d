//! POST /manage/cleanup

use leptos::prelude::*;
use protocol::{CleanUp, CleanUpScope};

use super::Refusal;

/// Cleans AI resources up: unloads what is idle, and with `force` what is busy too; pinned models stay. A dry run
/// only says what would go. An empty `dry_run=` is refused, lest it be taken for a real clean-up.
#[server(name = CleanUpResources, prefix = "/manage", endpoint = "cleanup")]
pub async fn cleanup(
    what: Option<CleanUpScope>,
    force: Option<bool>,
    #[server(default)] dry_run: bool,
) -> Result<CleanUp, Refusal> {
    let desk = crate::request::desk()?;
    Ok(desk
        .clean_up(what.unwrap_or_default(), force.unwrap_or(false), dry_run, crate::request::caller())
        .await?)
}

//! POST /manage/plan

use leptos::prelude::*;
use protocol::Plan;

use super::Refusal;

/// What a load would take and whom it would push out, or why it would be refused, by the decision that the load itself
/// would take. Changes nothing and counts as no use.
#[server(name = PlanLoad, prefix = "/manage", endpoint = "plan")]
pub async fn plan(model: String, context: Option<u32>) -> Result<Plan, Refusal> {
    let model = crate::request::house()?.find(super::arguments::id(&model)?).await?;
    Ok(crate::request::desk()?.plan(model.id, context).await?)
}

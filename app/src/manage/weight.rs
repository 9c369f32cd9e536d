//! POST /manage/weight

use leptos::prelude::*;
use protocol::Model;

use super::Refusal;

/// Makes a model worth more or less than others when room is made: idle time / (load time x weight) decides who goes first. From
/// 0.01 to 100; `default` is 1. Kept over a restart.
#[server(name = WeighModel, prefix = "/manage", endpoint = "weight")]
pub async fn weight(model: String, weight: String) -> Result<Model, Refusal> {
    let (id, own) = (super::arguments::id(&model)?, crate::ports::Own::Weight);
    if !super::arguments::is_default(&weight) {
        weight.parse::<manager::Weight>().map_err(|bad| {
            Refusal::argument(format!("`{weight}` is no weight"), bad.to_string()).about(&own.key(&id))
        })?;
    }
    let by = crate::request::caller();
    Ok(crate::request::house()?.set_of_model(id, own, weight, by).await?)
}

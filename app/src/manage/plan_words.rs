//! GET /manage/plan_words

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::ModelId;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// A plan as a page says it: in words, made here once, so that the browser needs none of the numbers behind them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWords {
    /// Of which model.
    pub model: ModelId,
    /// Whether it would be loaded.
    pub fits: bool,
    /// Whether a load past the limit may succeed all the same.
    pub anyway: bool,
    /// Whether it would begin at once, without anybody having to go.
    pub plain: bool,
    /// Whether it would have to wait for somebody to go.
    pub waits: bool,
    /// What it would take, or why it would be refused.
    pub text: String,
    /// What would be left, or what would help; may be empty.
    pub hint: String,
}

/// What a load of this model would do now, in words. Changes nothing and counts as no use.
#[server(name = ReadPlan, prefix = "/manage", endpoint = "plan_words", input = GetUrl)]
pub async fn plan_words(model: String) -> Result<PlanWords, Refusal> {
    let id = super::arguments::id(&model)?;
    match crate::request::desk()?.plan(id.clone(), None).await {
        Ok(plan) => Ok(crate::words::plan(&plan)),
        // What is no model is no mistake of whoever looks at it: its reason is what there is to say.
        Err(problem) if problem.code == protocol::Code::UnsupportedModel => {
            Ok(crate::words::no_plan(id, &problem))
        }
        Err(problem) => Err(problem.into()),
    }
}

//! What a page needs besides the snapshot. The server gathers it before it draws, since that may take a moment, and it
//! travels in the HTML; a page that is come to without a new document asks for it itself (`fetch`).

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    manage::{About, History, PerformanceRow, PlanWords},
    pure::series::Point,
};

/// What was gathered for one page; empty for the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The part of the ledger that the page shows first.
    #[serde(default)]
    pub history: Option<History>,
    /// How well models answered.
    #[serde(default)]
    pub performance: Option<Vec<PerformanceRow>>,
    /// What is in the model's files.
    #[serde(default)]
    pub about: Option<About>,
    /// What a load of each model that is not loaded would do.
    #[serde(default)]
    pub plans: Vec<PlanWords>,
    /// What its worker has said.
    #[serde(default)]
    pub log: Vec<String>,
    /// What models held before this page was opened, oldest first.
    #[serde(default)]
    pub held: Vec<Point>,
}

/// The same, for the one page that is drawn from it.
#[derive(Clone, Copy)]
pub(crate) struct Waiting(StoredValue<Prepared>);

impl Waiting {
    pub(crate) fn new(prepared: Prepared) -> Self {
        Self(StoredValue::new(prepared))
    }

    /// Takes it; whoever comes later finds nothing, since by then it would be old.
    pub(crate) fn take(self) -> Prepared {
        self.0.try_update_value(std::mem::take).unwrap_or_default()
    }
}

/// The page of one model begins with this.
#[cfg(feature = "ssr")]
const MODEL: &str = "/model/";

/// Gathers what the page at `path` needs (with its query). Needs the context of a request.
#[cfg(feature = "ssr")]
pub async fn prepare(path: &str) -> Prepared {
    use crate::{ledger::Query, request};
    let Ok(url) = leptos_router::location::RequestUrl::new(path).parse() else { return Prepared::default() };
    // A filter that names nothing is a page without events.
    let nothing = || History { events: Vec::new(), next: None };
    if url.path() == "/" {
        let held = match request::house() {
            Ok(house) => house.held().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        return Prepared { plans: plans(None).await, held, ..Prepared::default() };
    }
    let Some(model) = url.path().strip_prefix(MODEL) else {
        let query = Query::of_page(url.search_params());
        let history = query.ask().await.unwrap_or_else(|_| nothing());
        let performance = crate::manage::performance_words(query.window.to_owned()).await.ok();
        return Prepared { history: Some(history), performance, ..Prepared::default() };
    };
    let (Ok(id), Ok(house)) = (model.parse(), request::house()) else { return Prepared::default() };
    let history = Query::of_model(model).ask().await.unwrap_or_else(|_| nothing());
    let log = house.log(&id);
    let plans = plans(Some(&id)).await;
    let about = house.about(id).await.ok();
    Prepared { history: Some(history), about, plans, log, ..Prepared::default() }
}

/// The plans of the models that are not loaded: all of them, or one.
#[cfg(feature = "ssr")]
async fn plans(only: Option<&protocol::ModelId>) -> Vec<PlanWords> {
    let Ok(house) = crate::request::house() else { return Vec::new() };
    let mut plans = Vec::new();
    for model in &house.snapshot().models {
        if model.state.is_at_rest() && only.is_none_or(|only| *only == model.id) {
            plans.extend(crate::manage::plan_words(model.id.to_string()).await);
        }
    }
    plans
}

/// Whether anything is gathered for a path.
#[cfg(feature = "ssr")]
pub fn is_prepared(path: &str) -> bool {
    matches!(path, "/" | "/activity") || path.starts_with(MODEL)
}

/// Whether the page speaks of something that is not there.
#[cfg(feature = "ssr")]
pub fn is_missing(path: &str, prepared: &Prepared) -> bool {
    path.starts_with(MODEL) && prepared.about.is_none()
}

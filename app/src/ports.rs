//! What pages and server functions need beyond the manager's desk. The server implements it and puts an
//! `Arc<dyn House>` into the context of every request.

use std::{pin::Pin, sync::Arc};

use manager::{HistoryPage, HistoryQuery};
use protocol::{Download, Measurements, Model, ModelId, Performance, Problem, Settings, Snapshot};

use crate::{chat::Turn, manage::About, pure::series::Point};

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// What a model may have of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Instead of the default.
    IdleTimeout,
    /// Whether it is exempt from idle unload, eviction and clean-up.
    Pinned,
    /// How much it is worth keeping when room is made.
    Weight,
}

impl Own {
    /// Its key in the configuration; refusals name it too.
    pub fn key(self, model: &ModelId) -> String {
        let name = match self {
            Self::IdleTimeout => "idle_timeout",
            Self::Pinned => "pinned",
            Self::Weight => "weight",
        };
        format!("models.{model}.{name}")
    }
}

/// The parts of the house that the manager does not own: the shelf with its downloads, and the conversations of
/// browsers without JavaScript.
pub trait House: Send + Sync + 'static {
    /// Everything at this moment, as `/events` sends it: the manager's snapshot with the downloads joined to it.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Begins to fetch a model and answers at once; the snapshot's downloads tell how it goes on.
    fn pull(&self, reference: String, by: String) -> Answer<'_, Download>;

    /// Stops a fetch, or clears a failed one away. Whether there was one.
    fn cancel_pull(&self, reference: String) -> Answer<'_, bool>;

    /// Removes a model's files; one that is loaded is a conflict. The bytes that came free.
    fn remove(&self, model: ModelId, by: String) -> Answer<'_, u64>;

    /// What is in a model's files.
    fn about(&self, model: ModelId) -> Answer<'_, About>;

    /// A worker's own words, the newest last; kept after its death.
    fn log(&self, model: &ModelId) -> Vec<String>;

    /// A model by its name. A name that nobody knows makes the folder be read again, so that a file which was put there a
    /// moment ago can be used at once.
    fn find(&self, model: ModelId) -> Answer<'_, Model>;

    /// Reads the models folder again. How many models there are now.
    fn rescan(&self) -> Answer<'_, u32>;

    /// Everything that can be set, each value with where it came from.
    fn settings(&self) -> Settings;

    /// Checks values (keys as in [`Settings`]; as a person writes them), keeps them over a restart and applies them at once. All
    /// or none.
    fn set(&self, values: Vec<(String, String)>, by: String) -> Answer<'_, Settings>;

    /// The same for a value that a model has of its own. A model that does not exist is refused, and nothing is kept.
    fn set_of_model(&self, model: ModelId, own: Own, value: String, by: String) -> Answer<'_, Model>;

    /// A page of the ledger, newest first.
    fn history(&self, wanted: HistoryQuery) -> Answer<'_, HistoryPage>;

    /// A series of measurements (`ram`, `gpu:0`, `models`, `cpu`) since a moment in Unix milliseconds; `step_s`: seconds
    /// that a point stands for.
    fn measurements(&self, series: String, since_ms: i64, step_s: u64) -> Answer<'_, Measurements>;

    /// What models held lately, for a page's first paint: empty rather than late.
    fn held(&self) -> Answer<'_, Vec<Point>>;

    /// How well each model answered.
    fn performance(&self) -> Answer<'_, Performance>;

    /// The conversation that is kept for a browser, oldest turn first.
    fn conversation(&self, key: &str) -> Vec<Turn>;

    /// Says something in a browser's conversation and waits for the whole answer, which is kept there; so is a
    /// failure. `system` is what the model is told first; `None`: nothing.
    fn say(&self, key: String, model: ModelId, prompt: String, system: Option<String>) -> Answer<'_, Turn>;

    /// Forgets a browser's conversation.
    fn forget(&self, key: &str);
}

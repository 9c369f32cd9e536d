//! What pages compute before they draw: shares of a bar, what a clean-up takes, fifteen minutes of memory, a stream's
//! events. Pure: no signal, no browser, no clock.

pub mod bars;
pub mod cleanup;
pub mod completion;
pub mod download;
pub mod eviction;
pub mod series;
pub mod sse;

use protocol::{Model, ModelId, Snapshot};

/// How many colours the style has for models (`m0` to `m5`).
pub const COLOURS: usize = 6;

/// The class that colours a model, steady as long as no model is added: by its place among all models.
pub fn colour(snapshot: &Snapshot, id: &ModelId) -> String {
    let place = snapshot.models.iter().position(|model| model.id == *id).unwrap_or(0);
    format!("m{}", place % COLOURS)
}

/// Private bytes that a model holds in RAM, over all of its instances; 0 where nothing is measured.
pub fn held(model: &Model) -> u64 {
    model.instances.iter().filter_map(|i| i.memory.as_ref()).map(|m| m.private_bytes).sum()
}

/// Whether a model counts as loaded.
pub fn is_loaded(model: &Model) -> bool {
    use protocol::ModelState::{Draining, Ready, Stuck, Unloading};
    matches!(model.state, Ready | Draining | Unloading | Stuck)
}

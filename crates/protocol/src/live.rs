//! What changes every second.

use serde::{Deserialize, Serialize};

use crate::{Books, Host, Memory, ModelId, Time};

/// A loaded model's numbers at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSample {
    /// Which.
    pub id: ModelId,
    /// What it holds; `null` before the first measurement.
    pub memory: Option<Memory>,
    /// Decode speed now.
    pub tokens_per_second: Option<f64>,
}

/// The event `sample` of `/events`, once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// As in [`crate::Snapshot::sequence`].
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// The machine.
    pub host: Option<Host>,
    /// RAM first, then each GPU.
    pub books: Vec<Books>,
    /// The loaded ones.
    pub models: Vec<ModelSample>,
    /// Requests in flight, since their counters move.
    #[serde(default)]
    pub requests: Vec<crate::RequestView>,
    /// What the server's process holds.
    #[serde(default)]
    pub server_bytes: Option<u64>,
    /// As in [`crate::Server::spare`].
    #[serde(default)]
    pub spare: Option<crate::SpareWorker>,
}

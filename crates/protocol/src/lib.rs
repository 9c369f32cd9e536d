//! Words that cross a boundary: ids, states, snapshots, receipts, events, problems.
//!
//! This room owns the shapes that the page, the API, the CLI and the ledger share, and nothing else: serde only,
//! no clock, no I/O, no `usize`. It must compile for the browser. Units stand in the names (`_bytes`, `_ms`,
//! `_seconds`); an unknown number is `null`, never 0; integers stay under 2^53.

mod cleanup;
mod id;
mod ledger;
mod live;
mod measured;
mod model;
mod plan;
mod problem;
mod receipt;
mod session;
mod settings;
mod snapshot;
mod span;
mod time;

pub use cleanup::{CleanUp, CleanUpScope, Expected, Kept, Reloaded};
pub use id::{BadModelId, ModelId};
pub use ledger::{EventKind, LedgerEvent};
pub use live::{ModelSample, Sample};
pub use measured::{
    Amount, MeasuredPoint, Measurements, ModelPerformance, Performance, Spread, WindowPerformance,
};
pub use model::{Failure, Instance, Memory, Model, ModelKind, ModelState, Progress, Quality, Waiting};
pub use plan::{Lesson, Plan, Prediction, Refused};
pub use problem::{Code, Problem, ProblemBody, capital};
pub use receipt::{DeviceReturn, Evidence, LAST_SESSION, Method, RamReturn, Reason, Receipt, Verdict};
pub use session::{RequestState, RequestView, Session, SessionKind};
pub use settings::{ModelSettings, Setting, Settings};
pub use snapshot::{
    Books, Budget, Download, Gpu, GpuAbsence, GpuAbsent, GpuBudget, Host, Named, Pressure, Server,
    ServerState, Snapshot, SpareWorker, Warning,
};
pub use span::{BadSpan, IdleTimeout};
pub use time::{BadTime, Time};

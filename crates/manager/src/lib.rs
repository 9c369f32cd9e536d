//! The life cycle of models: who may use one, when it is loaded, when it goes, and the proof that its memory came
//! back.
//!
//! The core is pure: `step` is the only writer of life-cycle state, the actor owns that state and carries out what
//! the core decided. This room knows no HTTP, no inference, no process, no driver, and no clock but the one that it
//! is given.

pub mod ports;

mod actor;
mod admission;
mod books;
mod config;
mod desk;
mod event;
mod forecast;
mod gate;
mod handle;
mod lease;
mod ledger;
mod lessons;
mod meter;
mod model;
mod past;
mod policy;
mod pressure;
mod queue;
mod replay;
mod sessions;
mod step;
mod view;
mod weight;
mod words;

#[cfg(test)]
mod tests;

pub use actor::open;
pub use config::{Config, Deadlines, GpuLimit, ServerFacts};
pub use desk::{Defaults, Desk, HistoryPage, HistoryQuery, LoadWish, Note};
pub use handle::Handle;
pub use lease::{Lease, LeaseWish, SessionWish};
pub use lessons::join as join_lessons;
pub use meter::Meter;
pub use replay::{STARTED, STOPPED, Standing, replay};
pub use sessions::Hidden;
pub use weight::{BadWeight, Weight};

//! The life cycle's rules as sentences, by hand and at random.

mod actor;
mod crashes;
mod doubles;
mod estimates;
mod gpu;
mod leases;
mod lessons;
mod plans;
pub(crate) mod rig;
mod room;
mod sessions;
mod timers;
mod unloads;
mod walk;

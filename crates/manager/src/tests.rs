//! The life cycle's rules as sentences, by hand and at random.

mod actor;
mod crashes;
mod doubles;
mod leases;
mod lessons;
mod plans;
mod rig;
mod room;
mod sessions;
mod timers;
mod unloads;
mod walk;

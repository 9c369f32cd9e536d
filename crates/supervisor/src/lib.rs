//! The server's end of the workers: spawn, watch, ladder, reap, and the look at what is left. Implements the manager's
//! launcher.
//!
//! This room owns processes and nothing else does. It knows no HTTP and no inference, never reads a model file, and
//! decides nothing about when a model lives: the manager orders, this room carries out and tells what came of it.

mod cores;
mod death;
mod gpus;
mod house;
mod inbox;
mod instance;
mod leftover;
mod life;
mod line;
mod log;
mod orphans;
mod process;
mod procfs;
mod requests;
mod run_dir;
mod spare;
mod spawn;
mod supervisor;
mod watch;
mod worker;

pub use instance::{Ask, CREDITS, Event, Generation, Instance, Vectors};
pub use log::Follower;
pub use run_dir::{LockError, Reclaimed, RunDir, reclaim};
pub use spawn::WorkerProgram;
pub use supervisor::{Config, Supervisor};

/// Wall time, to be shown beside a failure.
#[expect(clippy::disallowed_methods, reason = "only shown; no deadline is computed from it")]
fn now() -> protocol::Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    protocol::Time::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

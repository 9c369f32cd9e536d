//! What all lives of workers share: the parts that they need, and the table of those that live.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use link::Hello;
use manager::ports::{Epoch, Probe, Shelf};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    cores::Cores,
    inbox::Inbox,
    log::Logs,
    run_dir::{Intent, RunDir},
    spare::Spare,
    spawn::Spawner,
};

/// How it should end. Later ones are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It should not.
    No,
    /// By the ladder.
    Ladder,
    /// By SIGKILL.
    AtOnce,
}

/// By what a living worker is reached.
#[derive(Debug)]
pub(crate) struct Control {
    stop: watch::Sender<Stop>,
    pub(crate) inbox: Arc<Inbox>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self { stop: watch::Sender::new(Stop::No), inbox: Arc::new(Inbox::new()) }
    }

    /// Asks for the end; a lesser wish after a greater one changes nothing.
    pub(crate) fn end(&self, how: Stop) {
        self.stop.send_if_modified(|stop| {
            let more = how > *stop;
            *stop = how.max(*stop);
            more
        });
    }

    /// Waits until the end is asked for at least so urgently. May be dropped and called again.
    pub(crate) async fn asked_to_end(&self, at_least: Stop) {
        let mut stop = self.stop.subscribe();
        if stop.wait_for(|&stop| stop >= at_least).await.is_err() {
            // The sender is in `self`.
            std::future::pending::<()>().await;
        }
    }

    /// How it is to end, as things stand.
    pub(crate) fn how(&self) -> Stop {
        *self.stop.borrow()
    }
}

/// Those that live, and whether more may come.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub(crate) closed: bool,
    pub(crate) by_epoch: HashMap<Epoch, Arc<Control>>,
    /// Processes that are not reaped, those without a model included.
    pub(crate) pids: BTreeSet<u32>,
}

pub(crate) struct House {
    pub(crate) build: String,
    pub(crate) threads: u32,
    pub(crate) cores: Arc<Cores>,
    pub(crate) run: Arc<RunDir>,
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) spawner: Spawner,
    pub(crate) spare: Spare,
    pub(crate) _orphans: AbortOnDropHandle<()>,
    pub(crate) logs: Logs,
    /// Ends those that look into files, and the one that waits; the others are ended by their controls.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) runtime: Handle,
    pub(crate) lives: Mutex<Lives>,
}

impl House {
    pub(crate) fn lives(&self) -> MutexGuard<'_, Lives> {
        // What is in it is whole after every single change.
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this server says first to a worker, and hears back from it.
    pub(crate) fn hello(&self, intent: &Intent) -> Hello {
        Hello { protocol: link::PROTOCOL, build: self.build.clone(), nonce: intent.nonce.clone() }
    }

    /// Runs what blocks where it may block; `None` if it died.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.runtime.spawn_blocking(work).await.ok()
    }
}

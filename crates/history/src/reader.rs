//! Reads: a connection of their own, one at a time, off the asynchronous threads, each with a deadline.

use std::{
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::timeout,
};

use crate::{trouble::HistoryError, writer::Shared};

/// A read may take so long, its wait for the one before included.
const DEADLINE: Duration = Duration::from_secs(2);

/// An open connection, and the way to stop what it does.
struct Open {
    generation: u64,
    connection: Connection,
    stop: Arc<InterruptHandle>,
}

/// Where reads are made.
#[derive(Clone)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    slot: Arc<Mutex<Option<Open>>>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, slot: Arc::default() }
    }

    /// Does a read. `None`: there is no file yet.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Option<T>, HistoryError> {
        timeout(DEADLINE, self.read_in_turn(work)).await.unwrap_or(Err(HistoryError::Slow))
    }

    async fn read_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Option<T>, HistoryError> {
        let slot = self.slot.clone().lock_owned().await;
        let generation = self.shared.generation.load(Ordering::Acquire);
        let outcome = self.read_here(slot, generation, work).await;
        if outcome.as_ref().is_err_and(HistoryError::is_damage) {
            tracing::error!("a read found the history damaged");
            self.shared.inbox.tell_damage(generation);
        }
        outcome
    }

    async fn read_here<T: Send + 'static>(
        &self,
        slot: Slot,
        generation: u64,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Option<T>, HistoryError> {
        let Some((slot, stop)) = self.open(slot, generation).await? else { return Ok(None) };
        // A reader that gives up must not leave a long read behind that others wait for.
        let given_up = StopOnDrop(Arc::new(StdMutex::new(Some(stop))));
        let under_way = given_up.0.clone();
        let done = spawn_blocking(move || {
            let read = slot.as_ref().map(|open| work(&open.connection)).transpose();
            // Before the slot comes free: the next read must not be stopped in place of this one.
            drop(lock(&under_way).take());
            read
        })
        .await;
        match done {
            Ok(Err(error)) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Err(HistoryError::Slow)
            }
            Ok(read) => Ok(read?),
            Err(_) => Err(HistoryError::Slow),
        }
    }

    /// A connection to the file of this generation, which is the one that is written now.
    async fn open(
        &self,
        mut slot: Slot,
        generation: u64,
    ) -> Result<Option<(Slot, Arc<InterruptHandle>)>, HistoryError> {
        if let Some(open) = slot.as_ref().filter(|open| open.generation == generation) {
            let stop = open.stop.clone();
            return Ok(Some((slot, stop)));
        }
        let path = self.shared.path.clone();
        let opened = spawn_blocking(move || {
            *slot = None;
            if !path.exists() {
                return Ok(None);
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(1))?;
            connection.pragma_update(None, "cache_size", -256)?;
            let stop = Arc::new(connection.get_interrupt_handle());
            *slot = Some(Open { generation, connection, stop: stop.clone() });
            Ok::<_, HistoryError>(Some((slot, stop)))
        });
        opened.await.map_err(|_| HistoryError::Slow)?
    }
}

type Slot = OwnedMutexGuard<Option<Open>>;

/// The way to stop a read, as long as it is under way.
type UnderWay = Arc<StdMutex<Option<Arc<InterruptHandle>>>>;

struct StopOnDrop(UnderWay);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = lock(&self.0).take() {
            stop.interrupt();
        }
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, Option<Arc<InterruptHandle>>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

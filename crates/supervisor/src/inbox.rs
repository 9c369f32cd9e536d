//! What an instance's handles want of the task that owns its worker. Nothing here waits: a request is put in or
//! refused at once, a wish is noted and cannot fail for want of room.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use protocol::{Code, Problem};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{Event, Vectors};

/// Requests that one worker holds at a time, those not yet sent included.
pub(crate) const MAX_IN_FLIGHT: usize = 64;

/// What the holder of a request has done since the task looked last.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// Tokens taken, for which credit is due.
    pub(crate) taken: AtomicU32,
    /// It wants no more.
    pub(crate) cancelled: AtomicBool,
}

/// Where a request's answer goes.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Of a `Generate`.
    Tokens {
        /// Never full: credits bound it.
        events: mpsc::Sender<Event>,
        /// Shared with its holder.
        wish: Arc<Wish>,
    },
    /// Of an `Embed`.
    Vectors {
        answer: oneshot::Sender<Result<Vectors, Problem>>,
        /// How many vectors are due.
        texts: usize,
        /// Shared with its holder.
        wish: Arc<Wish>,
    },
}

impl Answer {
    pub(crate) fn wish(&self) -> &Wish {
        match self {
            Self::Tokens { wish, .. } | Self::Vectors { wish, .. } => wish,
        }
    }

    /// The one terminal word to a request that the worker will not answer any more.
    pub(crate) fn fail(self, problem: Problem) {
        match self {
            // A holder that went away hears nothing, and that is fine.
            Self::Tokens { events, .. } => drop(events.try_send(Event::Error(problem))),
            Self::Vectors { answer, .. } => drop(answer.send(Err(problem))),
        }
    }
}

/// A request that waits to be sent to the worker.
#[derive(Debug)]
pub(crate) struct Posted {
    /// Unique in this worker's life.
    pub(crate) id: u64,
    /// Ready to be sent.
    pub(crate) frame: Vec<u8>,
    /// Where the answer goes.
    pub(crate) answer: Answer,
    /// One of the worker's places; given back when the request has ended.
    pub(crate) place: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Wants {
    posted: Vec<Posted>,
    forget: BTreeSet<String>,
    cancel_all: bool,
    closed: Option<Problem>,
}

/// What the task finds when it looks.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// New requests, oldest first.
    pub(crate) posted: Vec<Posted>,
    /// Sessions to be forgotten.
    pub(crate) forget: BTreeSet<String>,
    /// Cancel everything that runs, `posted` included.
    pub(crate) cancel_all: bool,
}

/// One for each instance.
#[derive(Debug)]
pub(crate) struct Inbox {
    wants: Mutex<Wants>,
    wake: Notify,
    ids: AtomicU64,
    places: Arc<Semaphore>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            wants: Mutex::default(),
            wake: Notify::new(),
            ids: AtomicU64::new(1),
            places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Wishes have changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody has put something in or wishes have changed. May be dropped and called again.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a request in, or ends it with the reason why not.
    pub(crate) fn post(&self, id: u64, frame: Vec<u8>, answer: Answer) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return answer.fail(too_many());
        };
        let mut wants = self.lock();
        if let Some(problem) = wants.closed.clone() {
            drop(wants);
            return answer.fail(problem);
        }
        wants.posted.push(Posted { id, frame, answer, place });
        drop(wants);
        self.wake();
    }

    pub(crate) fn forget(&self, session: &str) {
        let mut wants = self.lock();
        if wants.closed.is_none() {
            wants.forget.insert(session.to_owned());
        }
        drop(wants);
        self.wake();
    }

    pub(crate) fn cancel_all(&self) {
        self.lock().cancel_all = true;
        self.wake();
    }

    /// Takes out all that is there.
    pub(crate) fn take(&self) -> Taken {
        let mut wants = self.lock();
        Taken {
            posted: std::mem::take(&mut wants.posted),
            forget: std::mem::take(&mut wants.forget),
            cancel_all: std::mem::take(&mut wants.cancel_all),
        }
    }

    /// From now on every request ends with this problem, those that wait included.
    pub(crate) fn close(&self, problem: &Problem) {
        let waiting = {
            let mut wants = self.lock();
            wants.closed.get_or_insert_with(|| problem.clone());
            std::mem::take(&mut wants.posted)
        };
        for posted in waiting {
            posted.answer.fail(problem.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wants> {
        // Nobody panics while holding it; if somebody did, what is in it is still whole.
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> Problem {
    let message = format!("This model answers {MAX_IN_FLIGHT} requests already.");
    Problem::new(Code::QueueFull, message, "Try again when some of them have ended.").retry_after(1)
}

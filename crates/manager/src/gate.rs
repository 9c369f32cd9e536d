//! The one way into the manager's queue: numbered, bounded for those who ask, never closed to what comes back.
//!
//! Whoever asks takes a place, and the place is free again when the answer was given or nobody waits for it any
//! more; so the queue behind the gate is bounded although its channel is not. Leases that come back take no place:
//! there are never more of them than were granted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use protocol::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    event::{Answer, Event, Ticket},
    lease::{Lease, LeaseWish},
    ports::{Epoch, News, NewsDesk},
    words,
};

/// Asks that may be under way at one time, waiting requests included.
const PLACES: usize = 4096;

/// What an ask gets in the end.
pub(crate) type Answered = Result<Answer, Problem>;

/// What the actor receives.
pub(crate) enum Message<I> {
    /// Nobody waits for an answer.
    Tell(Event),
    /// Somebody does.
    Ask(Event, Ticket, Reply<Answered>),
    /// A lease is wanted.
    Lease(LeaseWish, Ticket, Arc<Gate>, Reply<Result<Lease<I>, Problem>>),
    /// The launcher tells something.
    News(Epoch, News<I>),
}

/// Where an answer goes, and the place that it frees.
pub(crate) struct Reply<T> {
    to: oneshot::Sender<T>,
    _place: OwnedSemaphorePermit,
}

impl<T> Reply<T> {
    /// Hands the answer over. If nobody waits any more it is dropped, and a lease in it goes back.
    pub(crate) fn give(self, answer: T) {
        let _ = self.to.send(answer);
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.to.is_closed()
    }
}

/// The queue's end as seen by those who need not know what an instance is.
trait Door: Send + Sync {
    fn tell(&self, event: Event) -> bool;
    fn ask(&self, event: Event, ticket: Ticket, reply: Reply<Answered>) -> bool;
}

impl<I: Send + 'static> Door for mpsc::UnboundedSender<Message<I>> {
    fn tell(&self, event: Event) -> bool {
        self.send(Message::Tell(event)).is_ok()
    }

    fn ask(&self, event: Event, ticket: Ticket, reply: Reply<Answered>) -> bool {
        self.send(Message::Ask(event, ticket, reply)).is_ok()
    }
}

/// The way in, shared by everybody who asks.
pub(crate) struct Gate {
    door: Box<dyn Door>,
    next: AtomicU64,
    places: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new<I: Send + 'static>(queue: mpsc::UnboundedSender<Message<I>>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(PLACES));
        Arc::new(Self { door: Box::new(queue), next: AtomicU64::new(1), places })
    }

    /// Says something that cannot be refused. After the manager's end: nothing.
    pub(crate) fn tell(&self, event: Event) {
        self.door.tell(event);
    }

    /// Takes a place and a number.
    pub(crate) fn enter<T>(&self) -> Result<(Ticket, Reply<T>, oneshot::Receiver<T>), Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| words::gate_full())?;
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (to, answer) = oneshot::channel();
        Ok((ticket, Reply { to, _place: place }, answer))
    }

    /// Asks and waits for the answer. Whoever stops waiting is forgotten; what was begun for them goes on.
    pub(crate) async fn ask(self: &Arc<Self>, event: impl FnOnce(Ticket) -> Event) -> Answered {
        let (ticket, reply, answer) = self.enter()?;
        if !self.door.ask(event(ticket), ticket, reply) {
            return Err(words::stopped());
        }
        self.wait(ticket, answer).await.unwrap_or_else(|| Err(words::stopped()))
    }

    /// Waits for an answer; leaves the queue if dropped before it came. `None`: the manager has ended.
    pub(crate) async fn wait<T>(self: &Arc<Self>, ticket: Ticket, answer: oneshot::Receiver<T>) -> Option<T> {
        let mut leaving = Leaving { gate: self, ticket: Some(ticket) };
        let answer = answer.await.ok();
        leaving.ticket = None;
        answer
    }
}

struct Leaving<'a> {
    gate: &'a Gate,
    ticket: Option<Ticket>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.tell(Event::Leave { ticket });
        }
    }
}

/// Where the launcher's news come in.
pub(crate) struct Letterbox<I>(pub(crate) mpsc::UnboundedSender<Message<I>>);

impl<I: Send + Sync + 'static> NewsDesk<I> for Letterbox<I> {
    fn tell(&self, epoch: Epoch, news: News<I>) {
        // Nobody is left to read it once the manager has ended.
        let _ = self.0.send(Message::News(epoch, news));
    }
}

//! The way to a lease.

use std::sync::Arc;

use protocol::Problem;
use tokio::sync::mpsc;

use crate::{
    desk::Desk,
    gate::{Gate, Message},
    lease::{Lease, LeaseWish},
    words,
};

/// The way to a lease, and to the desk. `I` is the launcher's handle of an instance.
pub struct Handle<I> {
    desk: Desk,
    gate: Arc<Gate>,
    queue: mpsc::UnboundedSender<Message<I>>,
}

impl<I> Clone for Handle<I> {
    fn clone(&self) -> Self {
        Self { desk: self.desk.clone(), gate: self.gate.clone(), queue: self.queue.clone() }
    }
}

impl<I: Send + 'static> Handle<I> {
    pub(crate) fn new(desk: Desk, gate: Arc<Gate>, queue: mpsc::UnboundedSender<Message<I>>) -> Self {
        Self { desk, gate, queue }
    }

    /// Everything that needs no lease.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Asks for a lease: granted at once, or after the load that it begins or joins, or refused with a reason.
    /// Dropping the future leaves the queue.
    pub async fn lease(&self, wish: LeaseWish) -> Result<Lease<I>, Problem> {
        let (ticket, reply, answer) = self.gate.enter()?;
        if self.queue.send(Message::Lease(wish, ticket, self.gate.clone(), reply)).is_err() {
            return Err(words::stopped());
        }
        self.gate.wait(ticket, answer).await.unwrap_or_else(|| Err(words::stopped()))
    }
}

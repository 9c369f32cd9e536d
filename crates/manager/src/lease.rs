//! The right to use an instance, and what one says to get it.

use std::{fmt, sync::Arc};

use protocol::{IdleTimeout, ModelId, SessionKind};

use crate::{
    event::{Event, Ticket},
    gate::Gate,
    meter::Meter,
};

/// Who uses a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWish {
    /// What tells this session from others: a cookie, a header, a token. Never shown.
    pub key: String,
    /// Where it comes from.
    pub kind: SessionKind,
    /// In words: "browser", "api:notebook".
    pub label: String,
}

/// What one says to get a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWish {
    /// Of which model.
    pub model: ModelId,
    /// The request's id, as in the answer's `x-request-id`.
    pub request: String,
    /// For whom, in words.
    pub client: String,
    /// In which session, if in one.
    pub session: Option<SessionWish>,
    /// Rules the instance until it goes.
    pub idle_timeout: Option<IdleTimeout>,
    /// Positions that a sequence may have. Another number than the loaded one is a reload.
    pub context: Option<u32>,
}

/// The right to use an instance. While it lives the instance is in use: no timer and no clean-up ends it, and an
/// unload waits for it (up to the grace). Dropping it gives it back, at once and without fail.
///
/// Whoever relays the answer keeps it until the worker has said Done or Error, so that a worker that still computes
/// is never counted idle.
pub struct Lease<I> {
    pub(crate) instance: I,
    pub(crate) meter: Arc<Meter>,
    pub(crate) queue_ms: u64,
    pub(crate) load_ms: Option<u64>,
    pub(crate) _back: Back,
}

impl<I> Lease<I> {
    /// What the request is put to.
    pub fn instance(&self) -> &I {
        &self.instance
    }

    /// The request's counters and its off-switch.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// From the wish to the grant, loading included.
    pub fn queue_ms(&self) -> u64 {
        self.queue_ms
    }

    /// How long the load took that this lease waited for; `None`: the model was there already.
    pub fn load_ms(&self) -> Option<u64> {
        self.load_ms
    }
}

impl<I> fmt::Debug for Lease<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("back", &self._back).finish_non_exhaustive()
    }
}

/// Gives a lease back when it is dropped.
pub(crate) struct Back {
    pub(crate) gate: Arc<Gate>,
    pub(crate) model: ModelId,
    pub(crate) lease: Ticket,
}

impl Drop for Back {
    fn drop(&mut self) {
        self.gate.tell(Event::LeaseBack { lease: self.lease, model: self.model.clone() });
    }
}

impl fmt::Debug for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.lease.0, self.model)
    }
}

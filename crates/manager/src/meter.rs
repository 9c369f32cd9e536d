//! What one request counts while it runs. Written by whoever relays the answer, read by snapshots; no lock.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use protocol::{Problem, RequestState};
use tokio_util::sync::CancellationToken;

/// Tokens that an instance has made in its life, of all requests together.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn tokens(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request's counters and its off-switch.
///
/// The counters are independent of one another and only shown, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub struct Meter {
    state: AtomicU8,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    tally: Arc<Tally>,
    off: CancellationToken,
    why: OnceLock<Problem>,
}

const STATES: [RequestState; 4] =
    [RequestState::Queued, RequestState::Prefill, RequestState::Decode, RequestState::Cancelling];

impl Meter {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        let meter = Self { tally, ..Self::default() };
        meter.set_state(RequestState::Prefill);
        meter
    }

    /// Says where the request stands.
    pub fn set_state(&self, state: RequestState) {
        let at = STATES.iter().position(|s| *s == state).unwrap_or(0);
        self.state.store(u8::try_from(at).unwrap_or(0), Ordering::Relaxed);
    }

    /// Where the request stands; `Cancelling` from the moment it was told to stop.
    pub fn state(&self) -> RequestState {
        if self.off.is_cancelled() {
            return RequestState::Cancelling;
        }
        STATES[usize::from(self.state.load(Ordering::Relaxed)) % STATES.len()]
    }

    /// Says how long the prompt is, once it was read.
    pub fn set_prompt_tokens(&self, tokens: u64) {
        self.prompt_tokens.store(tokens, Ordering::Relaxed);
    }

    /// Tokens of the prompt; 0 until it was read.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens.load(Ordering::Relaxed)
    }

    /// Counts tokens that were just made.
    pub fn add_completion_tokens(&self, tokens: u64) {
        self.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
        self.tally.0.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Tokens made so far.
    pub fn completion_tokens(&self) -> u64 {
        self.completion_tokens.load(Ordering::Relaxed)
    }

    /// Fires when the request shall stop: somebody cancelled it, its grace ended, or its instance has gone.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.off
    }

    /// Why it shall stop, in words for its client; `None` before.
    pub fn why(&self) -> Option<&Problem> {
        self.why.get()
    }

    /// Tells the request to stop. The first reason is the one that stays.
    pub(crate) fn stop(&self, why: Problem) {
        let _ = self.why.set(why);
        self.off.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Code;

    #[test]
    fn the_first_reason_to_stop_is_the_one_that_stays() {
        let meter = Meter::new(Arc::default());
        assert_eq!((meter.state(), meter.why()), (RequestState::Prefill, None));
        meter.stop(Problem::new(Code::Cancelled, "first", ""));
        meter.stop(Problem::new(Code::CutOff, "second", ""));
        meter.set_state(RequestState::Decode);
        assert_eq!(meter.why().unwrap().message, "first");
        assert_eq!(meter.state(), RequestState::Cancelling);
        assert!(meter.cancelled().is_cancelled());
    }

    #[test]
    fn an_instance_counts_the_tokens_of_all_its_requests() {
        let tally = Arc::new(Tally::default());
        let (one, other) = (Meter::new(tally.clone()), Meter::new(tally.clone()));
        one.add_completion_tokens(3);
        other.add_completion_tokens(4);
        assert_eq!((one.completion_tokens(), tally.tokens()), (3, 7));
    }
}

//! What became of a model's earlier instances. Pure.

use std::time::Duration;

use protocol::{Code, Failure};

/// What became of earlier instances; outlives every state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// The last one, until the next load succeeds.
    pub(crate) failure: Option<Failure>,
    /// When the recent crashes were, on the monotonic clock.
    pub(crate) crashes: Vec<Duration>,
    /// Crashes in a row, for the length of the next pause.
    pub(crate) strikes: u32,
    /// Whether it was ever ready in this run.
    pub(crate) loaded: bool,
    /// When it became ready again within the last hour, on the monotonic clock.
    pub(crate) reloads: Vec<Duration>,
    /// The last load that ran out of memory, until one succeeds or somebody reloads it.
    pub(crate) starved: Option<Starved>,
    /// From the order to go until its memory was back, the last time.
    pub(crate) release_ms: Option<u64>,
    /// How long a request used it, a mean in which the newest counts a quarter.
    pub(crate) use_ms: Option<u64>,
    /// The last refusal that was written into the ledger, and when, so that a flood is one line.
    pub(crate) refusal: Option<(Code, Duration)>,
}

/// A load that ran out of memory, whatever the books had said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Starved {
    /// Which files.
    pub(crate) files: String,
    /// Positions; `None`: as many as the model has.
    pub(crate) context: Option<u32>,
    /// It was tried once more after others had gone, and ran out again.
    pub(crate) again: bool,
}

impl Starved {
    /// Whether a load would only come to the same end: the same files, and no fewer positions.
    pub(crate) fn covers(&self, files: &str, context: Option<u32>) -> bool {
        let positions = |context: Option<u32>| context.unwrap_or(u32::MAX);
        self.files == files && positions(context) >= positions(self.context)
    }
}

impl Past {
    const HOUR: Duration = Duration::from_secs(3600);
    /// Reloads that are remembered; nobody needs to count further.
    const MOST_RELOADS: usize = 1000;

    /// Somebody used it for so long.
    pub(crate) fn used_for(&mut self, ms: u64) {
        self.use_ms = Some(self.use_ms.map_or(ms, |mean| mean - mean / 4 + ms / 4));
    }

    /// It became ready.
    pub(crate) fn ready_again(&mut self, now: Duration) {
        self.reloads.retain(|at| now < *at + Self::HOUR);
        if std::mem::replace(&mut self.loaded, true) && self.reloads.len() < Self::MOST_RELOADS {
            self.reloads.push(now);
        }
    }

    /// How often that was within the last hour, the first time of this run left out.
    pub(crate) fn reloads_per_hour(&self, now: Duration) -> u32 {
        let recent = self.reloads.iter().filter(|at| now < **at + Self::HOUR).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }
}

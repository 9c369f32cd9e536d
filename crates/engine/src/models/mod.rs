//! What the scheduler needs from a decoder, and the decoders that there are.

pub(crate) mod config;
pub(crate) mod llama;
pub(crate) mod stock;

use crate::error::Error;
use crate::weights::Weights;
use config::LlamaConfig;
use stock::config::StockConfig;

/// A model's numbers, by what serves it.
#[derive(Clone, Debug)]
pub(crate) enum Design {
    /// Our own decoder.
    Own(LlamaConfig),
    /// candle's.
    Stock(StockConfig),
}

impl Design {
    /// Reads them; what nothing here serves is refused by name.
    pub(crate) fn read(weights: &Weights) -> Result<Self, Error> {
        if let Some(family) = stock::config::Family::named(config::architecture(weights)?) {
            return StockConfig::read(weights, family).map(Self::Stock);
        }
        let config = LlamaConfig::read(weights)?;
        if llama::serves(weights, &config) {
            return Ok(Self::Own(config));
        }
        StockConfig::of_own(weights, &config).map(Self::Stock)
    }
}

/// A sequence's place in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(pub(crate) usize);

/// Tokens to append to a sequence in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) slot: Slot,
    /// At least one.
    pub(crate) tokens: &'a [u32],
    /// Whether the logits after the last of them are wanted.
    pub(crate) wants_logits: bool,
}

/// A loaded model with its key-value caches. It owns bytes and arithmetic; who may compute when is the scheduler's.
pub(crate) trait Decoder {
    /// Positions that a sequence may have.
    fn context(&self) -> u32;

    /// Tokens that one step should read of a prompt.
    fn chunk(&self) -> usize;

    /// Sequences that may take turns without one of them being read again from its beginning.
    fn abreast(&self) -> usize {
        usize::MAX
    }

    /// A new, empty sequence.
    fn open(&mut self) -> Slot;

    /// Forgets a sequence and gives its memory back.
    fn close(&mut self, slot: Slot);

    /// Forgets a sequence's positions from `keep` on; returns how many stay, which may be fewer.
    fn truncate(&mut self, slot: Slot, keep: usize) -> usize;

    /// A new sequence that begins with the first `keep` positions of another, which stays as it is; how many it has, which
    /// may be fewer.
    fn branch(&mut self, slot: Slot, keep: usize) -> (Slot, usize);

    /// Private memory that a sequence holds.
    fn held_bytes(&self, slot: Slot) -> u64;

    /// Appends the tokens of each work to its sequence and gives `logits` (the work's number, one value a token) for
    /// those that want them. After an error the sequences of this work are of no use.
    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error>;

    /// The same, asking between layers whether to go on. If not, it ends with [`Error::Interrupted`], and the sequences are
    /// as they were before. A decoder that cannot ask goes on.
    fn run_while(
        &mut self,
        work: &[Work<'_>],
        _go_on: &dyn Fn() -> bool,
        logits: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Error> {
        self.run(work, logits)
    }

    /// Computes with so many threads from now on.
    fn set_threads(&mut self, n: u32);
}

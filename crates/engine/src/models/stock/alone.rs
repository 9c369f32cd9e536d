//! A model that candle cannot copy (lfm2, qwen2): one sequence is inside it, and another one's tokens are read again from the
//! first when its turn comes. The scheduler therefore lets one answer be made at a time ([`Decoder::abreast`]).

use std::sync::Arc;

use super::config::StockConfig;
use super::{CHUNK, Model, build, check_length, place, read};
use crate::error::Error;
use crate::models::{Decoder, Slot, Work};
use crate::weights::Weights;

/// candle's model.
pub(super) struct Alone {
    weights: Arc<Weights>,
    config: StockConfig,
    context: u32,
    /// None after it could not be loaded again.
    model: Option<Box<dyn Model>>,
    /// Whether it has read anything since it was loaded.
    used: bool,
    /// The tokens of each sequence.
    slots: Vec<Option<Vec<u32>>>,
    /// Whose they are that the model has read last.
    inside: Option<Slot>,
}

impl Alone {
    pub(super) fn new(
        weights: Arc<Weights>,
        config: StockConfig,
        context: u32,
        model: Box<dyn Model>,
    ) -> Self {
        let model = Some(model);
        Self { weights, config, context, model, used: false, slots: Vec::new(), inside: None }
    }

    /// One piece of a sequence.
    fn read(&mut self, tokens: &[u32], at: usize, wanted: bool) -> Result<Option<Vec<f32>>, Error> {
        let cleared = at > 0 || !self.used || self.model.as_mut().is_some_and(|model| model.clear());
        // lfm2 forgets by reading several tokens at the beginning. One alone wants a model that has read nothing.
        if self.model.is_none() || (!cleared && tokens.len() == 1) {
            // Not two at once.
            self.model = None;
            self.model = Some(build(&self.weights, &self.config, self.context, &mut |_, _| {})?);
        }
        self.used = true;
        match &mut self.model {
            Some(model) => read(model.as_mut(), tokens, at, wanted),
            None => Ok(None),
        }
    }

    fn forward(&mut self, work: &Work<'_>, go_on: &dyn Fn() -> bool) -> Result<Option<Vec<f32>>, Error> {
        let before = self.slots[work.slot.0].clone().unwrap_or_default();
        check_length(before.len(), work.tokens.len(), self.context)?;
        let all = [&before[..], work.tokens].concat();
        let mut at = if self.inside == Some(work.slot) { before.len() } else { 0 };
        // Whatever ends this early, the sequence is read again from the first.
        self.inside = None;
        let mut logits = None;
        while at < all.len() {
            if !go_on() {
                return Err(Error::Interrupted);
            }
            let end = all.len().min(at + self.config.family.piece(at));
            logits = self.read(&all[at..end], at, work.wants_logits && end == all.len())?;
            at = end;
            worker::port::beat();
        }
        self.slots[work.slot.0] = Some(all);
        self.inside = Some(work.slot);
        Ok(logits)
    }

    /// Gives the memory of the sequence that is inside back.
    fn forget(&mut self, slot: Slot) {
        if self.inside == Some(slot) {
            self.inside = None;
            let cleared = self.model.as_mut().is_some_and(|model| model.clear());
            if !cleared && self.read(&[0, 0], 0, false).is_err() {
                self.model = None;
            }
        }
    }
}

impl Decoder for Alone {
    fn context(&self) -> u32 {
        self.context
    }

    fn chunk(&self) -> usize {
        CHUNK as usize
    }

    fn abreast(&self) -> usize {
        1
    }

    fn open(&mut self) -> Slot {
        place(&mut self.slots, Vec::new())
    }

    fn close(&mut self, slot: Slot) {
        self.forget(slot);
        self.slots[slot.0] = None;
    }

    fn truncate(&mut self, slot: Slot, keep: usize) -> usize {
        let length = self.slots[slot.0].as_ref().map_or(0, Vec::len);
        if self.inside == Some(slot) && length == keep {
            return keep;
        }
        self.forget(slot);
        self.slots[slot.0] = Some(Vec::new());
        0
    }

    fn branch(&mut self, _: Slot, _: usize) -> (Slot, usize) {
        (self.open(), 0)
    }

    fn held_bytes(&self, slot: Slot) -> u64 {
        match &self.slots[slot.0] {
            Some(tokens) if self.inside == Some(slot) => {
                tokens.len() as u64 * self.config.position_bytes() + self.config.sequence_bytes()
            }
            _ => 0,
        }
    }

    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        self.run_while(work, &|| true, logits)
    }

    fn run_while(
        &mut self,
        work: &[Work<'_>],
        go_on: &dyn Fn() -> bool,
        logits: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Error> {
        for (number, work) in work.iter().enumerate() {
            // What one of several has read cannot be taken back.
            let go_on: &dyn Fn() -> bool = if number == 0 { go_on } else { &|| true };
            if let Some(mut values) = self.forward(work, go_on)? {
                logits(number, &mut values);
            }
        }
        Ok(())
    }

    /// candle sizes its pools once, from the environment of the process.
    fn set_threads(&mut self, _: u32) {}
}

//! Models that candle can copy: each sequence is a copy of the one that has read nothing. The weights are shared, the keys
//! and values are its own.

use super::config::{Copies, Family, StockConfig};
use super::{CHUNK, Model, check_length, place, read};
use crate::error::Error;
use crate::models::{Decoder, Slot, Work};

/// Keys and values that are written in place are held in so many positions once there are more.
const STEP: usize = 512;

/// candle's model.
pub(super) struct Copied {
    /// Has read nothing.
    empty: Box<dyn Model>,
    slots: Vec<Option<Sequence>>,
    context: u32,
    copies: Copies,
    /// Whether candle keeps the mask of each piece.
    keeps_masks: bool,
    position_bytes: u64,
}

#[derive(Default)]
struct Sequence {
    /// None before the first token.
    model: Option<Box<dyn Model>>,
    length: usize,
    /// Bytes of the masks that candle keeps of the pieces that it has read.
    masks: usize,
}

impl Copied {
    pub(super) fn new(config: &StockConfig, context: u32, empty: Box<dyn Model>) -> Self {
        Self {
            empty,
            slots: Vec::new(),
            context,
            copies: config.family.copies(),
            keeps_masks: config.family != Family::Glm4,
            position_bytes: config.position_bytes(),
        }
    }

    fn forward(&mut self, work: &Work<'_>) -> Result<Option<Vec<f32>>, Error> {
        let sequence = self.slots[work.slot.0].get_or_insert_default();
        check_length(sequence.length, work.tokens.len(), self.context)?;
        if sequence.model.is_none() {
            sequence.model = self.empty.copy();
        }
        let mut logits = None;
        for piece in work.tokens.chunks(CHUNK as usize) {
            let Some(model) = &mut sequence.model else { return Err(no_copy()) };
            logits = read(model.as_mut(), piece, sequence.length, work.wants_logits)?;
            sequence.length += piece.len();
            if self.keeps_masks && piece.len() > 1 {
                sequence.masks += piece.len() * sequence.length;
            }
        }
        Ok(logits)
    }
}

fn no_copy() -> Error {
    Error::Compute("candle's model of this family cannot be copied".to_owned())
}

impl Decoder for Copied {
    fn context(&self) -> u32 {
        self.context
    }

    fn chunk(&self) -> usize {
        CHUNK as usize
    }

    fn open(&mut self) -> Slot {
        place(&mut self.slots, Sequence::default())
    }

    fn close(&mut self, slot: Slot) {
        self.slots[slot.0] = None;
    }

    fn truncate(&mut self, slot: Slot, keep: usize) -> usize {
        match &self.slots[slot.0] {
            Some(sequence) if sequence.length == keep => keep,
            _ => {
                self.slots[slot.0] = Some(Sequence::default());
                0
            }
        }
    }

    fn branch(&mut self, slot: Slot, keep: usize) -> (Slot, usize) {
        let new = self.open();
        if self.copies == Copies::Branch
            && let Some(Sequence { model: Some(model), length, masks }) = &self.slots[slot.0]
            && *length == keep
        {
            self.slots[new.0] = Some(Sequence { model: model.copy(), length: keep, masks: *masks });
            return (new, keep);
        }
        (new, 0)
    }

    fn held_bytes(&self, slot: Slot) -> u64 {
        let Some(sequence) = &self.slots[slot.0] else { return 0 };
        let positions = match self.copies {
            Copies::Empty if sequence.length > STEP => sequence.length.next_multiple_of(STEP),
            _ => sequence.length,
        };
        positions as u64 * self.position_bytes + sequence.masks as u64
    }

    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        for (number, work) in work.iter().enumerate() {
            if let Some(mut values) = self.forward(work)? {
                logits(number, &mut values);
            }
            worker::port::beat();
        }
        Ok(())
    }

    /// candle sizes its pools once, from the environment of the process.
    fn set_threads(&mut self, _: u32) {}
}

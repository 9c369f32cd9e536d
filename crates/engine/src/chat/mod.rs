//! The scheduler of a chat model: continuous batching. Each step takes one token of every answer that is being made and
//! a chunk of the prompts, which take turns. It owns the requests and the sessions; the decoder owns arithmetic and bytes.

mod sequence;
mod sessions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use link::{Finish, Generate, Prompt};
use worker::port::{Admitted, Made, Refusal};

use crate::clock::timed;
use crate::error::Error;
use crate::models::{Decoder, Slot, Work};
use crate::sampler;
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use sequence::{Next, Sequence};
use sessions::{Parked, Sessions};

/// Room in the caches is given out in so many positions.
pub(crate) const PAGE: usize = 256;
/// Tokens of prompts that a step reads while answers are being made, so that these do not stand still for long.
const CHUNK_BESIDE: usize = 64;

/// A loaded chat model.
pub(crate) struct Chat {
    tokenizer: Tokenizer,
    template: Option<Template>,
    decoder: Box<dyn Decoder>,
    /// In the order in which they came.
    sequences: Vec<Sequence>,
    sessions: Sessions,
    /// Positions that all caches together may have: one whole context.
    room: usize,
    steps: u64,
    /// Steps that read of a prompt.
    readings: u64,
    /// Sessions whose caches take other bytes than was told.
    changed: Vec<String>,
}

/// One sequence's part of a step.
struct Share {
    number: usize,
    tokens: usize,
    decoding: bool,
}

/// What a sequence's logits became.
type Ends = Vec<(usize, Result<(String, Finish), Refusal>)>;

impl Chat {
    pub(crate) fn new(
        tokenizer: Tokenizer,
        template: Option<Template>,
        decoder: Box<dyn Decoder>,
        steps: u64,
    ) -> Self {
        let room = (decoder.context() as usize).next_multiple_of(PAGE);
        Self {
            tokenizer,
            template,
            decoder,
            sequences: Vec::new(),
            sessions: Sessions::default(),
            room,
            steps,
            readings: 0,
            changed: Vec::new(),
        }
    }

    fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        let text = match prompt {
            Prompt::Chat(turns) => &self.template.as_ref().ok_or(Error::NoTemplate)?.render(turns)?,
            Prompt::Text(text) => text,
        };
        let context = self.decoder.context();
        let mut tokens = self.tokenizer.encode(text, context)?;
        if tokens.is_empty() {
            tokens.push(self.tokenizer.bos().ok_or(Error::EmptyPrompt)?);
        }
        if tokens.len() >= context as usize {
            return Err(Error::ContextExceeded { tokens: tokens.len(), whole: true, context });
        }
        Ok(tokens)
    }

    /// Takes a request in.
    pub(crate) fn admit(&mut self, request: Generate) -> Result<Admitted, Error> {
        sampler::check(&request.sampling)?;
        let tokens = self.prompt_tokens(&request.prompt)?;
        let (slot, cached) = self.beginning(&request.session, &tokens);
        if self.decoder.abreast() == 1 {
            // What the others' caches hold is gone when this one computes.
            while let Some(session) = self.sessions.drop_oldest(None, self.decoder.as_mut()) {
                self.changed.push(session);
            }
        }
        let admitted = Admitted { prompt_tokens: tokens.len() as u32, cached_tokens: cached as u32 };
        let context = self.decoder.context();
        self.sequences.push(Sequence::new(
            request.id,
            request.session,
            slot,
            tokens,
            cached,
            context,
            &request.sampling,
        ));
        Ok(admitted)
    }

    /// A cache that begins like the prompt, and how many of its tokens are in there. A conversation of the session that would
    /// lose much is copied as far as it is alike: another one that begins with the same instructions must not end it.
    fn beginning(&mut self, session: &str, tokens: &[u32]) -> (Slot, usize) {
        /// A conversation goes on with a prompt if it loses at most this part of what both share.
        const PART: usize = 8;
        let Some((parked, alike)) = self.sessions.most_alike(session, tokens) else {
            return (self.decoder.open(), 0);
        };
        let (slot, lost) = (parked.slot, parked.tokens.len() - alike);
        // The last token is read again in any case: its logits are wanted.
        let keep = alike.min(tokens.len() - 1);
        self.changed.push(session.to_owned());
        self.sessions.touch(slot);
        if lost * PART > alike && self.has_room_beside(slot, keep) {
            return if keep == 0 { (self.decoder.open(), 0) } else { self.decoder.branch(slot, keep) };
        }
        self.sessions.take(slot);
        (slot, self.decoder.truncate(slot, keep))
    }

    /// Whether there is room for a copy of so many positions, once all conversations but this one have gone that nobody
    /// computes on.
    fn has_room_beside(&mut self, slot: Slot, positions: usize) -> bool {
        while self.taken() + positions.next_multiple_of(PAGE) > self.room {
            match self.sessions.drop_oldest(Some(slot), self.decoder.as_mut()) {
                Some(session) => self.changed.push(session),
                None => return false,
            }
        }
        true
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        for sequence in self.sequences.iter_mut().filter(|sequence| sequence.id == id) {
            sequence.cancelled = true;
        }
    }

    pub(crate) fn pause(&mut self, id: u64, paused: bool) {
        for sequence in self.sequences.iter_mut().filter(|sequence| sequence.id == id) {
            sequence.paused = paused;
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn set_threads(&mut self, n: u32) {
        self.decoder.set_threads(n.max(1));
    }

    /// One step; whether there is anything left to do at once.
    pub(crate) fn step(&mut self, out: &mut dyn FnMut(Made)) -> bool {
        self.end_the_cancelled(out);
        let plan = self.plan();
        if !plan.is_empty() {
            self.compute(&plan, out);
        }
        self.tell_what_is_held(out);
        self.sequences.iter().any(|sequence| !sequence.paused || sequence.cancelled)
    }

    fn end_the_cancelled(&mut self, out: &mut dyn FnMut(Made)) {
        let mut number = 0;
        while let Some(sequence) = self.sequences.get_mut(number) {
            if sequence.cancelled {
                let text = sequence.rest();
                self.finish(number, Ok((text, Finish::Cancelled)), out);
            } else if sequence.wants_nothing() && !sequence.paused {
                self.finish(number, Ok((String::new(), Finish::Length)), out);
            } else {
                number += 1;
            }
        }
    }

    /// Who may compute in this step: the first that are not paused, as many as the decoder can have.
    fn turn(&self) -> Vec<usize> {
        (0..self.sequences.len())
            .filter(|number| !self.sequences[*number].paused)
            .take(self.decoder.abreast())
            .collect()
    }

    /// Who computes in this step: every answer's next token, and a chunk of the prompts.
    fn plan(&mut self) -> Vec<Share> {
        let turn = self.turn();
        let reading = self.reading(&turn);
        let mut plan = Vec::new();
        // Positions that those before in this plan will take.
        let mut promised = 0;
        // From the oldest to the youngest: who is in the plan already is nobody's victim.
        for number in turn {
            let sequence = &self.sequences[number];
            let decoding = sequence.pending() == 1;
            let read = reading.iter().find(|(which, _)| *which == number).map(|(_, tokens)| *tokens);
            let Some(tokens) = read.or(decoding.then_some(1)) else { continue };
            if let Some(grown) = self.make_room(number, tokens, promised) {
                promised += grown;
                plan.push(Share { number, tokens, decoding });
            }
        }
        plan
    }

    /// The prompts that are read in this step, with their tokens: those that waited longest come first, and what they leave
    /// of the chunk goes to the next. So a short prompt waits for one chunk of a long one, and not for all of it.
    fn reading(&mut self, turn: &[usize]) -> Vec<(usize, usize)> {
        let pending = |number: &usize| self.sequences[*number].pending();
        let mut left = match turn.iter().any(|number| pending(number) == 1) {
            true => self.decoder.chunk().min(CHUNK_BESIDE),
            false => self.decoder.chunk(),
        };
        let mut prompts: Vec<usize> = turn.iter().copied().filter(|number| pending(number) > 1).collect();
        prompts.sort_by_key(|number| self.sequences[*number].read);
        self.readings += 1;
        let mut reading = Vec::new();
        for number in prompts {
            let sequence = &mut self.sequences[number];
            let tokens = sequence.pending().min(left);
            if tokens > 0 {
                left -= tokens;
                sequence.read = self.readings;
                reading.push((number, tokens));
            }
        }
        reading
    }

    fn taken(&self) -> usize {
        let running = self.sequences.iter().map(|sequence| sequence.filled.next_multiple_of(PAGE));
        let parked = self.sessions.iter().map(|parked| parked.tokens.len().next_multiple_of(PAGE));
        running.chain(parked).sum()
    }

    /// Makes sure that a sequence can grow: first conversations that nobody computes on go, then the caches of paused
    /// and of younger requests, which are read again later. The oldest running one always gets its room.
    /// Gives the positions that it will take.
    fn make_room(&mut self, number: usize, tokens: usize, promised: usize) -> Option<usize> {
        loop {
            let now = self.sequences[number].filled;
            let grown = (now + tokens).next_multiple_of(PAGE) - now.next_multiple_of(PAGE);
            if grown == 0 || self.taken() + promised + grown <= self.room {
                return Some(grown);
            }
            if let Some(session) = self.sessions.drop_oldest(None, self.decoder.as_mut()) {
                self.changed.push(session);
                continue;
            }
            let holds = |other: &usize| *other != number && self.sequences[*other].filled > 0;
            let paused = |other: &usize| self.sequences[*other].paused;
            let last = self.sequences.len();
            let victim = (0..last).rev().find(|other| holds(other) && paused(other));
            let victim = victim.or_else(|| (number + 1..last).rev().find(holds))?;
            let victim = &mut self.sequences[victim];
            self.changed.push(victim.session.clone());
            victim.filled = self.decoder.truncate(victim.slot, 0);
        }
    }

    fn compute(&mut self, plan: &[Share], out: &mut dyn FnMut(Made)) {
        let Self { decoder, sequences, tokenizer, .. } = self;
        // The tokens are copied, because the sequences change while logits arrive.
        let parts: Vec<Vec<u32>> = plan
            .iter()
            .map(|share| {
                let sequence = &sequences[share.number];
                sequence.tokens[sequence.filled..sequence.filled + share.tokens].to_vec()
            })
            .collect();
        let work: Vec<Work<'_>> = plan
            .iter()
            .zip(&parts)
            .map(|(share, tokens)| {
                let sequence = &sequences[share.number];
                Work { slot: sequence.slot, tokens, wants_logits: share.tokens == sequence.pending() }
            })
            .collect();
        let mut ends: Ends = Vec::new();
        let read = plan.iter().find(|share| !share.decoding).map(|share| sequences[share.number].id);
        let go_on = || read.is_none_or(|id| !worker::port::is_cancelled(id));
        let (result, time) = timed(|| {
            decoder.run_while(&work, &go_on, &mut |which, logits| {
                let number = plan[which].number;
                match sequences[number].take(logits, tokenizer, out) {
                    Some(Next::More) => {}
                    Some(Next::End(text, finish)) => ends.push((number, Ok((text, finish)))),
                    None => {
                        let nothing = Error::Compute("the model gave no number at all".to_owned());
                        ends.push((number, Err(nothing.into())));
                    }
                }
            })
        });
        if let Err(Error::Interrupted) = result {
            // The order that says so is on its way; the others' tokens are made in the next step.
            return;
        }
        self.steps += plan.len() as u64;
        self.account(plan, time);
        if let Err(error) = result {
            // No memory is told as that, to each.
            let refusal = Refusal::from(error);
            ends = plan.iter().map(|share| (share.number, Err(refusal.clone()))).collect();
        }
        // From the last to the first, so that the numbers stay true.
        ends.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (number, end) in ends {
            self.finish(number, end, out);
        }
    }

    fn account(&mut self, plan: &[Share], time: Duration) {
        for share in plan {
            let sequence = &mut self.sequences[share.number];
            sequence.filled += share.tokens;
            sequence.spend(time, share.decoding);
        }
    }

    fn finish(&mut self, number: usize, end: Result<(String, Finish), Refusal>, out: &mut dyn FnMut(Made)) {
        let sequence = self.sequences.remove(number);
        let (id, usage, timings) = (sequence.id, sequence.usage(), sequence.timings());
        let Sequence { session, slot, mut tokens, filled, forget, .. } = sequence;
        // Where one sequence has room, the next one takes it.
        let gone = self.decoder.abreast() == 1 && !self.sequences.is_empty();
        if end.is_err() || forget || filled == 0 || gone {
            self.decoder.close(slot);
        } else {
            tokens.truncate(filled);
            self.sessions.park(Parked { session: session.clone(), slot, tokens }, self.decoder.as_mut());
        }
        self.changed.push(session);
        out(match end {
            Ok((text, finish)) => Made::Done { id, text, finish, usage, timings },
            Err(refusal) => Made::Failed { id, refusal },
        });
    }

    /// Tells of every session whose bytes have changed, also of one that made room for another.
    fn tell_what_is_held(&mut self, out: &mut dyn FnMut(Made)) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for session in changed {
            let bytes = self.held(&session);
            out(Made::Held { session, bytes });
        }
    }

    /// What all caches take.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.bytes_of(|_| true)
    }

    fn held(&self, session: &str) -> u64 {
        self.bytes_of(|whose| whose == session)
    }

    fn bytes_of(&self, pick: impl Fn(&str) -> bool) -> u64 {
        let parked = self.sessions.iter().map(|parked| (&parked.session, parked.slot));
        let running = self.sequences.iter().map(|running| (&running.session, running.slot));
        let picked = parked.chain(running).filter(|(session, _)| pick(session));
        picked.map(|(_, slot)| self.decoder.held_bytes(slot)).sum()
    }

    pub(crate) fn end_session(&mut self, session: &str) -> u64 {
        for sequence in self.sequences.iter_mut().filter(|sequence| sequence.session == session) {
            sequence.forget = true;
        }
        self.sessions.end(session, self.decoder.as_mut())
    }
}

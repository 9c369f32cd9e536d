//! One request on its way from prompt to answer.

use std::time::Duration;

use link::{Finish, Sampling, Timings, Usage};
use worker::port::Made;

use crate::answer::{Answer, Grown};
use crate::models::Slot;
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: u64,
    pub(super) session: String,
    pub(super) slot: Slot,
    /// Prompt and answer.
    pub(super) tokens: Vec<u32>,
    /// Of these, in the decoder's cache.
    pub(super) filled: usize,
    /// When its prompt was read last, as the scheduler counts.
    pub(super) read: u64,
    pub(super) paused: bool,
    pub(super) cancelled: bool,
    /// Its session has ended: nothing is kept when it finishes.
    pub(super) forget: bool,
    prompt: usize,
    cached: usize,
    /// Tokens that the answer may have.
    most: usize,
    ignore_eos: bool,
    sampler: Sampler,
    answer: Answer,
    prefill: Duration,
    decode: Duration,
}

/// Whether a request goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There are more tokens to make.
    More,
    /// It ended; the text was held back until now.
    End(String, Finish),
}

impl Sequence {
    pub(super) fn new(
        id: u64,
        session: String,
        slot: Slot,
        prompt: Vec<u32>,
        cached: usize,
        context: u32,
        order: &Sampling,
    ) -> Self {
        let room = (context as usize).saturating_sub(prompt.len());
        let most = order.max_tokens.map_or(room, |most| room.min(most as usize));
        Self {
            id,
            session,
            slot,
            prompt: prompt.len(),
            tokens: prompt,
            filled: cached,
            read: 0,
            paused: false,
            cancelled: false,
            forget: false,
            cached,
            most,
            ignore_eos: order.ignore_eos,
            sampler: Sampler::new(order),
            answer: Answer::new(&order.stop),
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        }
    }

    /// Tokens that are not yet in the cache; never 0 while the request runs.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.filled
    }

    /// The work of this step took so long for this request.
    pub(super) fn spend(&mut self, time: Duration, decoding: bool) {
        if decoding {
            self.decode += time;
        } else {
            self.prefill += time;
        }
    }

    /// Whether an answer of no tokens was asked for.
    pub(super) fn wants_nothing(&self) -> bool {
        self.most == 0
    }

    /// Takes the next token from the logits. `None`: there is no finite one.
    pub(super) fn take(
        &mut self,
        logits: &mut [f32],
        tokenizer: &Tokenizer,
        out: &mut dyn FnMut(Made),
    ) -> Option<Next> {
        let token = self.sampler.choose(logits, &self.tokens, self.prompt)?;
        if tokenizer.is_end(token) && !self.ignore_eos {
            return Some(Next::End(self.answer.finish(), Finish::Stop));
        }
        self.tokens.push(token);
        let mut bytes = Vec::new();
        tokenizer.decode(token, &mut bytes);
        match self.answer.push(&bytes) {
            Grown::Stopped(text) => return Some(Next::End(text, Finish::Stop)),
            Grown::Text(text) => out(Made::Token { id: self.id, text }),
        }
        Some(if self.tokens.len() - self.prompt >= self.most {
            Next::End(self.answer.finish(), Finish::Length)
        } else {
            Next::More
        })
    }

    /// The text that a cancelled request still holds back.
    pub(super) fn rest(&mut self) -> String {
        self.answer.finish()
    }

    pub(super) fn usage(&self) -> Usage {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Usage {
            prompt_tokens: count(self.prompt),
            completion_tokens: count(self.tokens.len() - self.prompt),
            cached_tokens: count(self.cached),
        }
    }

    pub(super) fn timings(&self) -> Timings {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Timings { prefill_us: us(self.prefill), decode_us: us(self.decode) }
    }
}

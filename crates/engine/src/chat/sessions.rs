//! Conversations that nobody computes on at the moment: their caches are kept, so that the next turn reads only what is
//! new. A prefix is shared within a session and never across two.

use crate::models::{Decoder, Slot};

/// A session keeps so many conversations at the most.
const MOST_A_SESSION: usize = 4;

/// A conversation whose cache is kept.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) session: String,
    pub(super) slot: Slot,
    /// What the cache holds, one position a token.
    pub(super) tokens: Vec<u32>,
}

/// All of them, the longest unused first.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    parked: Vec<Parked>,
}

impl Sessions {
    /// The session's conversation that begins most like `prompt`, with the number of tokens that are alike.
    pub(super) fn most_alike(&self, session: &str, prompt: &[u32]) -> Option<(&Parked, usize)> {
        let alike = |tokens: &[u32]| tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        self.parked
            .iter()
            .filter(|parked| parked.session == session)
            .map(|parked| (parked, alike(&parked.tokens)))
            .filter(|(_, alike)| *alike > 0)
            .max_by_key(|(_, alike)| *alike)
    }

    /// Takes a conversation out, for a request that goes on with it.
    pub(super) fn take(&mut self, slot: Slot) {
        self.parked.retain(|parked| parked.slot != slot);
    }

    /// A conversation was used just now.
    pub(super) fn touch(&mut self, slot: Slot) {
        if let Some(at) = self.parked.iter().position(|parked| parked.slot == slot) {
            self.parked[at..].rotate_left(1);
        }
    }

    /// Keeps a conversation; the session's oldest goes when it has too many.
    pub(super) fn park(&mut self, conversation: Parked, decoder: &mut dyn Decoder) {
        let of_session = |parked: &Parked| parked.session == conversation.session;
        if self.parked.iter().filter(|parked| of_session(parked)).count() >= MOST_A_SESSION
            && let Some(oldest) = self.parked.iter().position(of_session)
        {
            decoder.close(self.parked.remove(oldest).slot);
        }
        self.parked.push(conversation);
    }

    /// Forgets the one that was longest unused, unless it is `but`; whose it was.
    pub(super) fn drop_oldest(&mut self, but: Option<Slot>, decoder: &mut dyn Decoder) -> Option<String> {
        self.parked.first().filter(|oldest| Some(oldest.slot) != but)?;
        let oldest = self.parked.remove(0);
        decoder.close(oldest.slot);
        Some(oldest.session)
    }

    /// Forgets a session's conversations; the bytes that they held.
    pub(super) fn end(&mut self, session: &str, decoder: &mut dyn Decoder) -> u64 {
        let mut bytes = 0;
        self.parked.retain(|parked| {
            let ends = parked.session == session;
            if ends {
                bytes += decoder.held_bytes(parked.slot);
                decoder.close(parked.slot);
            }
            !ends
        });
        bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Parked> {
        self.parked.iter()
    }
}

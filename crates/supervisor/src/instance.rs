//! The handle of a loaded model: what a lease gives its holder. Knows requests and their events, no process.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use link::{Embed, Facts, Finish, Generate, Prompt, Ready, Sampling, Timings, ToWorker, Usage, WireError};
use protocol::{Code, Problem};
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{Answer, Inbox, Wish};

/// Tokens that a worker may be ahead of the one who reads them.
pub const CREDITS: u32 = 64;

/// Credit goes back in parcels of so many tokens, so that it is not a message for each.
const PARCEL: u32 = 16;

/// Texts that go to the worker at a time, so that other requests come in between.
const TEXTS_AT_ONCE: usize = 16;

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Whose KV cache may be reused; never another's.
    pub session: String,
    /// What to answer.
    pub prompt: Prompt,
    /// How.
    pub sampling: Sampling,
}

/// What comes of a generation: `Started`, then `Token`..., then exactly one of `Done` and `Error`. An `Error` may also
/// come first or between.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt was taken; reading it begins.
    Started {
        /// Of the prompt.
        prompt_tokens: u32,
        /// Of these, from the session's cache.
        cached_tokens: u32,
    },
    /// One token's text; may be empty while a character is incomplete.
    Token {
        /// Whole characters.
        text: String,
    },
    /// The end.
    Done {
        /// Text held back until now.
        text: String,
        /// Why it ended.
        finish: Finish,
        /// Counts.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
    /// The end of a generation that failed, with a sentence that says why; also when its worker died.
    Error(Problem),
}

/// Vectors, one a text, in the order of the texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// Normalised.
    pub vectors: Vec<Vec<f32>>,
    /// Of all texts.
    pub prompt_tokens: u32,
}

/// A loaded model. Clones are the same instance. Outlives its worker: then every request ends with the reason.
#[derive(Clone, Debug)]
pub struct Instance {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    inbox: Arc<Inbox>,
    ready: Ready,
    pid: u32,
}

impl Instance {
    pub(crate) fn new(inbox: Arc<Inbox>, ready: Ready, pid: u32) -> Self {
        Self { inner: Arc::new(Inner { inbox, ready, pid }) }
    }

    /// What is in the model's files.
    pub fn facts(&self) -> &Facts {
        &self.inner.ready.facts
    }

    /// As what it was loaded: context, threads, device.
    pub fn ready(&self) -> &Ready {
        &self.inner.ready
    }

    /// The worker's process.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Begins a generation. Never waits and never fails: what goes wrong comes as the event that ends it.
    pub fn generate(&self, ask: Ask) -> Generation {
        // Room for all tokens under credit, Started and the terminal event.
        let (events, receiver) = mpsc::channel(CREDITS as usize + 2);
        let (inbox, wish) = (Arc::clone(&self.inner.inbox), Arc::new(Wish::default()));
        let id = inbox.next_id();
        let Ask { session, prompt, sampling } = ask;
        let generate = Generate { id, session, prompt, sampling, credits: CREDITS };
        let answer = Answer::Tokens { events, wish: Arc::clone(&wish) };
        match link::encode(&ToWorker::Generate(generate)) {
            Ok(frame) => inbox.post(id, frame, answer),
            Err(error) => answer.fail(too_long(&error)),
        }
        Generation { events: receiver, wish, inbox, ended: false }
    }

    /// Makes vectors, a few texts at a time, until `stopped` comes. Whoever wants to stop keeps its lease until this returns: a
    /// worker that still computes is not idle.
    ///
    /// # Errors
    /// What the engine says of the texts, why the worker could not answer, or that it was to stop.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        stopped: impl Future<Output = ()> + Send,
    ) -> Result<Vectors, Problem> {
        let mut stopped = pin!(stopped);
        let mut all = Vectors { vectors: Vec::with_capacity(texts.len()), prompt_tokens: 0 };
        for some in texts.chunks(TEXTS_AT_ONCE) {
            let wish = Arc::new(Wish::default());
            let mut answered = pin!(self.embed_some(some.to_vec(), Arc::clone(&wish)));
            let answer = tokio::select! {
                biased;
                answer = &mut answered => answer,
                () = &mut stopped => {
                    wish.cancelled.store(true, Ordering::Release);
                    self.inner.inbox.wake();
                    answered.await
                }
            };
            // Whatever the worker says of it then.
            if wish.cancelled.load(Ordering::Acquire) {
                return Err(Problem::new(Code::Cancelled, "The request was cancelled.", "Ask again."));
            }
            let Vectors { vectors, prompt_tokens } = answer?;
            all.vectors.extend(vectors);
            all.prompt_tokens = all.prompt_tokens.saturating_add(prompt_tokens);
        }
        Ok(all)
    }

    async fn embed_some(&self, texts: Vec<String>, wish: Arc<Wish>) -> Result<Vectors, Problem> {
        let inbox = &self.inner.inbox;
        let (id, (answer, answered), due) = (inbox.next_id(), oneshot::channel(), texts.len());
        let frame = link::encode(&ToWorker::Embed(Embed { id, texts })).map_err(|e| too_long(&e))?;
        inbox.post(id, frame, Answer::Vectors { answer, texts: due, wish });
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// A running generation. Whoever owns it reads it to its terminal event and keeps its lease until then. Dropped early,
/// it cancels; the worker then stops within one prefill chunk or token, unseen.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    wish: Arc<Wish>,
    inbox: Arc<Inbox>,
    ended: bool,
}

impl Generation {
    /// The next event; `None` after the terminal one. May be dropped and called again. The worker pauses when
    /// [`CREDITS`] tokens wait here to be taken.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or_else(|| Event::Error(lost()));
        match event {
            Event::Token { .. } => {
                let taken = self.wish.taken.fetch_add(1, Ordering::AcqRel) + 1;
                if taken >= PARCEL {
                    self.inbox.wake();
                }
            }
            Event::Done { .. } | Event::Error(_) => self.ended = true,
            Event::Started { .. } => {}
        }
        Some(event)
    }

    /// Asks the worker to stop; still ends with `Done` ([`Finish::Cancelled`]) or `Error`.
    pub fn cancel(&self) {
        if !self.wish.cancelled.swap(true, Ordering::AcqRel) {
            self.inbox.wake();
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.ended {
            self.cancel();
        }
    }
}

fn too_long(error: &WireError) -> Problem {
    let hint = "Send less at once: at most 16 MiB in all.";
    Problem::new(Code::TooLarge, format!("The request does not fit through to the model: {error}."), hint)
}

/// The belt to the braces: the task ends every request with its reason before it drops the sender.
fn lost() -> Problem {
    let message = "The model stopped while it answered, and nobody could say why.";
    Problem::new(Code::WorkerDied, message, "Send the request again; the model is loaded anew.")
}

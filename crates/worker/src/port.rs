//! What the worker needs from an engine. The engine room implements it; tests put a ballast engine here.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use link::{Embed, ErrorCode, Facts, FileRole, Finish, Generate, Load, Ready, Stage, Timings, Usage};

/// A descriptor that the server passed, with what it is.
#[derive(Debug)]
pub struct ModelFile {
    /// What it is.
    pub role: FileRole,
    /// Open for reading.
    pub file: File,
}

/// Why the engine will not or cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// The cause, in a sentence for a person.
    pub message: String,
}

/// A prompt that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, already in the session's cache.
    pub cached_tokens: u32,
}

/// What one step of the engine made.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// A token's text: whole characters only, perhaps none yet.
    Token {
        /// Which request.
        id: u64,
        /// Whole characters.
        text: String,
    },
    /// The end of a request.
    Done {
        /// Which request.
        id: u64,
        /// Text held back until now.
        text: String,
        /// Why it ended.
        finish: Finish,
        /// Counts.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
    /// The end of a request that failed.
    Failed {
        /// Which request.
        id: u64,
        /// Why.
        refusal: Refusal,
    },
    /// What a session's conversation takes from now on.
    Held {
        /// Which session.
        session: String,
        /// Bytes of private memory.
        bytes: u64,
    },
}

/// Vectors, one a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// Normalised.
    pub vectors: Vec<Vec<f32>>,
    /// Of all texts.
    pub prompt_tokens: u32,
}

/// Makes engines from files.
pub trait Loader: Send + 'static {
    /// What it makes. It lives and dies on the one thread that made it.
    type Engine: Engine;

    /// Reads what is in the files, without loading weights.
    fn inspect(&self, files: Vec<ModelFile>) -> Result<Facts, Refusal>;

    /// Loads; `progress` gets (stage, done, total).
    fn load(
        &self,
        files: Vec<ModelFile>,
        order: &Load,
        progress: &mut dyn FnMut(Stage, u64, u64),
    ) -> Result<(Self::Engine, Ready), Refusal>;
}

/// A process has one engine, so that its beats are the process's own; a handle would have to go through every decoder.
static BEATS: AtomicU64 = AtomicU64::new(0);

/// Says that the engine goes on, for every layer that it has been through: with a large model on a shared core, one step
/// may take longer than a step of an engine that stands is waited for.
pub fn beat() {
    BEATS.fetch_add(1, Ordering::Relaxed);
}

/// How often that was said.
pub fn beats() -> u64 {
    BEATS.load(Ordering::Relaxed)
}

/// The requests that were cancelled last. As many as a server has at a time: one that falls out is cancelled all the same,
/// when its step has ended.
static CANCELLED: Mutex<VecDeque<u64>> = Mutex::new(VecDeque::new());
const REMEMBERED: usize = 64;

fn cancelled() -> MutexGuard<'static, VecDeque<u64>> {
    // Whole after every single change.
    CANCELLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says past the queue of orders that a request is cancelled; the order itself follows. For the worker's reader.
pub fn cancel(id: u64) {
    let mut cancelled = cancelled();
    cancelled.truncate(REMEMBERED - 1);
    cancelled.push_front(id);
}

/// Whether a request was cancelled while the engine is in the middle of a step: the order comes between steps, and a chunk
/// of a prompt may take seconds. An engine that asks between layers can leave the step and have the order at once.
pub fn is_cancelled(id: u64) -> bool {
    cancelled().contains(&id)
}

/// A loaded model. Every call returns soon: `step` does one prefill chunk or one token of each running request.
pub trait Engine {
    /// Takes a request in. From now on `step` works on it, until it has made `Done` or `Failed` for it.
    fn admit(&mut self, request: Generate) -> Result<Admitted, Refusal>;

    /// Stops a request; the next `step` makes its `Done` with [`Finish::Cancelled`]. Of an unknown id: nothing.
    fn cancel(&mut self, id: u64);

    /// A paused request stays as it is; the others go on. Of an unknown id: nothing.
    fn pause(&mut self, id: u64, paused: bool);

    /// Works on the requests that are not paused. Returns whether there is anything left to work on at once.
    fn step(&mut self, out: &mut dyn FnMut(Made)) -> bool;

    /// Makes vectors.
    fn embed(&mut self, order: &Embed) -> Result<Vectors, Refusal>;

    /// Forgets a session's conversation and gives its memory back to the system; returns the bytes.
    fn end_session(&mut self, session: &str) -> u64;

    /// Computes with so many threads from now on, at least 1.
    fn set_threads(&mut self, n: u32);

    /// Grows with each tensor loaded, each prefill chunk, each token. What happens within a step, [`beat`] tells.
    fn steps(&self) -> u64;

    /// Private bytes that are kept for sessions.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Whether it has been given the largest step that there is, so that its scratch is as large as it ever gets.
    fn is_full(&self) -> bool {
        false
    }
}

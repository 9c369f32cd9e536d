//! What can go wrong in this room, and how it reaches a person.

use link::ErrorCode;
use worker::port::Refusal;

use crate::gguf::GgufError;

/// Why the engine will not or cannot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file that a model of this kind needs was not passed.
    #[error("The model lacks {0}.")]
    NoFile(&'static str),
    /// The system refused the map.
    #[error("The file could not be mapped: {0}.")]
    Map(std::io::Error),
    /// The system has no memory to give.
    #[error("The system gave no memory for the conversation: {0}.")]
    Memory(std::io::Error),
    /// A file that is not what its name says.
    #[error("{what} cannot be read: {why}.")]
    BadPart {
        /// Which file.
        what: &'static str,
        /// The reader's words.
        why: String,
    },
    /// A model family without code.
    #[error(
        "Models of the family {0} are not served; llama, mistral, smollm2, smollm3, qwen2, qwen3 and gemma3 are, and phi2, phi3, \
         glm4 and lfm2 by candle's own code."
    )]
    Family(String),
    /// A tokenizer without code.
    #[error("The tokenizer {0} is not known, and a guess would make wrong tokens; the model cannot be used.")]
    Tokenizer(String),
    /// The chat template.
    #[error("The model's chat template failed: {0}.")]
    Template(String),
    /// No chat template.
    #[error(
        "This model brings no chat template; send plain text (/v1/completions) instead of a conversation."
    )]
    NoTemplate,
    /// Nothing to answer.
    #[error("The prompt is empty, and this model has no token to begin with.")]
    EmptyPrompt,
    /// More than the context holds.
    #[error(
        "The prompt has {}{tokens} tokens, and this model's context holds {context}, the answer included; \
         shorten the prompt or load the model with a longer context.",
        if *.whole { "" } else { "at least " }
    )]
    ContextExceeded {
        /// Of the prompt.
        tokens: usize,
        /// Whether that is all of them.
        whole: bool,
        /// Positions.
        context: u32,
    },
    /// A sampling value that makes no sense.
    #[error("{name} is {value}; it must be {wanted}.")]
    Sampling {
        /// Which one.
        name: &'static str,
        /// As asked.
        value: f32,
        /// What it must be.
        wanted: &'static str,
    },
    /// Asked for an answer from an embedding model.
    #[error("This is an embedding model: it makes vectors, not answers.")]
    NotChat,
    /// Asked for vectors from a chat model.
    #[error("This is a chat model: it makes answers, not vectors.")]
    NotEmbedding,
    /// Nobody wants the step any more. Never reaches a person.
    #[error("The step was left in the middle.")]
    Interrupted,
    /// The arithmetic library said no.
    #[error("The computation failed: {0}.")]
    Compute(String),
}

impl Error {
    /// For programs.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Gguf(why) if why.unsupported() => ErrorCode::Unsupported,
            Self::Gguf(_) | Self::NoFile(_) | Self::Map(_) | Self::BadPart { .. } => ErrorCode::BadFile,
            Self::Family(_) | Self::Tokenizer(_) => ErrorCode::Unsupported,
            Self::Template(_)
            | Self::NoTemplate
            | Self::EmptyPrompt
            | Self::Sampling { .. }
            | Self::NotChat
            | Self::NotEmbedding => ErrorCode::BadRequest,
            Self::ContextExceeded { .. } => ErrorCode::ContextExceeded,
            Self::Memory(_) => ErrorCode::OutOfMemory,
            Self::Compute(_) | Self::Interrupted => ErrorCode::Internal,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // candle appends a backtrace to some errors; a person needs its first line alone.
        Self::Compute(error.to_string().lines().next().unwrap_or("unknown").to_owned())
    }
}

/// Runs code of a library that may panic on odd input, and turns the panic into an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let words = cause
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "a library panicked".to_owned());
        Err(Error::Compute(words))
    })
}

//! Errors as they reach a person: cause, then what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A word for programs; each has one HTTP status (server's table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// An argument is missing, malformed or out of range. 400.
    BadArgument,
    /// The prompt does not fit the model's context. 400.
    ContextLengthExceeded,
    /// A token is needed. 401.
    Unauthorized,
    /// Not from here: host, origin or token are not allowed. 403.
    Forbidden,
    /// No such model. 404.
    UnknownModel,
    /// No such thing. 404.
    NotFound,
    /// Wrong method for this path. 405.
    MethodNotAllowed,
    /// It cannot be done in the present state. 409.
    Conflict,
    /// The body is larger than the limit. 413.
    TooLarge,
    /// The file is no model that can be run here. 422.
    UnsupportedModel,
    /// The model cannot do what was asked (embeddings of a chat model, say). 400.
    WrongKind,
    /// A fault of ours. 500.
    Internal,
    /// The load was cancelled while somebody waited for it. 503.
    LoadCancelled,
    /// The load failed. 503.
    LoadFailed,
    /// The worker died while it answered. 503.
    WorkerDied,
    /// The model was unloaded while it answered. 503.
    CutOff,
    /// Crashed too often; stays away until somebody reloads it. 503.
    Quarantined,
    /// The server or the model takes nothing new for the moment. 503.
    Draining,
    /// Too many wait already. 503.
    QueueFull,
    /// It took too long. 503.
    TimedOut,
    /// The client stopped reading or went away. 499 in the log only.
    Cancelled,
    /// It does not fit. 507.
    InsufficientMemory,
    /// The worker ran out of memory. 507.
    OutOfMemory,
}

impl Code {
    /// The code's word, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadArgument => "bad_argument",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UnknownModel => "unknown_model",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedModel => "unsupported_model",
            Self::WrongKind => "wrong_kind",
            Self::Internal => "internal",
            Self::LoadCancelled => "load_cancelled",
            Self::LoadFailed => "load_failed",
            Self::WorkerDied => "worker_died",
            Self::CutOff => "cut_off",
            Self::Quarantined => "quarantined",
            Self::Draining => "draining",
            Self::QueueFull => "queue_full",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::InsufficientMemory => "insufficient_memory",
            Self::OutOfMemory => "out_of_memory",
        }
    }
}

/// What went wrong and what to do about it, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// The cause, in a sentence.
    pub message: String,
    /// What to do, in a sentence.
    pub hint: String,
    /// When a retry may help; `null`: a retry will not help by itself.
    pub retry_after_seconds: Option<u64>,
    /// Which of several values is meant, by its key; absent: none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A problem as JSON carries it: `{"error":{...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// The problem.
    pub error: Problem,
}

impl Problem {
    /// A problem that a retry does not mend.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), retry_after_seconds: None, field: None }
    }

    /// The same, with the advice to come back after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same, said about one value.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// A text with a capital first letter, as a sentence begins.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_with_a_capital_letter_and_nothing_else_changes() {
        assert_eq!(["", "a b", "A", "é", "1 x"].map(capital), ["", "A b", "A", "é", "1 x"]);
    }
}

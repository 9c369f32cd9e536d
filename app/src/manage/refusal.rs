//! The error of every server function.

use leptos::server_fn::{
    codec::JsonEncoding,
    error::{FromServerFnError, ServerFnErrorErr},
};
use protocol::{Code, Problem, ProblemBody};
use serde::{Deserialize, Serialize};

/// A problem as the answer carries it: `{"error":{"code","message","hint","retry_after_seconds"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusal(pub ProblemBody);

impl Refusal {
    /// A bad argument, with what is wrong with it and what would be right.
    pub fn argument(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem::new(Code::BadArgument, message, hint).into()
    }

    /// The same, said about one value.
    #[must_use]
    pub fn about(self, field: &str) -> Self {
        self.0.error.about(field).into()
    }
}

impl From<Problem> for Refusal {
    fn from(error: Problem) -> Self {
        Self(ProblemBody { error })
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.error.fmt(f)
    }
}

impl FromServerFnError for Refusal {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        match error {
            ServerFnErrorErr::Args(why)
            | ServerFnErrorErr::MissingArg(why)
            | ServerFnErrorErr::Deserialization(why) => Self::argument(
                format!("The arguments cannot be read: {why}"),
                "Send them form-encoded; each field once, booleans as true or false.",
            ),
            ServerFnErrorErr::Request(why) => Problem::new(
                Code::Internal,
                format!("The server cannot be reached: {why}"),
                "Check that it still runs.",
            )
            .into(),
            other => Problem::new(
                Code::Internal,
                format!("The call failed: {other}"),
                "This is a fault of Innkeeper; its log says more.",
            )
            .into(),
        }
    }
}

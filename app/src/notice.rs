//! What is said to a person after a verb.

use serde::{Deserialize, Serialize};

/// One sentence about what was done or refused, and what to do next. The answer of a hydrated form, and what the
/// notice cookie carries for a form without JavaScript.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Whether it went as asked.
    pub good: bool,
    /// What happened; empty: there is nothing to say.
    pub text: String,
    /// What to do, or what else to know; may be empty.
    #[serde(default)]
    pub hint: String,
}

impl Notice {
    /// A success.
    pub fn good(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into(), hint: String::new() }
    }

    /// A failure, with what to do.
    pub fn bad(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { good: false, text: text.into(), hint: hint.into() }
    }
}

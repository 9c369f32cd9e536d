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
    /// The key of the value that was refused; it is said at its field then. Empty: none in particular.
    #[serde(default)]
    pub field: String,
    /// What stood in that field, so that it still stands there on the next page.
    #[serde(default)]
    pub typed: String,
}

impl Notice {
    /// A success.
    pub fn good(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into(), ..Self::default() }
    }

    /// A failure, with what to do.
    pub fn bad(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: hint.into(), ..Self::default() }
    }

    /// What is said at the field of this value; `None`: nothing.
    pub fn at(&self, field: &str) -> Option<String> {
        let said = !self.good && !self.field.is_empty() && self.field == field;
        said.then(|| format!("{} {}", self.text, self.hint).trim().to_owned())
    }
}

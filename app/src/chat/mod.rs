//! A conversation: the words that server and browser share, and how a hydrated page streams an answer.

mod ask;
mod conversation;

pub use ask::{ask, stop};
pub use conversation::{Conversation, Line, Standing};

use serde::{Deserialize, Serialize};

use crate::json::quote;

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The person's.
    User,
    /// The model's.
    Assistant,
}

impl Who {
    /// As in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose words.
    pub who: Who,
    /// The words, as they are: shown as text, never as HTML.
    pub text: String,
    /// The line below them: speed, times, or what went wrong; may be empty.
    #[serde(default)]
    pub note: String,
    /// Whether the answer failed.
    #[serde(default)]
    pub failed: bool,
}

impl Turn {
    /// The turn as JSON, for the tab's own memory.
    fn to_json(&self) -> String {
        format!(
            "{{\"who\":\"{}\",\"text\":{},\"note\":{},\"failed\":{}}}",
            self.who.word(),
            quote(&self.text),
            quote(&self.note),
            self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_survives_the_tabs_memory() {
        let turn =
            Turn { who: Who::User, text: "a \"b\"\n".to_owned(), note: "\u{1}".to_owned(), failed: true };
        assert_eq!(crate::json::read::<Turn>(&turn.to_json()), Some(turn));
    }
}

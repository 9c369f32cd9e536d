//! The name of a model.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a model is called in the API, on the page and on disk: `[A-Za-z0-9._-]{1,128}`, and neither `.` nor `..`.
///
/// `smollm2:latest` is read as `smollm2`, since Ollama's clients add that tag to every name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(String);

/// Why a text is no model id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadModelId {
    /// The text as it was given, cut to 64 characters.
    pub given: String,
}

impl ModelId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = BadModelId;

    fn from_str(text: &str) -> Result<Self, BadModelId> {
        let name = text.strip_suffix(":latest").unwrap_or(text);
        let sound = (1..=128).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && name != "."
            && name != "..";
        if sound {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadModelId { given: text.chars().take(64).collect() })
        }
    }
}

impl TryFrom<String> for ModelId {
    type Error = BadModelId;

    fn try_from(text: String) -> Result<Self, BadModelId> {
        text.parse()
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no model name: 1 to 128 letters, digits, dots, dashes or underscores", self.given)
    }
}

impl std::error::Error for BadModelId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_the_latest_tag_is_the_name_without_it() {
        assert_eq!("smollm2:latest".parse::<ModelId>().unwrap().as_str(), "smollm2");
    }

    #[test]
    fn a_path_is_never_a_model_name() {
        for text in ["", ".", "..", "a/b", "../a", "a b", "a\0", "smollm2:q4", &"x".repeat(129)] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_bad_name_is_refused_while_reading_json_too() {
        assert!(serde_json::from_str::<ModelId>("\"a/b\"").is_err());
        assert_eq!(serde_json::to_string(&"a.b-c_1".parse::<ModelId>().unwrap()).unwrap(), "\"a.b-c_1\"");
    }
}

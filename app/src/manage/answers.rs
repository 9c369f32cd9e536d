//! The answers of verbs that take `model=*`.

use protocol::Problem;
use serde::{Deserialize, Serialize};

/// The answer of a verb that takes `model=*`: one answer, or one for each model that was loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrAll<T> {
    /// Of several models. Tried first in reading, since only it is a list.
    All(Vec<Part<T>>),
    /// Of one model.
    One(T),
}

/// What became of one model among several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part<T> {
    /// It was done.
    Done(T),
    /// It was not.
    Failed {
        /// Why.
        error: Problem,
    },
}

impl<T> From<Result<T, Problem>> for Part<T> {
    fn from(outcome: Result<T, Problem>) -> Self {
        match outcome {
            Ok(done) => Self::Done(done),
            Err(error) => Self::Failed { error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_all_are_told_apart_by_their_shape() {
        let one: OneOrAll<u32> = serde_json::from_str("7").unwrap();
        assert_eq!(one, OneOrAll::One(7));
        let all: OneOrAll<u32> = serde_json::from_str("[7]").unwrap();
        assert_eq!(all, OneOrAll::All(vec![Part::Done(7)]));
        let problem = Problem::new(protocol::Code::Draining, "It stops.", "Wait.");
        let failed = serde_json::to_string(&OneOrAll::All(vec![Part::<u32>::from(Err(problem))])).unwrap();
        assert!(failed.starts_with(r#"[{"error":{"code":"draining""#), "{failed}");
    }
}

//! Arguments that several verbs share. The server's half only.

use protocol::ModelId;

use super::Refusal;

/// Which models a verb is for.
pub(super) enum Target {
    All,
    One(ModelId),
}

impl Target {
    /// `*` or a model's name.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        if text.trim() == "*" { Ok(Self::All) } else { id(text).map(Self::One) }
    }
}

/// A model's name.
pub(super) fn id(text: &str) -> Result<ModelId, Refusal> {
    text.trim().parse().map_err(|bad: protocol::BadModelId| {
        Refusal::argument(bad.to_string(), "GET /manage/snapshot lists the models.")
    })
}

/// A span of time.
pub(super) fn span(text: &str) -> Result<protocol::IdleTimeout, Refusal> {
    text.parse().map_err(|bad: protocol::BadSpan| {
        Refusal::argument(bad.to_string(), "For example 10m, 90s, 0 or never.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_means_all_and_anything_else_is_a_name() {
        assert!(matches!(Target::read(" * "), Ok(Target::All)));
        assert!(matches!(Target::read("smollm2:latest"), Ok(Target::One(id)) if id.as_str() == "smollm2"));
        assert!(Target::read("**").is_err());
        assert!(Target::read("").is_err());
    }
}

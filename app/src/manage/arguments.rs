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

/// Whether a value is the word by which a setting goes back to what is built in.
pub fn is_default(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("default")
}

/// A span of time.
pub(super) fn span(text: &str) -> Result<protocol::IdleTimeout, Refusal> {
    text.parse().map_err(|bad: protocol::BadSpan| {
        Refusal::argument(bad.to_string(), "For example 10m, 90s, 0 or never.")
    })
}

/// A moment in Unix milliseconds, from a time or from a span before now.
pub(super) fn moment(text: &str, now_ms: i64) -> Result<i64, Refusal> {
    if let Ok(time) = text.parse::<protocol::Time>() {
        return Ok(time.unix_ms());
    }
    match text.parse() {
        Ok(protocol::IdleTimeout::After { ms }) => Ok(now_ms.saturating_sub_unsigned(ms)),
        _ => Err(Refusal::argument(
            format!("`{text}` is neither a time nor a span"),
            "Write 2026-11-23T14:02:31Z, or 1h for the last hour.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_time_or_a_span_that_reaches_back() {
        assert_eq!(moment("1h", 3_600_000).unwrap(), 0);
        assert_eq!(moment("1970-01-01T00:00:01Z", 5).unwrap(), 1000);
        assert!(moment("never", 0).is_err());
        assert!(moment("yesterday", 0).is_err());
    }

    #[test]
    fn a_star_means_all_and_anything_else_is_a_name() {
        assert!(matches!(Target::read(" * "), Ok(Target::All)));
        assert!(matches!(Target::read("smollm2:latest"), Ok(Target::One(id)) if id.as_str() == "smollm2"));
        assert!(Target::read("**").is_err());
        assert!(Target::read("").is_err());
    }
}

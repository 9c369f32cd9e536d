//! Spans of time as people write them, and the idle timeout made of one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How long a model may be idle before it is unloaded.
///
/// Written as `10m`, `90s`, `1h30m`, `250ms`, a plain number of seconds, `0` (when the last lease ends), or
/// `never` (a negative number means the same, as with Ollama). In JSON it is a number of seconds, or `null` for
/// never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<f64>", into = "Option<f64>")]
pub enum IdleTimeout {
    /// Unload when this many milliseconds have passed since the last use. 0: as soon as the last lease ends.
    After {
        /// Milliseconds, at most ten years.
        ms: u64,
    },
    /// Never by itself.
    Never,
}

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSpan {
    /// The text as it was given, cut to 64 characters.
    pub given: String,
}

/// Ten years: longer than any machine stays up, short enough that deadlines cannot overflow.
const LONGEST_MS: f64 = 10.0 * 365.25 * 86_400_000.0;

impl IdleTimeout {
    /// The span in milliseconds, or `None` for never.
    pub fn ms(self) -> Option<u64> {
        match self {
            Self::After { ms } => Some(ms),
            Self::Never => None,
        }
    }

    /// The span in seconds, as the wire has it: `null` for never.
    pub fn seconds(self) -> Option<f64> {
        self.ms().map(|ms| ms as f64 / 1000.0)
    }

    /// A timeout from seconds as JSON clients send them: negative means never.
    pub fn from_seconds(seconds: f64) -> Result<Self, BadSpan> {
        if seconds < 0.0 {
            Ok(Self::Never)
        } else if seconds * 1000.0 <= LONGEST_MS {
            // Checked: not negative, not NaN (a comparison with NaN is false), under 2^53.
            Ok(Self::After { ms: (seconds * 1000.0).round() as u64 })
        } else {
            Err(BadSpan { given: seconds.to_string() })
        }
    }
}

impl FromStr for IdleTimeout {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan { given: text.chars().take(64).collect() };
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        if let Ok(seconds) = trimmed.parse::<f64>() {
            return if seconds.is_finite() {
                Self::from_seconds(seconds).map_err(|_| bad())
            } else {
                Err(bad())
            };
        }
        let (negative, mut rest) = match trimmed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, trimmed),
        };
        let mut ms = 0.0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
            let after = &rest[digits..];
            let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            ms += number
                * match after[..unit_len].trim() {
                    "ms" => 1.0,
                    "s" => 1000.0,
                    "m" | "min" => 60_000.0,
                    "h" => 3_600_000.0,
                    "d" => 86_400_000.0,
                    _ => return Err(bad()),
                };
            rest = &after[unit_len..];
        }
        if negative { Ok(Self::Never) } else { Self::from_seconds(ms / 1000.0).map_err(|_| bad()) }
    }
}

impl From<IdleTimeout> for Option<f64> {
    fn from(timeout: IdleTimeout) -> Self {
        timeout.seconds()
    }
}

impl From<Option<f64>> for IdleTimeout {
    fn from(seconds: Option<f64>) -> Self {
        seconds.map_or(Self::Never, |s| Self::from_seconds(s).unwrap_or(Self::Never))
    }
}

impl fmt::Display for IdleTimeout {
    /// Writes what [`IdleTimeout::from_str`] reads: `never`, `0s`, `90s`, `10m`, `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::After { ms } = *self else { return f.write_str("never") };
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, size, below) in [
            ("d", 86_400_000, u64::MAX),
            ("h", 3_600_000, 86_400_000),
            ("m", 60_000, 3_600_000),
            ("s", 1000, 60_000),
            ("ms", 1, 1000),
        ] {
            let part = if below == u64::MAX { ms / size } else { ms % below / size };
            if part > 0 {
                write!(f, "{part}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for BadSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no span of time: write 10m, 90s, 1h30m, a number of seconds, 0 or never",
            self.given
        )
    }
}

impl std::error::Error for BadSpan {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_as_people_and_other_clients_write_them() {
        for (text, ms) in [
            ("10m", 600_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0", 0),
            ("300", 300_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            (" 5m ", 300_000),
            ("0.5", 500),
            ("5min", 300_000),
        ] {
            assert_eq!(text.parse(), Ok(IdleTimeout::After { ms }), "{text}");
        }
        for text in ["never", "Never", "-1", "-1m", "-0.5"] {
            assert_eq!(text.parse(), Ok(IdleTimeout::Never), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_by_name() {
        for text in [
            "",
            "-",
            "soon",
            "10 x",
            "10mm",
            "m",
            "1e400",
            "inf",
            "nan",
            "99999999999999999999d",
            "1..2s",
            "🦀",
        ] {
            assert!(text.parse::<IdleTimeout>().is_err(), "{text} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_timeout_survives_text_and_json(ms in 0_u64..315_576_000_000) {
            let timeout = IdleTimeout::After { ms };
            prop_assert_eq!(timeout.to_string().parse::<IdleTimeout>(), Ok(timeout));
            let json = serde_json::to_string(&timeout).unwrap();
            prop_assert_eq!(serde_json::from_str::<IdleTimeout>(&json).unwrap(), timeout);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = text.parse::<IdleTimeout>();
        }
    }
}

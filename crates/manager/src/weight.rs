//! How much a model is worth keeping, beside how long it was idle and how long it takes to load.

use std::{fmt, str::FromStr};

/// A factor on the time of a load: a model of weight 2 goes as late as one that takes twice as long to load. Kept in thousandths,
/// so that models are compared exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(u32);

impl Weight {
    /// Of a model of which nobody said anything.
    pub const USUAL: Self = Self(1000);

    /// As a number.
    pub(crate) fn number(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// In thousandths.
    pub(crate) fn thousandths(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::USUAL
    }
}

/// A text that is no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWeight;

impl fmt::Display for BadWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a number from 0.01 to 100, such as 2 for a model that is to stay longer")
    }
}

impl std::error::Error for BadWeight {}

impl FromStr for Weight {
    type Err = BadWeight;

    fn from_str(text: &str) -> Result<Self, BadWeight> {
        let number: f64 = text.trim().parse().map_err(|_| BadWeight)?;
        // Between 10 and 100,000 thousandths; a comparison with what is no number is false.
        if (0.01..=100.0).contains(&number) {
            Ok(Self((number * 1000.0).round() as u32))
        } else {
            Err(BadWeight)
        }
    }
}

impl fmt::Display for Weight {
    /// Writes what [`Weight::from_str`] reads: `1`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_they_are_written() {
        for text in ["1", "0.01", "2.5", "100", "0.125"] {
            assert_eq!(text.parse::<Weight>().unwrap().to_string(), text);
        }
        assert_eq!("1".parse(), Ok(Weight::USUAL));
        for text in ["", "0", "-1", "101", "NaN", "inf", "heavy", "0.001"] {
            assert_eq!(text.parse::<Weight>(), Err(BadWeight), "{text}");
        }
    }
}

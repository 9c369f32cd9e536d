//! Numbers over time: measurements as the history keeps them, and how well models answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::{ModelId, Time};

/// A number of a series: bytes are whole, shares are not.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub f64);

impl From<u64> for Amount {
    fn from(bytes: u64) -> Self {
        // Exact: integers on the wire stay under 2^53.
        Self(bytes as f64)
    }
}

impl From<i64> for Amount {
    fn from(bytes: i64) -> Self {
        Self(bytes as f64)
    }
}

impl Serialize for Amount {
    /// A whole number is written without a fraction, since readers in other languages tell the two apart.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 9.0e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// A span of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredPoint {
    /// Its beginning.
    pub at: Time,
    /// The mean of each number over the span. `ram`, `gpu:0`: `models_bytes`, `server_bytes`, `other_bytes`,
    /// `free_bytes`, `unaccounted_bytes`; `models`: private bytes by model, those that held something; `cpu`:
    /// `cpu_percent`.
    pub values: BTreeMap<String, Amount>,
}

/// The answer of /manage/measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// Which: `ram`, `gpu:0`, `models`, `cpu`.
    pub series: String,
    /// Seconds that one point stands for: what was asked for, or more where that would be too many points.
    pub step_seconds: u64,
    /// Oldest first. Where nothing was measured there is no point.
    pub points: Vec<MeasuredPoint>,
}

/// How a number is spread over many requests. Percentiles by nearest rank: the smallest value that so many percent of
/// all values do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// Half of them are not above it.
    pub p50: f64,
    /// 95 of 100 are not above it.
    pub p95: f64,
    /// 99 of 100 are not above it.
    pub p99: f64,
}

impl Spread {
    /// Of these values; `None`: there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank =
            |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { count: values.len() as u64, p50: rank(50)?, p95: rank(95)?, p99: rank(99)? })
    }
}

/// How a model answered within a span that ends now. `null`: there was nothing to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowPerformance {
    /// `5m`, `1h`, `24h`.
    pub window: String,
    /// Requests that ended in it.
    pub requests: u64,
    /// Of these, how many did not end well.
    pub failed: u64,
    /// Requests by hour.
    pub requests_per_hour: f64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens made.
    pub completion_tokens: u64,
    /// Private bytes times time: what it kept busy of the machine's memory.
    pub gib_hours: f64,
    /// Loads, from the decision until ready.
    pub load_ms: Option<Spread>,
    /// From the request to the first text, load and queue included.
    pub time_to_first_token_ms: Option<Spread>,
    /// From the request until it had its place in the model, a load included.
    pub queue_wait_ms: Option<Spread>,
    /// Decode speed of each request. Here the slow end is the low one: `p50` is the speed that half of them reached.
    pub tokens_per_second: Option<Spread>,
}

/// How a model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPerformance {
    /// Which.
    pub model: ModelId,
    /// The last five minutes, hour and day.
    pub windows: Vec<WindowPerformance>,
}

/// The answer of /manage/performance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// The end of every window.
    pub at: Time,
    /// Models that did something within the last day, by name.
    pub models: Vec<ModelPerformance>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_amount_has_no_fraction_on_the_wire() {
        let amounts = [Amount(0.0), Amount::from(98_304_u64), Amount::from(-5_i64), Amount(12.5)];
        assert_eq!(serde_json::to_string(&amounts).unwrap(), "[0,98304,-5,12.5]");
        assert_eq!(serde_json::from_str::<[Amount; 2]>("[3,2.5]").unwrap(), [Amount(3.0), Amount(2.5)]);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = Spread::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((hundred.p50, hundred.p95, hundred.p99), (50.0, 95.0, 99.0));
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.count, one.p50, one.p99), (1, 7.0, 7.0));
        let two = Spread::of(vec![9.0, 1.0]).unwrap();
        assert_eq!((two.p50, two.p95), (1.0, 9.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}

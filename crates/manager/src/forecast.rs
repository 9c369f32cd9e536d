//! What a load will take, from what stands in the file's header. Pure arithmetic over [`Expectation`].

use protocol::Prediction;

use crate::ports::Expectation;

/// What an instance with a given context will take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    pub(crate) weights_bytes: u64,
    pub(crate) runtime_bytes: u64,
    /// At the full context.
    pub(crate) kv_cache_bytes: u64,
    /// At its cap.
    pub(crate) scratch_bytes: u64,
    /// Mapped from disk and touched by decoding.
    pub(crate) mapped_bytes: u64,
}

impl Forecast {
    /// Of a file that was inspected. `context` is what somebody asked for; the model's own limit caps it, as the worker
    /// does.
    pub(crate) fn new(expected: &Expectation, context: Option<u32>) -> Self {
        let positions = context.unwrap_or(expected.context).clamp(1, expected.longest.max(1));
        Self {
            weights_bytes: expected.weights_bytes,
            runtime_bytes: expected.runtime_bytes,
            kv_cache_bytes: expected.kv_bytes_per_token.saturating_mul(u64::from(positions)),
            scratch_bytes: expected.scratch_bytes,
            mapped_bytes: expected.mapped_bytes,
        }
    }

    /// Of a file that nobody has looked into: its size, where nothing better is known.
    pub(crate) fn of_size(size_bytes: u64) -> Self {
        Self {
            weights_bytes: size_bytes,
            runtime_bytes: 0,
            kv_cache_bytes: 0,
            scratch_bytes: 0,
            mapped_bytes: 0,
        }
    }

    /// Private bytes at ready.
    pub(crate) fn predicted_bytes(&self) -> u64 {
        self.weights_bytes.saturating_add(self.runtime_bytes)
    }

    /// Private bytes at the full KV cache and scratch, with the mapped bytes that decoding touches: else ten models
    /// "fit" and thrash the page cache.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.predicted_bytes()
            .saturating_add(self.kv_cache_bytes)
            .saturating_add(self.scratch_bytes)
            .saturating_add(self.mapped_bytes)
    }

    /// The parts, as a plan tells them.
    pub(crate) fn prediction(&self) -> Prediction {
        Prediction {
            weights_bytes: self.weights_bytes,
            runtime_bytes: self.runtime_bytes,
            kv_cache_bytes: self.kv_cache_bytes,
            scratch_bytes: self.scratch_bytes,
            learned_factor: 1.0,
            error_percent: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Expectation = Expectation {
        weights_bytes: 100,
        runtime_bytes: 10,
        kv_bytes_per_token: 2,
        scratch_bytes: 7,
        mapped_bytes: 50,
        context: 8192,
        longest: 100_000,
    };

    #[test]
    fn the_reservation_is_at_the_full_context_and_never_beyond_the_models_own() {
        let kv =
            |longest, asked| Forecast::new(&Expectation { longest, ..FILE }, asked).reserve_bytes() - 167;
        assert_eq!(kv(100_000, None), 2 * 8192);
        assert_eq!(kv(4096, None), 2 * 4096);
        assert_eq!(kv(4096, Some(1 << 20)), 2 * 4096);
        assert_eq!(kv(100_000, Some(512)), 2 * 512);
        assert_eq!(kv(100_000, Some(50_000)), 2 * 50_000);
        assert_eq!(kv(0, Some(512)), 2, "no number is divided by");
    }

    #[test]
    fn the_parts_add_up_to_the_reservation() {
        let forecast = Forecast::new(&FILE, None);
        let told = forecast.prediction();
        let parts = told.weights_bytes + told.runtime_bytes + told.kv_cache_bytes + told.scratch_bytes;
        assert_eq!(parts + forecast.mapped_bytes, forecast.reserve_bytes());
        assert_eq!(forecast.predicted_bytes(), told.weights_bytes + told.runtime_bytes);
    }
}

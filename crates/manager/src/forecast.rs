//! What a load will take: by what stands in the file's header, corrected by what earlier instances took. Pure.

use protocol::{Lesson, Prediction};

use crate::{admission::Need, lessons, ports::Expectation};

/// What an instance with a given context will take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// By the header alone.
    header: Parts,
    /// Private at ready, corrected.
    pub(crate) predicted_bytes: u64,
    /// Private at the full KV cache and scratch, corrected.
    pub(crate) full_bytes: u64,
    /// Scratch at its cap, corrected.
    scratch_bytes: u64,
    /// Of the last load.
    pub(crate) error_percent: Option<f64>,
    /// Of a GPU at the full context, by the header alone: which, and how much.
    gpu: Option<(u32, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Parts {
    weights: u64,
    runtime: u64,
    /// At the full context.
    kv_cache: u64,
    /// At its cap.
    scratch: u64,
    /// From disk, and touched by decoding.
    mapped: u64,
}

impl Parts {
    fn at_ready(&self) -> u64 {
        self.weights.saturating_add(self.runtime)
    }

    fn full(&self) -> u64 {
        self.at_ready().saturating_add(self.kv_cache).saturating_add(self.scratch)
    }
}

impl Forecast {
    /// Of a file that was inspected. `context` is what somebody asked for; the model's own limit caps it, as the worker
    /// does.
    pub(crate) fn new(expected: &Expectation, context: Option<u32>, lessons: &[Lesson]) -> Self {
        let positions = context.unwrap_or(expected.context).clamp(1, expected.longest.max(1));
        let cache = |positions: u32| expected.kv_bytes_per_token.saturating_mul(u64::from(positions));
        let header = Parts {
            weights: expected.weights_bytes,
            runtime: expected.runtime_bytes,
            kv_cache: cache(positions),
            scratch: expected.scratch_bytes,
            mapped: expected.mapped_bytes,
        };
        let gpu = expected.gpu.map(|gpu| {
            let cache = gpu.kv_bytes_per_token.saturating_mul(u64::from(positions));
            (gpu.index, gpu.fixed_bytes.saturating_add(cache))
        });
        let unlearned = Self { gpu, ..Self::of_header(header, None) };
        let device = gpu.map_or_else(|| "cpu".to_owned(), |(index, _)| format!("gpu:{index}"));
        let Some(lesson) = lessons::of(lessons, &device, positions) else { return unlearned };
        let predicted_bytes = scaled(header.at_ready(), lesson.ready_bytes, lesson.header_bytes);
        let besides = lesson.rest_bytes.saturating_sub(lesson.ready_bytes + lesson.rest_held_bytes);
        let scratch_bytes = if lesson.full { besides } else { header.scratch };
        let full = predicted_bytes.saturating_add(header.kv_cache).saturating_add(scratch_bytes);
        let seen = if lesson.context == positions { lesson.peak_bytes } else { 0 };
        let (full_bytes, error_percent) = (full.max(seen), Some(lesson.error_percent));
        Self { predicted_bytes, full_bytes, scratch_bytes, error_percent, ..unlearned }
    }

    /// Private with the scratch at its cap and so much kept for sessions.
    pub(crate) fn with_kept(&self, kept: u64) -> u64 {
        self.predicted_bytes.saturating_add(self.scratch_bytes).saturating_add(kept)
    }

    /// The KV cache at the full context; 0: it has none.
    pub(crate) fn kv_cache_bytes(&self) -> u64 {
        self.header.kv_cache
    }

    /// Of a file that nobody has looked into: its size, where nothing better is known.
    pub(crate) fn of_size(size_bytes: u64) -> Self {
        Self::of_header(Parts { weights: size_bytes, ..Parts::default() }, None)
    }

    fn of_header(header: Parts, error_percent: Option<f64>) -> Self {
        Self {
            predicted_bytes: header.at_ready(),
            full_bytes: header.full(),
            scratch_bytes: header.scratch,
            header,
            error_percent,
            gpu: None,
        }
    }

    /// What a load has to have of each device.
    pub(crate) fn need(&self) -> Need {
        Need { ram: self.reserve_bytes(), gpu: self.gpu }
    }

    /// Private bytes at the full KV cache and scratch, with the mapped bytes that decoding touches: else ten models
    /// "fit" and thrash the page cache.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.full_bytes.saturating_add(self.header.mapped)
    }

    /// The same once the private bytes at ready are measured: what is still to come, comes on top of the larger of the
    /// two.
    pub(crate) fn reserve_at_ready(&self, measured: u64) -> u64 {
        let more = measured.saturating_sub(self.predicted_bytes);
        self.reserve_bytes().saturating_add(more)
    }

    /// Private bytes at ready by the header alone.
    pub(crate) fn header_bytes(&self) -> u64 {
        self.header.at_ready()
    }

    /// Mapped from disk.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.header.mapped
    }

    /// The parts, as a plan tells them.
    pub(crate) fn prediction(&self) -> Prediction {
        let full = self.header.full();
        Prediction {
            weights_bytes: self.header.weights,
            runtime_bytes: self.header.runtime,
            kv_cache_bytes: self.header.kv_cache,
            scratch_bytes: self.header.scratch,
            learned_factor: if full == 0 { 1.0 } else { self.full_bytes as f64 / full as f64 },
            error_percent: self.error_percent,
        }
    }
}

/// `bytes` x `measured` / `predicted`; as they are where nothing was predicted.
fn scaled(bytes: u64, measured: u64, predicted: u64) -> u64 {
    if predicted == 0 {
        return bytes.max(measured);
    }
    let scaled = u128::from(bytes) * u128::from(measured) / u128::from(predicted);
    u64::try_from(scaled).unwrap_or(u64::MAX)
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
        gpu: None,
        context: 8192,
        longest: 100_000,
    };

    fn lesson(context: u32) -> Lesson {
        Lesson {
            device: "cpu".to_owned(),
            context,
            ready_bytes: 55,
            header_bytes: 110,
            peak_bytes: 60,
            rest_bytes: 55,
            rest_held_bytes: 0,
            full: false,
            error_percent: 100.0,
            peak_error_percent: None,
        }
    }

    #[test]
    fn the_reservation_is_at_the_full_context_and_never_beyond_the_models_own() {
        let kv = |longest, asked| {
            Forecast::new(&Expectation { longest, ..FILE }, asked, &[]).reserve_bytes() - 167
        };
        assert_eq!(kv(100_000, None), 2 * 8192);
        assert_eq!(kv(4096, None), 2 * 4096);
        assert_eq!(kv(4096, Some(1 << 20)), 2 * 4096);
        assert_eq!(kv(100_000, Some(512)), 2 * 512);
        assert_eq!(kv(100_000, Some(50_000)), 2 * 50_000);
        assert_eq!(kv(0, Some(512)), 2, "no number is divided by");
    }

    #[test]
    fn the_parts_add_up_to_the_reservation_before_the_first_load() {
        let forecast = Forecast::new(&FILE, None, &[]);
        let told = forecast.prediction();
        let parts = told.weights_bytes + told.runtime_bytes + told.kv_cache_bytes + told.scratch_bytes;
        assert_eq!(parts + forecast.mapped_bytes(), forecast.reserve_bytes());
        assert_eq!(forecast.predicted_bytes, told.weights_bytes + told.runtime_bytes);
        assert_eq!((told.learned_factor, told.error_percent), (1.0, None));
    }

    #[test]
    fn a_load_corrects_what_the_next_one_is_expected_to_take_at_ready() {
        let forecast = Forecast::new(&FILE, Some(512), &[lesson(512)]);
        assert_eq!(forecast.predicted_bytes, 55);
        assert_eq!(
            forecast.full_bytes,
            55 + 1024 + 7,
            "its cache was not filled: the scratch stays as it was"
        );
        let told = forecast.prediction();
        assert!(told.learned_factor < 1.0);
        assert_eq!(told.error_percent, Some(100.0));
        assert_eq!(Forecast::new(&FILE, Some(64), &[lesson(512)]).predicted_bytes, 55, "of another context");
    }

    #[test]
    fn a_cache_that_was_filled_teaches_the_scratch_and_a_peak_is_never_forgotten() {
        let filled = Lesson { rest_bytes: 55 + 600 + 3, rest_held_bytes: 600, full: true, ..lesson(512) };
        let full = |lesson: &Lesson, context| {
            Forecast::new(&FILE, Some(context), std::slice::from_ref(lesson)).full_bytes
        };
        assert_eq!(full(&filled, 512), 55 + 1024 + 3);
        assert_eq!(full(&filled, 2048), 55 + 4096 + 3);
        let high = Lesson { peak_bytes: 5000, ..filled };
        assert_eq!(full(&high, 512), 5000);
        assert_eq!(full(&high, 2048), 55 + 4096 + 3, "that was with another context");
    }

    #[test]
    fn an_instance_that_took_more_than_predicted_reserves_more() {
        let forecast = Forecast::new(&FILE, Some(512), &[]);
        assert_eq!(forecast.reserve_at_ready(90), forecast.reserve_bytes());
        assert_eq!(forecast.reserve_at_ready(130), forecast.reserve_bytes() + 20);
    }
}

//! Positions as rotations: how fast each pair of a head turns, and by how much at a position. Sources: Su et al., 2021;
//! Peng et al., 2023 (YaRN); llama.cpp's `ggml_rope_yarn`.

use super::layer;
use crate::error::Error;
use crate::models::config::{LlamaConfig, Scaling};
use crate::weights::Weights;

/// The rotations of some layers.
#[derive(Debug)]
pub(super) struct Rope {
    /// Radians a position, one for each pair.
    frequencies: Vec<f64>,
    /// What both cosine and sine are multiplied with.
    magnitude: f32,
}

impl Rope {
    /// Those of layers that see everything.
    pub(super) fn of_all(weights: &Weights, config: &LlamaConfig) -> Result<Self, Error> {
        let pairs = config.rope_width / 2;
        let factors = match config.rope_factors {
            true => layer::vector(weights, "rope_freqs.weight", pairs)?,
            false => vec![1.0; pairs as usize],
        };
        let mut rope = Self::plain(config.rope_base, config);
        for (frequency, factor) in rope.frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(factor);
        }
        match config.scaling {
            Scaling::None => {}
            Scaling::Linear { factor } => {
                rope.frequencies.iter_mut().for_each(|frequency| *frequency /= f64::from(factor));
            }
            Scaling::Yarn { factor, original } => {
                rope.stretch(f64::from(factor), f64::from(original), config);
            }
        }
        Ok(rope)
    }

    /// Those of layers with a window: no frequency is scaled.
    pub(super) fn of_windows(config: &LlamaConfig) -> Self {
        Self::plain(config.local_rope_base, config)
    }

    fn plain(base: f32, config: &LlamaConfig) -> Self {
        let width = config.rope_width;
        let frequency = |pair: u32| f64::from(base).powf(-2.0 * f64::from(pair) / f64::from(width));
        Self { frequencies: (0..width / 2).map(frequency).collect(), magnitude: config.rope_magnitude }
    }

    /// YaRN: fast pairs stay, slow ones are stretched, those between are mixed.
    fn stretch(&mut self, factor: f64, original: f64, config: &LlamaConfig) {
        /// Turns over the original context above which a pair counts as fast, and below which as slow.
        const FAST: f64 = 32.0;
        const SLOW: f64 = 1.0;
        let width = f64::from(config.rope_width);
        let pair_with = |turns: f64| {
            width * (original / (turns * std::f64::consts::TAU)).ln()
                / (2.0 * f64::from(config.rope_base).ln())
        };
        let low = pair_with(FAST).floor().max(0.0);
        let high = pair_with(SLOW).ceil().min(width - 1.0);
        for (pair, frequency) in self.frequencies.iter_mut().enumerate() {
            let slow = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            *frequency *= slow / factor + (1.0 - slow);
        }
        self.magnitude *= (1.0 + 0.1 * factor.ln()) as f32;
    }

    /// How many pairs turn.
    pub(super) fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Appends cosine and sine of each pair at a position.
    pub(super) fn angles(&self, position: usize, out: &mut Vec<(f32, f32)>) {
        out.extend(self.frequencies.iter().map(|frequency| {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            (cos as f32 * self.magnitude, sin as f32 * self.magnitude)
        }));
    }
}

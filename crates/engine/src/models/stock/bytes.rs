//! What a stock model takes, told before the load. Source: how candle-core and candle-transformers keep what they read.

use super::config::{CHUNK, FIXED, Family, StockConfig};
use crate::gguf::TensorType;
use crate::weights::{TensorView, Weights};

impl StockConfig {
    /// Bytes of one position: keys and values of all layers that attend, in f32.
    pub(crate) fn position_bytes(&self) -> u64 {
        let heads: u64 = self.kv_heads.iter().map(|n| u64::from(*n)).sum();
        8 * heads * u64::from(self.head_width)
    }

    /// Bytes that a sequence takes however short it is: what convolutions remember.
    pub(super) fn sequence_bytes(&self) -> u64 {
        let still = self.kv_heads.iter().filter(|n| **n == 0).count() as u64;
        4 * still * u64::from(self.convolution) * u64::from(self.width)
    }

    /// Private bytes of a loaded model: all weights, the token table as plain floats (once more where it is the output,
    /// too), and the tables of the positions.
    pub(crate) fn private_bytes(&self, weights: &Weights) -> u64 {
        let floats = |kind| matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
        let mut bytes = 0;
        for view in weights.tensors() {
            let plain = 4 * view.entry.values();
            let kept = if view.entry.shape.len() < 2 || floats(view.entry.kind) {
                plain
            } else {
                view.bytes.len() as u64
            };
            bytes += match view.entry.name.as_str() {
                "token_embd.weight" if weights.find("output.weight").is_some() => plain,
                "token_embd.weight" => plain + kept,
                _ => kept,
            };
        }
        let positions = match self.family {
            Family::Llama | Family::Phi2 => FIXED,
            Family::Qwen2 | Family::Phi3 | Family::Glm4 | Family::Lfm2 => self.context,
        };
        bytes + 4 * u64::from(positions) * u64::from(self.rope_width)
    }

    /// Private bytes that come with use: candle's second copy of matrices that it has faster code for, and what the largest
    /// step takes, at the end of a full context.
    pub(crate) fn scratch_bytes(&self, weights: &Weights) -> u64 {
        // The output is asked for the last row alone, and so is the token table where it is the output, too.
        let tied = weights.find("output.weight").is_none();
        let packed: u64 = weights
            .tensors()
            .filter(|view| view.entry.shape.len() > 1)
            .map(|view| match view.entry.name.as_str() {
                "token_embd.weight" if !tied => 0,
                "token_embd.weight" | "output.weight" => packed(&view, 1),
                _ => packed(&view, CHUNK),
            })
            .sum();
        let [context, heads, width, ffn, vocabulary, chunk] =
            [self.context, self.heads, self.head_width, self.ffn, self.vocabulary, CHUNK].map(u64::from);
        let kv_heads = self.kv_heads.iter().copied().max().map_or(0, u64::from);
        // Scores before, during and after the softmax; keys and values of one layer joined to the new ones, then repeated
        // for each head and laid out anew.
        let scores = 3 * chunk * heads * context;
        let repeated = if kv_heads == heads { 0 } else { 4 * heads };
        let copied = (2 * kv_heads + repeated) * width * context;
        packed + 4 * (scores + copied + 6 * chunk * ffn + 2 * vocabulary)
    }
}

/// Bytes of the copy that candle makes of a matrix at its first use with so many rows, if it has faster code for a laid-out
/// copy of this type. Source: candle-core's `repack.rs` and `repack_x86.rs`.
#[cfg(target_arch = "aarch64")]
fn packed(view: &TensorView<'_>, _rows: u32) -> u64 {
    let known = [TensorType::Q4_0, TensorType::Q4K, TensorType::Q5K, TensorType::Q6K, TensorType::Q8_0];
    let outer = view.entry.shape.get(1).copied().unwrap_or(0);
    if known.contains(&view.entry.kind) && outer.is_multiple_of(8) { view.bytes.len() as u64 } else { 0 }
}

/// Bytes of the copy that candle makes of a matrix at its first use with so many rows, if it has faster code for a laid-out
/// copy of this type. Source: candle-core's `repack.rs` and `repack_x86.rs`.
#[cfg(target_arch = "x86_64")]
fn packed(view: &TensorView<'_>, rows: u32) -> u64 {
    let shape = &view.entry.shape;
    let (inner, outer) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(0));
    let has_vectors = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if !has_vectors || !inner.is_multiple_of(256) || !outer.is_multiple_of(16) {
        return 0;
    }
    let sums_bytes = is_x86_feature_detected!("avxvnni")
        || (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"));
    match view.entry.kind {
        TensorType::Q4K => inner * outer * 3 / 4,
        TensorType::Q6K if rows > 1 => inner * outer * 5 / 4,
        TensorType::Q8_0 if sums_bytes => inner * outer * 17 / 16,
        _ => 0,
    }
}

/// Elsewhere candle has no such code.
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
fn packed(_: &TensorView<'_>, _: u32) -> u64 {
    0
}

//! The small file that this room's tests read and break.

pub(crate) use fixtures::Gguf as Builder;

use super::TensorType;

/// One of each: keys of many kinds, two tensors.
pub(crate) fn small() -> Builder {
    Builder::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.rope.freq_base", 1e4)
        .bool("tokenizer.ggml.add_bos_token", false)
        .texts("tokenizer.ggml.tokens", &["a", "b", "\u{120}ab"])
        .numbers("tokenizer.ggml.token_type", &[1, 1, 3])
        .floats("norm.weight", &[4], &[1.0, 2.0, 3.0, 4.0])
        .tensor("w.weight", 3, &[32, 2], vec![7; TensorType::Q4_1.block_bytes() as usize * 2])
}

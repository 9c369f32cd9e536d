//! The numbers of a llama-like model, read from the header and checked against each other, so that no decoder divides
//! by zero or reads past a tensor.

use crate::error::Error;
use crate::gguf::{GgufError, Metadata};
use crate::weights::{TensorView, Weights};

/// No sound model comes near these.
const MOST_LAYERS: u32 = 1024;
const MOST_HEADS: u32 = 1024;
const MOST_WIDTH: u32 = 1 << 18;
const MOST_CONTEXT: u32 = 1 << 24;

/// What differs between models of the llama family.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LlamaConfig {
    pub(crate) family: String,
    pub(crate) layers: u32,
    pub(crate) width: u32,
    pub(crate) ffn: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_width: u32,
    pub(crate) context: u32,
    pub(crate) vocabulary: u32,
    pub(crate) rope_base: f32,
    /// Of each head, so many dimensions are rotated.
    pub(crate) rope_width: u32,
    pub(crate) norm_epsilon: f32,
    pub(crate) experts: u32,
    /// The file brings a factor for each frequency of the positions.
    pub(crate) rope_factors: bool,
}

impl LlamaConfig {
    /// Reads it; the vocabulary is as long as the embedding table.
    pub(crate) fn read(weights: &Weights) -> Result<Self, Error> {
        let family = family(weights)?.to_owned();
        let metadata = weights.metadata();
        let key = |name: &str| format!("{family}.{name}");
        let width = metadata.count(&key("embedding_length"), MOST_WIDTH)?;
        let heads = metadata.count(&key("attention.head_count"), MOST_HEADS)?;
        let kv_heads = optional(metadata, &key("attention.head_count_kv"), MOST_HEADS)?.unwrap_or(heads);
        let head_width =
            optional(metadata, &key("attention.key_length"), MOST_WIDTH)?.unwrap_or(width / heads);
        let table = required(weights, "token_embd.weight")?;
        let vocabulary = u32::try_from(table.entry.shape.get(1).copied().unwrap_or(0)).unwrap_or(0);
        let scaling = weights.text(&key("rope.scaling.type"))?.unwrap_or("none");
        if scaling != "none" {
            return Err(Error::Family(format!("{family} with positions scaled by {scaling}")));
        }
        let config = Self {
            layers: metadata.count(&key("block_count"), MOST_LAYERS)?,
            width,
            ffn: metadata.count(&key("feed_forward_length"), MOST_WIDTH)?,
            heads,
            kv_heads,
            head_width,
            context: metadata.count(&key("context_length"), MOST_CONTEXT)?,
            vocabulary,
            rope_base: metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_width: optional(metadata, &key("rope.dimension_count"), MOST_WIDTH)?.unwrap_or(head_width),
            norm_epsilon: metadata.float(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-5),
            experts: optional(metadata, &key("expert_count"), 4096)?.unwrap_or(0),
            rope_factors: weights.find("rope_freqs.weight").is_some(),
            family,
        };
        config.check()?;
        config.check_shapes(weights)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: &'static str, value: u32| -> Result<(), Error> {
            Err(GgufError::Absurd { what, value: value.into() }.into())
        };
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong("the number of key-value heads", self.kv_heads);
        }
        if self.head_width == 0 || !self.head_width.is_multiple_of(2) {
            return wrong("the width of a head", self.head_width);
        }
        if self.rope_width > self.head_width || !self.rope_width.is_multiple_of(2) {
            return wrong("the rotated width of a head", self.rope_width);
        }
        if self.vocabulary == 0 {
            return wrong("the length of the vocabulary", 0);
        }
        if !(self.rope_base.is_finite() && self.rope_base > 0.0) {
            return wrong("the base of the positions", 0);
        }
        Ok(())
    }

    /// The dimensions of a layer's matrices, as `(name, inner, outer)`.
    pub(crate) fn matrices(&self) -> [(&'static str, u32, u32); 7] {
        let (q, kv) = (self.heads * self.head_width, self.kv_heads * self.head_width);
        [
            ("attn_q", self.width, q),
            ("attn_k", self.width, kv),
            ("attn_v", self.width, kv),
            ("attn_output", q, self.width),
            ("ffn_gate", self.width, self.ffn),
            ("ffn_up", self.width, self.ffn),
            ("ffn_down", self.ffn, self.width),
        ]
    }

    fn check_shapes(&self, weights: &Weights) -> Result<(), Error> {
        shaped(weights, "token_embd.weight", &[self.width, self.vocabulary])?;
        shaped(weights, "output_norm.weight", &[self.width])?;
        if weights.find("output.weight").is_some() {
            shaped(weights, "output.weight", &[self.width, self.vocabulary])?;
        }
        for layer in 0..self.layers {
            shaped(weights, &format!("blk.{layer}.attn_norm.weight"), &[self.width])?;
            shaped(weights, &format!("blk.{layer}.ffn_norm.weight"), &[self.width])?;
            for (name, inner, outer) in self.matrices() {
                if self.experts < 2 || name.starts_with("attn") {
                    shaped(weights, &format!("blk.{layer}.{name}.weight"), &[inner, outer])?;
                }
            }
        }
        Ok(())
    }
}

/// `general.architecture`.
pub(crate) fn family(weights: &Weights) -> Result<&str, Error> {
    let family = weights.text("general.architecture")?;
    Ok(family.ok_or_else(|| GgufError::MissingKey("general.architecture".to_owned()))?)
}

fn optional(metadata: &Metadata, key: &str, most: u32) -> Result<Option<u32>, GgufError> {
    match metadata.unsigned(key)? {
        None | Some(0) if !key.ends_with("head_count_kv") => Ok(None),
        None => Ok(None),
        Some(_) => metadata.count(key, most).map(Some),
    }
}

/// A tensor that must be there.
pub(crate) fn required<'a>(weights: &'a Weights, name: &str) -> Result<TensorView<'a>, GgufError> {
    weights.find(name).ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
}

/// A tensor that must be there with this shape, innermost first.
pub(crate) fn shaped<'a>(
    weights: &'a Weights,
    name: &str,
    shape: &[u32],
) -> Result<TensorView<'a>, GgufError> {
    let view = required(weights, name)?;
    let wanted: Vec<u64> = shape.iter().map(|n| u64::from(*n)).collect();
    let found: Vec<u64> = view.entry.shape.clone();
    // Trailing ones carry nothing.
    let trimmed =
        found.iter().rposition(|n| *n != 1).map_or(0, |last| last + 1).max(wanted.len()).min(found.len());
    if found[..trimmed] == wanted[..] {
        Ok(view)
    } else {
        Err(GgufError::WrongShape { name: name.to_owned(), found, wanted })
    }
}

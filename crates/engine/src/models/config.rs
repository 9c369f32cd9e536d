//! The numbers of a llama-like model, read from the header and checked against each other, so that no decoder divides
//! by zero or reads past a tensor.

use crate::error::Error;
use crate::gguf::{GgufError, Metadata};
use crate::weights::{TensorView, Weights};

/// No sound model comes near these.
pub(crate) const MOST_LAYERS: u32 = 1024;
pub(crate) const MOST_HEADS: u32 = 1024;
pub(crate) const MOST_WIDTH: u32 = 1 << 18;
pub(crate) const MOST_CONTEXT: u32 = 1 << 24;

/// The families that our decoder knows; mistral and smollm2 files say `llama`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Pairs of a rotation lie side by side.
    Llama,
    /// llama, but every fourth layer does not rotate.
    Smollm3,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms on each head's queries and keys.
    Qwen3,
    /// Norms after attention and feed-forward too, windows, a scaled embedding, and GELU.
    Gemma3,
}

impl Family {
    /// By `general.architecture`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "llama" => Self::Llama,
            "smollm3" => Self::Smollm3,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma3" => Self::Gemma3,
            _ => return None,
        })
    }
}

/// How positions beyond the trained context are brought back into it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// All frequencies are divided.
    Linear {
        factor: f32,
    },
    /// Slow frequencies are divided, fast ones are not.
    Yarn {
        factor: f32,
        /// Positions of the training.
        original: u32,
    },
}

/// What differs between models of the llama family.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LlamaConfig {
    pub(crate) family: Family,
    /// As the file says it.
    pub(crate) architecture: String,
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
    pub(crate) scaling: Scaling,
    /// What the rotated queries and keys are multiplied with, beside what the scaling asks for.
    pub(crate) rope_magnitude: f32,
    /// Positions that a layer with a window sees, its own included; all layers see everything if there is none.
    pub(crate) window: Option<u32>,
    /// The base of the positions of layers with a window.
    pub(crate) local_rope_base: f32,
}

/// Of so many layers of gemma3, the last sees everything and the others have windows.
const WINDOW_PATTERN: u32 = 6;
/// Of so many layers of smollm3, the last does not rotate.
const STILL_PATTERN: u32 = 4;
/// Layers of the one gemma3 (27B) whose scores are scaled by the width of the model.
const LAYERS_OF_GEMMA3_27B: u32 = 62;

impl LlamaConfig {
    /// Reads it; the vocabulary is as long as the embedding table.
    pub(crate) fn read(weights: &Weights) -> Result<Self, Error> {
        let architecture = architecture(weights)?.to_owned();
        let family = Family::named(&architecture).ok_or_else(|| Error::Family(architecture.clone()))?;
        let metadata = weights.metadata();
        let key = |name: &str| format!("{architecture}.{name}");
        let width = metadata.count(&key("embedding_length"), MOST_WIDTH)?;
        let heads = metadata.count(&key("attention.head_count"), MOST_HEADS)?;
        let kv_heads = optional(metadata, &key("attention.head_count_kv"), MOST_HEADS)?.unwrap_or(heads);
        let head_width =
            optional(metadata, &key("attention.key_length"), MOST_WIDTH)?.unwrap_or(width / heads);
        let table = required(weights, "token_embd.weight")?;
        let vocabulary = u32::try_from(table.entry.shape.get(1).copied().unwrap_or(0)).unwrap_or(0);
        let window = match family {
            Family::Gemma3 => optional(metadata, &key("attention.sliding_window"), MOST_CONTEXT)?,
            _ => None,
        };
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
            scaling: scaling(weights, &architecture)?,
            rope_magnitude: metadata.float(&key("rope.scaling.attn_factor"))?.unwrap_or(1.0),
            window,
            local_rope_base: metadata.float(&key("rope.freq_base_swa"))?.unwrap_or(10_000.0),
            family,
            architecture,
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
        for base in [self.rope_base, self.local_rope_base] {
            if !(base.is_finite() && base > 1.0) {
                return wrong("the base of the positions", 0);
            }
        }
        if !self.rope_magnitude.is_finite() {
            return wrong("the factor of the rotated heads", 0);
        }
        match self.scaling {
            Scaling::Linear { factor } | Scaling::Yarn { factor, .. }
                if !(factor.is_finite() && factor >= 1.0) =>
            {
                wrong("the scaling of the positions", 0)
            }
            _ => Ok(()),
        }
    }

    /// Whether a layer sees its window alone.
    pub(crate) fn has_window(&self, layer: u32) -> bool {
        self.window.is_some() && !(layer + 1).is_multiple_of(WINDOW_PATTERN)
    }

    /// Whether a layer rotates queries and keys by their positions.
    pub(crate) fn rotates(&self, layer: u32) -> bool {
        self.family != Family::Smollm3 || !(layer + 1).is_multiple_of(STILL_PATTERN)
    }

    /// Pairs of a rotation lie half a head apart.
    pub(crate) fn rotates_halves(&self) -> bool {
        matches!(self.family, Family::Qwen2 | Family::Qwen3 | Family::Gemma3)
    }

    /// What the scores of attention are multiplied with.
    pub(crate) fn score_scale(&self) -> f32 {
        let width = match self.family {
            Family::Gemma3 if self.layers == LAYERS_OF_GEMMA3_27B => self.width / self.heads,
            _ => self.head_width,
        };
        1.0 / (width as f32).sqrt()
    }

    /// What the embedding of a token is multiplied with.
    pub(crate) fn embedding_scale(&self) -> f32 {
        if self.family == Family::Gemma3 { (self.width as f32).sqrt() } else { 1.0 }
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

/// How the file says that its positions are scaled.
pub(crate) fn scaling(weights: &Weights, architecture: &str) -> Result<Scaling, Error> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let metadata = weights.metadata();
    let factor = metadata.float(&key("factor"))?.unwrap_or(1.0);
    match weights.text(&key("type"))?.unwrap_or("none") {
        "none" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor }),
        "yarn" => {
            let original = metadata.count(&key("original_context_length"), MOST_CONTEXT)?;
            Ok(Scaling::Yarn { factor, original })
        }
        other => Err(Error::Family(format!("{architecture} with positions scaled by {other}"))),
    }
}

/// `general.architecture`.
pub(crate) fn architecture(weights: &Weights) -> Result<&str, Error> {
    let name = weights.text("general.architecture")?;
    Ok(name.ok_or_else(|| GgufError::MissingKey("general.architecture".to_owned()))?)
}

/// A count of at most `most`; none where the key is absent or says 0.
pub(crate) fn optional(metadata: &Metadata, key: &str, most: u32) -> Result<Option<u32>, GgufError> {
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

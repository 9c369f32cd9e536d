//! Which models candle's stock code serves and with which numbers, from the header alone. candle ignores what it does not
//! know, so a file is served only if everything in it is what candle reads: each key that changes the arithmetic, and each
//! tensor with its shape. All else is refused by name.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use candle_transformers::models::quantized_llama::MAX_SEQ_LEN;

use crate::error::Error;
use crate::gguf::GgufError;
use crate::models::config::{self, LlamaConfig, Scaling};
use crate::weights::Weights;

/// Tokens that one forward of candle's models reads. A forward cannot be interrupted, and from 32 rows on candle makes one more
/// copy of each Q4_K matrix for AMX, more than twice as large as the matrix.
pub(super) const CHUNK: u32 = 24;

/// No stock model is given a longer context: each token copies all keys and values, so a long one is no use.
const LONGEST: u32 = 8192;
/// The tables that phi2 and llama have for positions end here.
pub(super) const FIXED: u32 = MAX_SEQ_LEN as u32;
/// No sound head is wider.
const WIDEST_HEAD: u32 = 1024;
/// No sound convolution looks further back.
const LONGEST_CONVOLUTION: u32 = 64;

/// The families whose stock model is used. Not among them is what candle cannot compute on a CPU (qwen3moe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Where our own decoder lacks a tensor type, and mixtures of experts.
    Llama,
    /// Where our own decoder lacks a tensor type.
    Qwen2,
    Phi2,
    Phi3,
    Glm4,
    /// Some layers do not attend but look at the last few positions (short convolutions).
    Lfm2,
}

/// What a copy of candle's model shares with the model that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// Weights alone: keys and values are never written to, so a copy is a branch.
    Branch,
    /// Also keys and values once there are any: only a copy without them is a sequence of its own.
    Empty,
    /// There can be none: one model, one sequence at a time.
    None,
}

impl Family {
    /// By `general.architecture`, but for those that our own decoder knows.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "phi2" => Self::Phi2,
            "phi3" => Self::Phi3,
            "glm4" => Self::Glm4,
            "lfm2" => Self::Lfm2,
            _ => return None,
        })
    }

    /// As the file says it.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Phi2 => "phi2",
            Self::Phi3 => "phi3",
            Self::Glm4 => "glm4",
            Self::Lfm2 => "lfm2",
        }
    }

    /// What serves, for a person.
    pub(crate) fn served_by(self) -> &'static str {
        match self {
            Self::Llama => "candle quantized_llama",
            Self::Qwen2 => "candle quantized_qwen2",
            Self::Phi2 => "candle quantized_phi",
            Self::Phi3 => "candle quantized_phi3",
            Self::Glm4 => "candle quantized_glm4",
            Self::Lfm2 => "candle quantized_lfm2",
        }
    }

    pub(super) fn copies(self) -> Copies {
        match self {
            Self::Llama | Self::Phi2 => Copies::Branch,
            Self::Phi3 | Self::Glm4 => Copies::Empty,
            Self::Qwen2 | Self::Lfm2 => Copies::None,
        }
    }

    /// Tokens that one forward may read from a position on. lfm2's convolutions take a piece of several tokens for the
    /// beginning, wherever it stands.
    pub(super) fn piece(self, at: usize) -> usize {
        if self == Self::Lfm2 && at > 0 { 1 } else { CHUNK as usize }
    }

    fn longest(self) -> u32 {
        match self {
            Self::Llama | Self::Phi2 => FIXED,
            Self::Qwen2 | Self::Phi3 | Self::Glm4 | Self::Lfm2 => LONGEST,
        }
    }
}

/// The numbers of a model that candle serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StockConfig {
    pub(crate) family: Family,
    pub(crate) layers: u32,
    pub(crate) width: u32,
    /// Positions that it may have here, which may be fewer than it was trained for.
    pub(crate) context: u32,
    pub(crate) vocabulary: u32,
    pub(super) ffn: u32,
    pub(super) heads: u32,
    /// Of each layer; none where it does not attend.
    pub(super) kv_heads: Vec<u32>,
    pub(super) head_width: u32,
    pub(super) rope_width: u32,
    pub(super) rope_base: f32,
    pub(super) norm_epsilon: f32,
    pub(super) experts: u32,
    pub(super) experts_used: u32,
    /// Positions that a layer which does not attend looks at, its own included.
    pub(super) convolution: u32,
}

/// A tensor that candle reads.
struct Wanted {
    name: String,
    shape: Vec<u32>,
    required: bool,
}

impl StockConfig {
    /// Reads it; refuses what candle would compute otherwise than it was trained.
    pub(crate) fn read(weights: &Weights, family: Family) -> Result<Self, Error> {
        let name = family.architecture();
        let metadata = weights.metadata();
        let key = |what: &str| format!("{name}.{what}");
        let width = metadata.count(&key("embedding_length"), config::MOST_WIDTH)?;
        let layers = metadata.count(&key("block_count"), config::MOST_LAYERS)?;
        let heads = metadata.count(&key("attention.head_count"), config::MOST_HEADS)?;
        let head_width = match family {
            Family::Glm4 => config::optional(metadata, &key("attention.key_length"), WIDEST_HEAD)?,
            _ => None,
        };
        let head_width = head_width.unwrap_or(width / heads);
        let epsilon = match family {
            Family::Phi2 => "attention.layer_norm_epsilon",
            _ => "attention.layer_norm_rms_epsilon",
        };
        let convolution = match family {
            Family::Lfm2 => metadata.count(&key("shortconv.l_cache"), LONGEST_CONVOLUTION)?,
            _ => 0,
        };
        let trained = metadata.count(&key("context_length"), config::MOST_CONTEXT)?;
        let window = match family {
            // candle lets every position see all before it, which is the same as long as the window holds them all.
            Family::Phi3 => {
                config::optional(metadata, &key("attention.sliding_window"), config::MOST_CONTEXT)?
            }
            _ => None,
        };
        let table = config::required(weights, "token_embd.weight")?;
        let vocabulary = u32::try_from(table.entry.shape.get(1).copied().unwrap_or(0)).unwrap_or(0);
        let config = Self {
            family,
            layers,
            width,
            context: trained.min(window.unwrap_or(trained)).min(family.longest()),
            vocabulary,
            ffn: metadata.count(&key("feed_forward_length"), config::MOST_WIDTH)?,
            heads,
            kv_heads: kv_heads(weights, &key("attention.head_count_kv"), layers, heads)?,
            head_width,
            rope_width: config::optional(metadata, &key("rope.dimension_count"), WIDEST_HEAD)?
                .unwrap_or(head_width),
            rope_base: metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            norm_epsilon: metadata
                .float(&key(epsilon))?
                .ok_or_else(|| GgufError::MissingKey(key(epsilon)))?,
            experts: 0,
            experts_used: 0,
            convolution,
        };
        config.check()?;
        config.check_keys(weights)?;
        config.check_tensors(weights)?;
        Ok(config)
    }

    /// A model of a family of ours whose tensors our own decoder does not read.
    pub(crate) fn of_own(weights: &Weights, config: &LlamaConfig) -> Result<Self, Error> {
        let name = &config.architecture;
        let family = match config.family {
            config::Family::Llama => Some(Family::Llama),
            config::Family::Qwen2 if config.experts < 2 => Some(Family::Qwen2),
            // candle forgets what stands before a piece of gemma3's, and what was answered of qwen3's; smollm3 wants a path.
            _ => None,
        };
        let plain = !config.rope_factors && config.scaling == Scaling::None && config.rope_magnitude == 1.0;
        // candle takes it that the heads together are as wide as the model.
        let Some(family) = family.filter(|_| plain && config.heads * config.head_width == config.width)
        else {
            return Err(Error::Family(format!("{name} with these tensor types")));
        };
        if config.experts > 1 && weights.find("blk.0.ffn_gate.0.weight").is_none() {
            return Err(Error::Family(format!("{name} with all experts in one tensor")));
        }
        let used = weights.metadata().unsigned("llama.expert_used_count")?.unwrap_or(0);
        let config = Self {
            family,
            layers: config.layers,
            width: config.width,
            context: config.context.min(family.longest()),
            vocabulary: config.vocabulary,
            ffn: config.ffn,
            heads: config.heads,
            kv_heads: vec![config.kv_heads; config.layers as usize],
            head_width: config.head_width,
            rope_width: config.rope_width,
            rope_base: config.rope_base,
            norm_epsilon: config.norm_epsilon,
            experts: config.experts,
            experts_used: u32::try_from(used).unwrap_or(0).min(config.experts),
            convolution: 0,
        };
        config.check()?;
        config.check_keys(weights)?;
        if config.experts < 2 {
            config.check_tensors(weights)?;
        }
        Ok(config)
    }

    fn other(&self, with: &str) -> Error {
        Error::Family(format!("{} with {with}", self.family.architecture()))
    }

    fn check(&self) -> Result<(), Error> {
        let absurd = |what, value: u32| Err(GgufError::Absurd { what, value: value.into() }.into());
        if self.vocabulary == 0 {
            return absurd("the length of the vocabulary", 0);
        }
        if self.head_width == 0 || !self.head_width.is_multiple_of(2) || self.head_width > WIDEST_HEAD {
            return absurd("the width of a head", self.head_width);
        }
        if self.rope_width > self.head_width || !self.rope_width.is_multiple_of(2) {
            return absurd("the rotated width of a head", self.rope_width);
        }
        if !(self.rope_base.is_finite() && self.rope_base > 1.0) {
            return absurd("the base of the positions", 0);
        }
        if self.family != Family::Glm4 && self.heads * self.head_width != self.width {
            return absurd("the number of heads", self.heads);
        }
        let first = self.kv_heads.first().copied().unwrap_or(0);
        if self.family != Family::Lfm2 && (first == 0 || self.kv_heads.iter().any(|n| *n != first)) {
            return Err(self.other("layers of different kinds"));
        }
        Ok(())
    }

    /// What candle takes for granted.
    fn check_keys(&self, weights: &Weights) -> Result<(), Error> {
        let name = self.family.architecture();
        if config::scaling(weights, name)? != Scaling::None {
            return Err(self.other("scaled positions"));
        }
        let magnitude = weights.metadata().float(&format!("{name}.rope.scaling.attn_factor"))?;
        if magnitude.is_some_and(|factor| factor != 1.0) {
            return Err(self.other("a factor of its rotations"));
        }
        if weights.metadata().get(&format!("{name}.rope.dimension_sections")).is_some() {
            return Err(self.other("positions of several dimensions"));
        }
        let rotated = match self.family {
            Family::Glm4 => self.head_width / 2,
            Family::Qwen2 | Family::Phi3 | Family::Lfm2 => self.head_width,
            Family::Phi2 | Family::Llama => self.rope_width,
        };
        if self.rope_width != rotated {
            return Err(
                self.other(&format!("{} rotated numbers of {} a head", self.rope_width, self.head_width))
            );
        }
        if matches!(self.family, Family::Phi2 | Family::Phi3) && self.rope_base != 10_000.0 {
            return Err(self.other(&format!("positions to the base {}", self.rope_base)));
        }
        if self.family == Family::Phi2 && self.kv_heads.iter().any(|n| *n != self.heads) {
            return Err(self.other("fewer heads of keys than of queries"));
        }
        Ok(())
    }

    fn check_tensors(&self, weights: &Weights) -> Result<(), Error> {
        let wanted = self.tensors(weights);
        for Wanted { name, shape, required } in &wanted {
            if *required || weights.find(name).is_some() {
                config::shaped(weights, name, shape)?;
            }
        }
        let known: std::collections::HashSet<&str> =
            wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        // By name, so that it is the same one each time.
        match weights
            .tensors()
            .map(|view| &view.entry.name)
            .filter(|name| !known.contains(name.as_str()))
            .min()
        {
            Some(name) => Err(self.other(&format!("the tensor {name}"))),
            None => Ok(()),
        }
    }

    /// Every tensor that candle reads of this family. Source: the `from_gguf` of each of its models.
    fn tensors(&self, weights: &Weights) -> Vec<Wanted> {
        let Self { width, ffn, heads, head_width, vocabulary, convolution, .. } = *self;
        let mut out = Vec::new();
        let mut put = |name: String, shape: &[u32], required| {
            out.push(Wanted { name, shape: shape.to_vec(), required });
        };
        let tied = !matches!(self.family, Family::Phi2 | Family::Phi3);
        put("token_embd.weight".to_owned(), &[width, vocabulary], true);
        put("output.weight".to_owned(), &[width, vocabulary], !tied);
        // lfm2's first files have it under the other name.
        let renamed = self.family == Family::Lfm2 && weights.find("output_norm.weight").is_none();
        let norm = if renamed { "token_embd_norm" } else { "output_norm" };
        put(format!("{norm}.weight"), &[width], true);
        if self.family == Family::Phi2 {
            put("output.bias".to_owned(), &[vocabulary], true);
            put("output_norm.bias".to_owned(), &[width], true);
        }
        for (layer, kv_heads) in self.kv_heads.iter().enumerate() {
            let (q, kv) = (heads * head_width, kv_heads * head_width);
            let mut put = |name: &str, shape: &[u32], required| {
                put(format!("blk.{layer}.{name}"), shape, required);
            };
            put("attn_norm.weight", &[width], true);
            if self.family != Family::Phi2 {
                put("ffn_norm.weight", &[width], true);
            }
            put("ffn_down.weight", &[ffn, width], true);
            match self.family {
                Family::Phi2 => {
                    put("attn_norm.bias", &[width], true);
                    put("attn_qkv.weight", &[width, q + 2 * kv], true);
                    put("attn_qkv.bias", &[q + 2 * kv], true);
                    put("attn_output.weight", &[q, width], true);
                    put("attn_output.bias", &[width], true);
                    put("ffn_up.weight", &[width, ffn], true);
                    put("ffn_up.bias", &[ffn], true);
                    put("ffn_down.bias", &[width], true);
                }
                Family::Phi3 => {
                    put("attn_qkv.weight", &[width, q + 2 * kv], true);
                    put("attn_output.weight", &[q, width], true);
                    put("ffn_up.weight", &[width, 2 * ffn], true);
                }
                Family::Glm4 => {
                    for (name, outer) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                        put(&format!("{name}.weight"), &[width, outer], true);
                        put(&format!("{name}.bias"), &[outer], false);
                    }
                    put("attn_output.weight", &[q, width], true);
                    put("ffn_up.weight", &[width, 2 * ffn], true);
                    put("post_attention_norm.weight", &[width], true);
                    put("post_ffw_norm.weight", &[width], true);
                }
                Family::Llama | Family::Qwen2 => {
                    put("ffn_gate.weight", &[width, ffn], true);
                    put("ffn_up.weight", &[width, ffn], true);
                    for (name, outer) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                        put(&format!("{name}.weight"), &[width, outer], true);
                        if self.family == Family::Qwen2 {
                            put(&format!("{name}.bias"), &[outer], true);
                        }
                    }
                    put("attn_output.weight", &[q, width], true);
                }
                Family::Lfm2 => {
                    put("ffn_gate.weight", &[width, ffn], true);
                    put("ffn_up.weight", &[width, ffn], true);
                    if kv > 0 {
                        put("attn_q.weight", &[width, q], true);
                        put("attn_k.weight", &[width, kv], true);
                        put("attn_v.weight", &[width, kv], true);
                        put("attn_output.weight", &[q, width], true);
                        put("attn_q_norm.weight", &[head_width], true);
                        put("attn_k_norm.weight", &[head_width], true);
                    } else {
                        put("shortconv.conv.weight", &[convolution, width], true);
                        put("shortconv.in_proj.weight", &[width, 3 * width], true);
                        put("shortconv.out_proj.weight", &[width, width], true);
                    }
                }
            }
        }
        out
    }

    /// The keys that candle's models ask for, each under its family's name; tables are made for so many positions.
    pub(super) fn metadata(&self, positions: u32) -> HashMap<String, Value> {
        let name = self.family.architecture();
        let kv_heads = match self.family {
            Family::Lfm2 => Value::Array(self.kv_heads.iter().map(|n| Value::U32(*n)).collect()),
            _ => Value::U32(self.kv_heads.first().copied().unwrap_or(self.heads)),
        };
        let mut metadata = HashMap::from([
            ("general.architecture".to_owned(), Value::String(name.to_owned())),
            (format!("{name}.attention.head_count_kv"), kv_heads),
        ]);
        for (what, number) in [
            ("attention.head_count", self.heads),
            ("attention.key_length", self.head_width),
            ("block_count", self.layers),
            ("context_length", positions),
            ("embedding_length", self.width),
            ("expert_count", self.experts),
            ("expert_used_count", self.experts_used),
            ("feed_forward_length", self.ffn),
            ("rope.dimension_count", self.rope_width),
            ("shortconv.l_cache", self.convolution),
        ] {
            metadata.insert(format!("{name}.{what}"), Value::U32(number));
        }
        for (what, number) in [
            ("attention.layer_norm_epsilon", self.norm_epsilon),
            ("attention.layer_norm_rms_epsilon", self.norm_epsilon),
            ("rope.freq_base", self.rope_base),
        ] {
            metadata.insert(format!("{name}.{what}"), Value::F32(number));
        }
        metadata
    }
}

/// Of each layer. A list says none for those that do not attend.
fn kv_heads(weights: &Weights, key: &str, layers: u32, heads: u32) -> Result<Vec<u32>, Error> {
    let metadata = weights.metadata();
    let all = if metadata.length(key).is_some() {
        metadata.numbers(weights.header_bytes(), key)?.unwrap_or_default()
    } else {
        let each = config::optional(metadata, key, config::MOST_HEADS)?.unwrap_or(heads);
        vec![each; layers as usize]
    };
    let sound = |n: &u32| *n == 0 || (*n <= heads && heads.is_multiple_of(*n));
    match all.iter().find(|n| !sound(n)) {
        Some(n) => {
            let what = "the number of key-value heads";
            Err(GgufError::Absurd { what, value: u64::from(*n) }.into())
        }
        None if all.len() != layers as usize => {
            let what = "the length of the list of key-value heads";
            Err(GgufError::Absurd { what, value: all.len() as u64 }.into())
        }
        None => Ok(all),
    }
}

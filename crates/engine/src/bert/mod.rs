//! Embedding models: BERT, mean pooling, vectors of length 1, as sentence-transformers does it for all-MiniLM-L6-v2. Knows
//! no chat. Texts of about one length are computed together, row below row, so nothing is padded.

mod forward;
mod sound;
mod tensors;

use std::fs::File;

use link::{Facts, Footprint};
use serde::Deserialize;
use tokenizers::Tokenizer;
use worker::port::Vectors;

use crate::error::Error;
use crate::facts::PROCESS_BYTES;
use crate::weights::map;
use forward::Encoder;
use tensors::Tensors;

/// sentence-transformers cuts longer texts for this family.
const LONGEST_TEXT: usize = 256;
/// So many tokens are computed together.
pub(crate) const BATCH_TOKENS: usize = 512;
/// No sound configuration comes near it.
const MOST: usize = 1 << 20;

/// The three files of a model.
#[derive(Debug)]
pub(crate) struct BertFiles {
    pub(crate) weights: File,
    pub(crate) config: File,
    pub(crate) tokenizer: File,
}

/// What differs between models, from `config.json`.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "tiny")]
    layer_norm_eps: f32,
    #[serde(default)]
    hidden_act: Activation,
}

/// Between the two matrices of a layer's second half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Activation {
    #[default]
    Gelu,
    Relu,
}

fn two() -> usize {
    2
}

fn tiny() -> f32 {
    1e-12
}

/// A loaded embedding model.
pub(crate) struct Bert {
    encoder: Encoder,
    tokenizer: Tokenizer,
    longest: usize,
}

fn config(file: &File) -> Result<Config, Error> {
    let bad = |why: String| Error::BadPart { what: "config.json", why };
    let config: Config = serde_json::from_slice(&map(file)?).map_err(|why| bad(why.to_string()))?;
    if let Some(kind) = config.model_type.as_deref().filter(|kind| *kind != "bert") {
        return Err(Error::Family(kind.to_owned()));
    }
    let numbers = [
        config.vocab_size,
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.intermediate_size,
        config.max_position_embeddings,
        config.type_vocab_size,
    ];
    if numbers.iter().any(|n| *n == 0 || *n > MOST)
        || !config.hidden_size.is_multiple_of(config.num_attention_heads)
        || !config.hidden_size.is_multiple_of(32)
        || !config.intermediate_size.is_multiple_of(32)
    {
        return Err(bad("its numbers do not fit together".to_owned()));
    }
    Ok(config)
}

/// A model whose headers were read and nothing else.
pub(crate) struct Opened {
    config: Config,
    tensors: Tensors,
    tokenizer: File,
    bytes: u64,
}

impl Opened {
    pub(crate) fn new(files: BertFiles) -> Result<Self, Error> {
        Ok(Self {
            config: config(&files.config)?,
            bytes: files.weights.metadata().map_err(Error::Map)?.len(),
            tensors: Tensors::open(map(&files.weights)?)?,
            tokenizer: files.tokenizer,
        })
    }

    /// Facts of an embedding model.
    pub(crate) fn facts(&self) -> Facts {
        let Self { config, tensors, bytes, .. } = self;
        Facts {
            embedding: true,
            family: "bert".to_owned(),
            quantization: tensors.kind.clone(),
            name: None,
            parameters: tensors.parameters,
            context: config.max_position_embeddings.min(LONGEST_TEXT) as u32,
            has_template: false,
            layers: config.num_hidden_layers as u32,
            width: config.hidden_size as u32,
            vocabulary: config.vocab_size as u32,
            footprint: Footprint {
                weights_bytes: matrices(config),
                mapped_bytes: *bytes,
                kv_bytes_per_token: 0,
                scratch_bytes: scratch(config),
                runtime_bytes: PROCESS_BYTES + (config.vocab_size as u64) * 230,
            },
        }
    }
}

/// The layers' matrices, eight bits and a share of a scale a value; tables stay in the map.
fn matrices(config: &Config) -> u64 {
    let (width, middle) = (config.hidden_size as u64, config.intermediate_size as u64);
    let layer = (4 * width * width + 2 * width * middle) / 32 * 34;
    layer.saturating_mul(config.num_hidden_layers as u64)
}

/// The activations of the longest batch: states and their like, the middle of a layer, both rounded, and keys and values.
fn scratch(config: &Config) -> u64 {
    let (width, middle) = (config.hidden_size as u64, config.intermediate_size as u64);
    let row = 4 * (6 * width + middle) + 11 * middle.max(width) + 4 * width;
    BATCH_TOKENS.max(LONGEST_TEXT) as u64 * row
}

/// The crate panics where a name within the file is no UTF-8, so the file must be sound JSON first.
fn tokenizer(file: &[u8]) -> Result<Tokenizer, Error> {
    let bad = |why: String| Error::BadPart { what: "tokenizer.json", why };
    sound::check(file).map_err(|why| bad(why.to_string()))?;
    Tokenizer::from_bytes(file).map_err(|why| bad(why.to_string()))
}

impl Bert {
    /// Loads all weights.
    pub(crate) fn load(opened: Opened, threads: u32) -> Result<Self, Error> {
        let Opened { config, tensors, .. } = opened;
        let mut tokenizer = tokenizer(&map(&opened.tokenizer)?)?;
        let longest = config.max_position_embeddings.min(LONGEST_TEXT);
        tokenizer.with_padding(None);
        let truncation = tokenizers::TruncationParams { max_length: longest, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|why| Error::Compute(why.to_string()))?;
        let encoder = Encoder::load(tensors, &config, threads)?;
        Ok(Self { encoder, tokenizer, longest })
    }

    /// What serves, for a person.
    pub(crate) fn served_by(&self) -> String {
        format!("innkeeper bert, {}", self.encoder.level().name())
    }

    /// Computes with so many threads from now on.
    pub(crate) fn set_threads(&mut self, n: u32) {
        self.encoder.set_threads(n);
    }

    /// Positions that a text may have.
    pub(crate) fn longest(&self) -> u32 {
        self.longest as u32
    }

    /// One vector a text, in their order. `go_on` is asked before each layer, `step` called after each batch.
    pub(crate) fn embed(
        &mut self,
        texts: &[String],
        go_on: &dyn Fn() -> bool,
        step: &mut dyn FnMut(),
    ) -> Result<Vectors, Error> {
        let mut encoded = Vec::with_capacity(texts.len());
        for (number, text) in texts.iter().enumerate() {
            let ids = self
                .tokenizer
                .encode_fast(text.as_str(), true)
                .map_err(|why| Error::Compute(why.to_string()))?;
            // A tokenizer without frames makes nothing of an empty text; its mean would be nothing too.
            let ids = if ids.is_empty() { vec![0] } else { ids.get_ids().to_vec() };
            encoded.push((number, ids));
        }
        let prompt_tokens = encoded.iter().map(|(_, ids)| ids.len() as u32).sum();
        encoded.sort_by_key(|(_, ids)| ids.len());
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = &encoded[..];
        while let Some((_, first)) = rest.first() {
            let mut tokens = first.len();
            let mut count = 1;
            while let Some((_, ids)) = rest.get(count).filter(|(_, ids)| tokens + ids.len() <= BATCH_TOKENS) {
                tokens += ids.len();
                count += 1;
            }
            let (batch, after) = rest.split_at(count);
            rest = after;
            let ids: Vec<&[u32]> = batch.iter().map(|(_, ids)| &ids[..]).collect();
            for ((number, _), mean) in batch.iter().zip(self.encoder.means(&ids, go_on)?) {
                let length = mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
                vectors[*number] = mean.into_iter().map(|x| (f64::from(x) / length) as f32).collect();
            }
            step();
        }
        Ok(Vectors { vectors, prompt_tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_with_a_name_that_is_no_text_is_refused_and_ends_nobody() {
        let sound = fixtures::Bert::default().tokenizer.to_string();
        assert!(tokenizer(sound.as_bytes()).is_ok());
        let mut broken =
            b"{\"decoder\":{\"lceanu\x86\":true,\"prefix\":\"##\",\"type\":\"WordPiece\"},".to_vec();
        broken.extend_from_slice(&sound.as_bytes()[1..]);
        let Err(Error::BadPart { what, .. }) = tokenizer(&broken) else { panic!("it was taken") };
        assert_eq!(what, "tokenizer.json");
    }
}

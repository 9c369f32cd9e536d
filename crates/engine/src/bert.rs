//! Embedding models: candle-transformers' BERT, mean pooling over the mask, vectors of length 1, as
//! sentence-transformers does it for all-MiniLM-L6-v2. Knows no chat.

use std::fs::File;

use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use link::{Facts, Footprint};
use tokenizers::Tokenizer;
use worker::port::Vectors;

use crate::error::{Error, guarded};
use crate::facts::PROCESS_BYTES;
use crate::weights::map;

/// sentence-transformers cuts longer texts for this family.
const LONGEST_TEXT: usize = 256;
/// Texts of about one length are computed together, so many tokens at once (padding included).
const BATCH_TOKENS: usize = 2048;
/// No sound configuration comes near it.
const MOST: usize = 1 << 20;

/// The three files of a model.
#[derive(Debug)]
pub(crate) struct BertFiles {
    pub(crate) weights: File,
    pub(crate) config: File,
    pub(crate) tokenizer: File,
}

/// A loaded embedding model.
pub(crate) struct Bert {
    model: BertModel,
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
    {
        return Err(bad("its numbers do not fit together".to_owned()));
    }
    Ok(config)
}

/// Facts of an embedding model.
pub(crate) fn facts(files: &BertFiles) -> Result<Facts, Error> {
    let config = config(&files.config)?;
    let bytes = files.weights.metadata().map_err(Error::Map)?.len();
    let (parameters, kind) = header(&files.weights)?;
    Ok(Facts {
        embedding: true,
        family: "bert".to_owned(),
        quantization: kind,
        name: None,
        parameters,
        context: config.max_position_embeddings.min(LONGEST_TEXT) as u32,
        has_template: false,
        layers: config.num_hidden_layers as u32,
        width: config.hidden_size as u32,
        vocabulary: config.vocab_size as u32,
        footprint: Footprint {
            // candle copies every tensor as 32-bit floats.
            weights_bytes: parameters * 4,
            mapped_bytes: bytes,
            kv_bytes_per_token: 0,
            scratch_bytes: scratch(&config),
            runtime_bytes: PROCESS_BYTES + (config.vocab_size as u64) * 230,
        },
    })
}

/// The activations of one batch: candle keeps five of the widest rows and four of the attention scores at once, as
/// measured with the largest batch.
fn scratch(config: &Config) -> u64 {
    let rows = (BATCH_TOKENS * config.intermediate_size * 4) as u64;
    let scores = (BATCH_TOKENS * LONGEST_TEXT * config.num_attention_heads * 4) as u64;
    5 * rows + 4 * scores
}

/// Parameters and the type of most of them, from the header of a safetensors file. Format: eight bytes of length, then
/// JSON.
fn header(file: &File) -> Result<(u64, String), Error> {
    let bad = |why: &str| Error::BadPart { what: "model.safetensors", why: why.to_owned() };
    let bytes = map(file)?;
    let head: [u8; 8] = bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(|| bad("it is cut off"))?;
    let length = usize::try_from(u64::from_le_bytes(head)).ok().filter(|n| *n < 100 << 20);
    let json = length
        .and_then(|length| bytes.get(8..8usize.checked_add(length)?))
        .ok_or_else(|| bad("it is cut off or no safetensors file"))?;
    let tensors: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|why| bad(&why.to_string()))?;
    let mut parameters = 0u64;
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    for (_, tensor) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        let shape = tensor["shape"].as_array().ok_or_else(|| bad("a tensor has no shape"))?;
        let values = shape
            .iter()
            .try_fold(1u64, |product, n| product.checked_mul(n.as_u64()?))
            .and_then(|values| parameters.checked_add(values).map(|_| values))
            .ok_or_else(|| bad("a tensor has an impossible shape"))?;
        parameters += values;
        *kinds.entry(tensor["dtype"].as_str().unwrap_or("F32").to_owned()).or_default() += values;
    }
    let kind = kinds.into_iter().max_by_key(|(_, n)| *n).map_or_else(|| "F32".to_owned(), |(kind, _)| kind);
    Ok((parameters, kind))
}

impl Bert {
    /// Loads all weights.
    pub(crate) fn load(files: &BertFiles) -> Result<Self, Error> {
        let config = config(&files.config)?;
        let mut tokenizer = Tokenizer::from_bytes(&map(&files.tokenizer)?[..])
            .map_err(|why| Error::BadPart { what: "tokenizer.json", why: why.to_string() })?;
        let longest = config.max_position_embeddings.min(LONGEST_TEXT);
        tokenizer.with_padding(None);
        let truncation = tokenizers::TruncationParams { max_length: longest, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|why| Error::Compute(why.to_string()))?;
        let bytes = map(&files.weights)?;
        let model = guarded(|| {
            let builder = VarBuilder::from_slice_safetensors(&bytes, DType::F32, &Device::Cpu)?;
            Ok(BertModel::load(builder, &config)?)
        })
        .map_err(|why| Error::BadPart { what: "model.safetensors", why: why.to_string() })?;
        Ok(Self { model, tokenizer, longest })
    }

    /// Positions that a text may have.
    pub(crate) fn longest(&self) -> u32 {
        self.longest as u32
    }

    /// One vector a text, in their order. `step` is called after each batch.
    pub(crate) fn embed(&self, texts: &[String], step: &mut dyn FnMut()) -> Result<Vectors, Error> {
        let mut encoded = Vec::with_capacity(texts.len());
        for (number, text) in texts.iter().enumerate() {
            let ids = self
                .tokenizer
                .encode_fast(text.as_str(), true)
                .map_err(|why| Error::Compute(why.to_string()))?;
            encoded.push((number, ids.get_ids().to_vec()));
        }
        let prompt_tokens = encoded.iter().map(|(_, ids)| ids.len() as u32).sum();
        encoded.sort_by_key(|(_, ids)| ids.len());
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = &encoded[..];
        while let Some((_, first)) = rest.first() {
            // The batch grows while its longest text, which is its last, leaves room.
            let mut count = 1;
            let mut width = first.len();
            while let Some((_, ids)) = rest.get(count) {
                if ids.len() * (count + 1) > BATCH_TOKENS {
                    break;
                }
                width = ids.len();
                count += 1;
            }
            let (batch, after) = rest.split_at(count);
            rest = after;
            for ((number, _), vector) in batch.iter().zip(guarded(|| self.batch(batch, width.max(1)))?) {
                vectors[*number] = vector;
            }
            step();
        }
        Ok(Vectors { vectors, prompt_tokens })
    }

    fn batch(&self, batch: &[(usize, Vec<u32>)], width: usize) -> Result<Vec<Vec<f32>>, Error> {
        let shape = (batch.len(), width);
        let mut ids = vec![0u32; batch.len() * width];
        let mut mask = vec![0f32; batch.len() * width];
        for (row, (_, text)) in batch.iter().enumerate() {
            ids[row * width..][..text.len()].copy_from_slice(text);
            mask[row * width..][..text.len()].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mut vectors = Vec::with_capacity(batch.len());
        for (row, (_, text)) in batch.iter().enumerate() {
            let mean = states.i((row, ..text.len().max(1)))?.mean(0)?.to_vec1::<f32>()?;
            let length = mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
            vectors.push(mean.into_iter().map(|x| (f64::from(x) / length) as f32).collect());
        }
        Ok(vectors)
    }
}

//! candle-transformers' quantized llama, for what no decoder of our own serves. Each sequence is a clone of the model:
//! the weights are shared, the cache is its own. It copies all weights into private memory and stops at 4,096 positions.

use std::collections::HashMap;
use std::io::{Error as IoError, ErrorKind as IoKind, Read, Seek, SeekFrom};

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo as CandleTensor, Value, VersionedMagic};
use candle_core::{Device, Shape, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::config::{Family, LlamaConfig, Scaling};
use super::{Decoder, Slot, Work};
use crate::error::{Error, guarded};
use crate::gguf::TensorType;
use crate::weights::Weights;

/// Small, because a chunk cannot be interrupted and this decoder is slow.
const CHUNK: usize = 32;

/// What serves, for a person.
pub(crate) const NAME: &str = "candle quantized_llama";

/// candle's model.
pub(crate) struct Stock {
    empty: ModelWeights,
    slots: Vec<Option<Sequence>>,
    context: u32,
    position_bytes: u64,
}

struct Sequence {
    model: ModelWeights,
    length: usize,
}

/// Bytes of one position: keys and values of all layers in f32.
pub(crate) fn position_bytes(config: &LlamaConfig) -> u64 {
    8 * u64::from(config.layers) * u64::from(config.kv_heads) * u64::from(config.head_width)
}

impl Stock {
    /// Loads all weights; `progress` gets bytes done and in all.
    pub(crate) fn load(
        weights: &Weights,
        config: &LlamaConfig,
        context: u32,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let plain = config.family == Family::Llama
            && !config.rope_factors
            && config.scaling == Scaling::None
            && config.rope_magnitude == 1.0;
        // candle takes it that the heads together are as wide as the model.
        if !plain || config.heads * config.head_width != config.width {
            return Err(Error::Family(format!("{} with these tensor types", config.architecture)));
        }
        let (content, mut reader) = describe(weights, config, progress);
        let empty = guarded(|| Ok(ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?))?;
        Ok(Self {
            empty,
            slots: Vec::new(),
            context: context.min(MAX_SEQ_LEN as u32),
            position_bytes: position_bytes(config),
        })
    }

    fn forward(&mut self, work: &Work<'_>) -> Result<Option<Vec<f32>>, Error> {
        let sequence =
            self.slots[work.slot.0].get_or_insert_with(|| Sequence { model: self.empty.clone(), length: 0 });
        let logits = guarded(|| {
            let input = Tensor::new(work.tokens, &Device::Cpu)?.unsqueeze(0)?;
            let logits = sequence.model.forward(&input, sequence.length)?;
            Ok(if work.wants_logits { Some(logits.squeeze(0)?.to_vec1::<f32>()?) } else { None })
        })?;
        sequence.length += work.tokens.len();
        Ok(logits)
    }
}

impl Decoder for Stock {
    fn context(&self) -> u32 {
        self.context
    }

    fn chunk(&self) -> usize {
        CHUNK
    }

    fn open(&mut self) -> Slot {
        let sequence = Some(Sequence { model: self.empty.clone(), length: 0 });
        match self.slots.iter().position(Option::is_none) {
            Some(free) => {
                self.slots[free] = sequence;
                Slot(free)
            }
            None => {
                self.slots.push(sequence);
                Slot(self.slots.len() - 1)
            }
        }
    }

    fn close(&mut self, slot: Slot) {
        self.slots[slot.0] = None;
    }

    fn truncate(&mut self, slot: Slot, keep: usize) -> usize {
        let fits = self.slots[slot.0].as_ref().is_some_and(|sequence| sequence.length == keep);
        if fits {
            return keep;
        }
        self.slots[slot.0] = Some(Sequence { model: self.empty.clone(), length: 0 });
        0
    }

    fn branch(&mut self, slot: Slot, keep: usize) -> (Slot, usize) {
        let new = self.open();
        match &self.slots[slot.0] {
            // candle's tensors are shared and never written to, so a copy costs nothing.
            Some(Sequence { model, length }) if *length == keep => {
                self.slots[new.0] = Some(Sequence { model: model.clone(), length: keep });
                (new, keep)
            }
            _ => (new, 0),
        }
    }

    fn held_bytes(&self, slot: Slot) -> u64 {
        self.slots[slot.0].as_ref().map_or(0, |sequence| sequence.length as u64 * self.position_bytes)
    }

    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        for (number, work) in work.iter().enumerate() {
            if let Some(mut values) = self.forward(work)? {
                logits(number, &mut values);
            }
        }
        Ok(())
    }

    /// candle sizes its pools once, from the environment of the process.
    fn set_threads(&mut self, _: u32) {}
}

/// The file as candle describes it, made from our checked header; offsets count through the tensors one after another.
fn describe<'a>(
    weights: &'a Weights,
    config: &LlamaConfig,
    progress: &'a mut dyn FnMut(u64, u64),
) -> (Content, Joined<'a>) {
    let mut tensor_infos = HashMap::new();
    let mut parts = Vec::new();
    let mut at = 0;
    for view in weights.tensors() {
        // candle wants the outermost dimension first.
        let shape: Vec<usize> = view.entry.shape.iter().rev().map(|n| *n as usize).collect();
        tensor_infos.insert(
            view.entry.name.clone(),
            CandleTensor { ggml_dtype: dtype(view.entry.kind), shape: Shape::from(shape), offset: at },
        );
        parts.push((at, view.bytes));
        at += view.bytes.len() as u64;
    }
    let mut metadata = HashMap::new();
    metadata.insert("general.architecture".to_owned(), Value::String(config.architecture.clone()));
    for (name, value) in [
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("block_count", config.layers),
        ("embedding_length", config.width),
        ("rope.dimension_count", config.rope_width),
        ("expert_count", config.experts),
    ] {
        metadata.insert(format!("llama.{name}"), Value::U32(value));
    }
    if let Ok(Some(used)) = weights.metadata().unsigned("llama.expert_used_count") {
        metadata.insert("llama.expert_used_count".to_owned(), Value::U64(used));
    }
    metadata.insert("llama.rope.freq_base".to_owned(), Value::F32(config.rope_base));
    metadata.insert("llama.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(config.norm_epsilon));
    let content = Content { magic: VersionedMagic::GgufV3, metadata, tensor_infos, tensor_data_offset: 0 };
    (content, Joined { parts, at: 0, end: at, read: 0, progress })
}

fn dtype(kind: TensorType) -> GgmlDType {
    match kind {
        TensorType::F32 => GgmlDType::F32,
        TensorType::F16 => GgmlDType::F16,
        TensorType::Bf16 => GgmlDType::BF16,
        TensorType::Q4_0 => GgmlDType::Q4_0,
        TensorType::Q4_1 => GgmlDType::Q4_1,
        TensorType::Q5_0 => GgmlDType::Q5_0,
        TensorType::Q5_1 => GgmlDType::Q5_1,
        TensorType::Q8_0 => GgmlDType::Q8_0,
        TensorType::Q8_1 => GgmlDType::Q8_1,
        TensorType::Q2K => GgmlDType::Q2K,
        TensorType::Q3K => GgmlDType::Q3K,
        TensorType::Q4K => GgmlDType::Q4K,
        TensorType::Q5K => GgmlDType::Q5K,
        TensorType::Q6K => GgmlDType::Q6K,
        TensorType::Q8K => GgmlDType::Q8K,
    }
}

/// The tensors' bytes one after another, as candle wants to read them, though they lie in several maps.
struct Joined<'a> {
    parts: Vec<(u64, &'a [u8])>,
    at: u64,
    end: u64,
    read: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Read for Joined<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, IoError> {
        let number = self.parts.partition_point(|(start, _)| *start <= self.at);
        let Some((start, bytes)) = number.checked_sub(1).map(|n| self.parts[n]) else { return Ok(0) };
        let rest = bytes.get((self.at - start) as usize..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        self.read += length as u64;
        (self.progress)(self.read.min(self.end), self.end);
        Ok(length)
    }
}

impl Seek for Joined<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, IoError> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| IoError::from(IoKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::llama::{Llama, families};
    use crate::sampler::likeliest;

    fn run(decoder: &mut dyn Decoder, slot: Slot, tokens: &[u32]) -> Vec<f32> {
        let mut made = Vec::new();
        let work = [Work { slot, tokens, wants_logits: true }];
        decoder.run(&work, &mut |_, logits| made = logits.to_vec()).unwrap();
        made
    }

    #[test]
    fn candles_model_says_what_our_own_decoder_says_and_is_cut_and_branched_only_as_a_whole() {
        let weights = families::weights("llama");
        let config = LlamaConfig::read(&weights).unwrap();
        let mut stock = Stock::load(&weights, &config, 256, &mut |_, _| {}).unwrap();
        let mut own = Llama::load(Arc::clone(&weights), config.clone(), 256, 1, &mut |_, _| {}).unwrap();
        let text: Vec<u32> = (0..20).map(|n| n * 7 % config.vocabulary).collect();
        let (slot, other) = (stock.open(), own.open());
        for tokens in [&text[..8], &text[8..9], &text[9..20]] {
            let (made, expected) = (run(&mut stock, slot, tokens), run(&mut own, other, tokens));
            assert_eq!(likeliest(&made), likeliest(&expected));
            let apart = made.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            let size = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(apart < 0.01 * size, "{apart} apart, of {size}");
        }
        assert_eq!(stock.held_bytes(slot), 20 * position_bytes(&config));
        let (branch, kept) = stock.branch(slot, 20);
        assert_eq!(kept, 20);
        assert_eq!(run(&mut stock, branch, &[1, 2]), run(&mut stock, slot, &[1, 2]));
        assert_eq!(stock.branch(slot, 3).1, 0);
        assert_eq!((stock.truncate(slot, 22), stock.truncate(slot, 3), stock.held_bytes(slot)), (22, 0, 0));
        stock.close(slot);
        assert_eq!(stock.open(), slot);
    }

    #[test]
    fn what_candles_model_would_compute_otherwise_or_not_at_all_is_refused_by_name() {
        for name in ["qwen2", "qwen3", "gemma3", "llama yarn", "llama factors", "llama magnitude"] {
            let weights = families::weights(name);
            let config = LlamaConfig::read(&weights).unwrap();
            let refused = Stock::load(&weights, &config, 256, &mut |_, _| {}).err().unwrap();
            assert!(refused.to_string().contains(&config.architecture), "{refused}");
        }
        let weights = families::weights("llama");
        let narrow = LlamaConfig { head_width: 8, ..LlamaConfig::read(&weights).unwrap() };
        assert!(Stock::load(&weights, &narrow, 256, &mut |_, _| {}).is_err());
    }
}

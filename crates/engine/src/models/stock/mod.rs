//! candle-transformers' quantized models, for what no decoder of our own serves. They copy all weights into private memory,
//! keep keys and values as plain floats, read one sequence at a time, and cannot be rewound: a sequence goes on at its end
//! or begins anew.

mod alone;
mod bytes;
pub(crate) mod config;
mod copied;
mod file;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use candle_core::{Device, Result as CandleResult, Tensor};
use candle_transformers::models::{
    quantized_glm4, quantized_lfm2, quantized_llama, quantized_phi, quantized_phi3, quantized_qwen2,
};

use super::{Decoder, Slot};
use crate::error::{Error, guarded};
use crate::weights::Weights;
use alone::Alone;
use config::{CHUNK, Copies, Family, StockConfig};
use copied::Copied;

/// What is used of candle's models. Their panics are caught by [`guarded`], which stands around each call.
trait Model {
    /// The logits after the last of the tokens, one row. The first of them stands at `at`; at 0 a new sequence begins.
    fn read(&mut self, tokens: &Tensor, at: usize) -> CandleResult<Tensor>;

    /// Another one on the same weights, where candle's can be copied.
    fn copy(&self) -> Option<Box<dyn Model>> {
        None
    }

    /// Forgets what it has read; whether candle's can.
    fn clear(&mut self) -> bool {
        false
    }
}

macro_rules! models {
    ($($model:ty: { $($more:tt)* })+) => {$(
        impl Model for $model {
            fn read(&mut self, tokens: &Tensor, at: usize) -> CandleResult<Tensor> {
                self.forward(tokens, at)
            }

            $($more)*
        }
    )+};
}

models! {
    quantized_llama::ModelWeights: {
        fn copy(&self) -> Option<Box<dyn Model>> { Some(Box::new(self.clone())) }
    }
    quantized_phi::ModelWeights: {
        fn copy(&self) -> Option<Box<dyn Model>> { Some(Box::new(self.clone())) }
    }
    quantized_phi3::ModelWeights: {
        fn copy(&self) -> Option<Box<dyn Model>> { Some(Box::new(self.clone())) }
    }
    quantized_glm4::ModelWeights: {
        fn copy(&self) -> Option<Box<dyn Model>> { Some(Box::new(self.clone())) }
    }
    quantized_qwen2::ModelWeights: {
        fn clear(&mut self) -> bool { self.clear_kv_cache(); true }
    }
    quantized_lfm2::ModelWeights: {}
}

/// Loads all weights; `progress` gets bytes done and in all.
pub(crate) fn load(
    weights: Arc<Weights>,
    config: StockConfig,
    context: u32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Box<dyn Decoder>, Error> {
    let context = context.min(config.context);
    let model = build(&weights, &config, context, progress)?;
    Ok(match config.family.copies() {
        Copies::None => Box::new(Alone::new(weights, config, context, model)),
        Copies::Branch | Copies::Empty => Box::new(Copied::new(&config, context, model)),
    })
}

fn build(
    weights: &Weights,
    config: &StockConfig,
    context: u32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Box<dyn Model>, Error> {
    let (content, mut reader) = file::describe(weights, config.metadata(context), progress);
    let (reader, device, kind) = (&mut reader, &Device::Cpu, candle_core::DType::F32);
    guarded(|| {
        Ok(match config.family {
            Family::Llama => {
                Box::new(quantized_llama::ModelWeights::from_gguf(content, reader, device)?) as _
            }
            Family::Qwen2 => {
                Box::new(quantized_qwen2::ModelWeights::from_gguf(content, reader, device)?) as _
            }
            Family::Phi2 => Box::new(quantized_phi::ModelWeights::from_gguf(content, reader, device)?) as _,
            Family::Phi3 => {
                Box::new(quantized_phi3::ModelWeights::from_gguf(false, content, reader, device)?) as _
            }
            Family::Glm4 => {
                Box::new(quantized_glm4::ModelWeights::from_gguf(content, reader, device, kind)?) as _
            }
            Family::Lfm2 => Box::new(quantized_lfm2::ModelWeights::from_gguf(content, reader, device)?) as _,
        })
    })
}

/// Reads the tokens; gives the logits after the last of them if they are wanted.
fn read(model: &mut dyn Model, tokens: &[u32], at: usize, wanted: bool) -> Result<Option<Vec<f32>>, Error> {
    guarded(|| {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.read(&input, at)?;
        Ok(if wanted { Some(logits.squeeze(0)?.to_vec1::<f32>()?) } else { None })
    })
}

/// Refuses what would go beyond the context, for which candle's tables have no positions.
fn check_length(length: usize, more: usize, context: u32) -> Result<(), Error> {
    let tokens = length + more;
    if tokens > context as usize {
        return Err(Error::ContextExceeded { tokens, whole: true, context });
    }
    Ok(())
}

/// The first free place of a list, for a new sequence.
fn place<T>(slots: &mut Vec<Option<T>>, sequence: T) -> Slot {
    match slots.iter().position(Option::is_none) {
        Some(free) => {
            slots[free] = Some(sequence);
            Slot(free)
        }
        None => {
            slots.push(Some(sequence));
            Slot(slots.len() - 1)
        }
    }
}

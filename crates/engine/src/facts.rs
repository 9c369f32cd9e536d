//! What a model is and what it will take, from its header alone.

use std::collections::BTreeMap;

use link::{Facts, Footprint};

use crate::error::Error;
use crate::models::{config::LlamaConfig, llama, stock};
use crate::tokenizer;
use crate::weights::Weights;

/// Positions that a sequence has when nobody asks for another number.
pub(crate) const DEFAULT_CONTEXT: u32 = 8192;
/// The process's own private memory, stacks and regular expressions included, as measured at ready.
pub(crate) const PROCESS_BYTES: u64 = 2 << 20;

/// Facts of a GGUF chat model. A model that nothing here serves is refused.
pub(crate) fn of_gguf(weights: &Weights) -> Result<(Facts, LlamaConfig), Error> {
    let config = LlamaConfig::read(weights)?;
    tokenizer::check(weights)?;
    let facts = Facts {
        embedding: false,
        family: config.architecture.clone(),
        quantization: quantization(weights),
        name: weights.text("general.name")?.map(str::to_owned),
        parameters: weights.tensors().map(|view| view.entry.values()).sum(),
        context: config.context,
        has_template: weights.text("tokenizer.chat_template")?.is_some(),
        layers: config.layers,
        width: config.width,
        vocabulary: config.vocabulary,
        footprint: footprint(weights, &config),
    };
    Ok((facts, config))
}

/// The type of most values.
fn quantization(weights: &Weights) -> String {
    let mut values: BTreeMap<&'static str, u64> = BTreeMap::new();
    for view in weights.tensors() {
        *values.entry(view.entry.kind.name()).or_default() += view.entry.values();
    }
    values.into_iter().max_by_key(|(_, n)| *n).map_or_else(|| "F32".to_owned(), |(name, _)| name.to_owned())
}

fn footprint(weights: &Weights, config: &LlamaConfig) -> Footprint {
    let tensors: u64 = weights.tensors().map(|view| view.bytes.len() as u64).sum();
    let runtime_bytes = PROCESS_BYTES + tokenizer::bytes(weights);
    if llama::serves(weights, config) {
        return Footprint {
            weights_bytes: llama::private_bytes(weights),
            mapped_bytes: tensors,
            kv_bytes_per_token: llama::position_bytes(config),
            scratch_bytes: llama::scratch_bytes(weights, config),
            runtime_bytes,
        };
    }
    // candle makes plain floats of the token table.
    let table = 4 * u64::from(config.vocabulary) * u64::from(config.width);
    Footprint {
        weights_bytes: tensors + table,
        mapped_bytes: 0,
        kv_bytes_per_token: stock::position_bytes(config),
        scratch_bytes: 32 << 20,
        runtime_bytes,
    }
}

//! What a model is and what it will take, from its header alone.

use std::collections::BTreeMap;

use link::{Facts, Footprint};

use crate::error::Error;
use crate::models::{Design, llama};
use crate::tokenizer;
use crate::weights::Weights;

/// Positions that a sequence has when nobody asks for another number.
pub(crate) const DEFAULT_CONTEXT: u32 = 8192;
/// The process's own private memory, stacks and regular expressions included, as measured at ready.
pub(crate) const PROCESS_BYTES: u64 = 2 << 20;

/// Facts of a GGUF chat model. A model that nothing here serves is refused.
pub(crate) fn of_gguf(weights: &Weights) -> Result<(Facts, Design), Error> {
    let design = Design::read(weights)?;
    tokenizer::check(weights)?;
    let (family, context, layers, width, vocabulary) = match &design {
        Design::Own(own) => (own.architecture.as_str(), own.context, own.layers, own.width, own.vocabulary),
        Design::Stock(stock) => {
            (stock.family.architecture(), stock.context, stock.layers, stock.width, stock.vocabulary)
        }
    };
    let facts = Facts {
        embedding: false,
        family: family.to_owned(),
        quantization: quantization(weights),
        name: weights.text("general.name")?.map(str::to_owned),
        parameters: weights.tensors().map(|view| view.entry.values()).sum(),
        context,
        has_template: weights.text("tokenizer.chat_template")?.is_some(),
        layers,
        width,
        vocabulary,
        footprint: footprint(weights, &design),
    };
    Ok((facts, design))
}

/// The type of most values.
fn quantization(weights: &Weights) -> String {
    let mut values: BTreeMap<&'static str, u64> = BTreeMap::new();
    for view in weights.tensors() {
        *values.entry(view.entry.kind.name()).or_default() += view.entry.values();
    }
    values.into_iter().max_by_key(|(_, n)| *n).map_or_else(|| "F32".to_owned(), |(name, _)| name.to_owned())
}

fn footprint(weights: &Weights, design: &Design) -> Footprint {
    let runtime_bytes = PROCESS_BYTES + tokenizer::bytes(weights);
    match design {
        Design::Own(config) => Footprint {
            weights_bytes: llama::private_bytes(weights),
            mapped_bytes: weights.tensors().map(|view| view.bytes.len() as u64).sum(),
            kv_bytes_per_token: llama::position_bytes(config),
            scratch_bytes: llama::scratch_bytes(weights, config),
            runtime_bytes,
        },
        Design::Stock(config) => Footprint {
            weights_bytes: config.private_bytes(weights),
            mapped_bytes: 0,
            kv_bytes_per_token: config.position_bytes(),
            scratch_bytes: config.scratch_bytes(weights),
            runtime_bytes,
        },
    }
}

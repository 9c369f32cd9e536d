//! The files of `tests/golden/stock.json`, made with the generator that made them for llama.cpp.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::Error;
use crate::gguf::TensorType;
use crate::gguf::testing::Builder;
use crate::models::llama::families;
use crate::models::stock::config::StockConfig;
use crate::models::stock::load;
use crate::models::{Decoder, Design};
use crate::weights::Weights;

#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) asked: Vec<usize>,
    pub(super) cases: Vec<Case>,
}

/// A file, and what llama.cpp says of it.
#[derive(Clone, Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) tensors: Vec<(String, Vec<u64>, Values, f64)>,
    pub(super) logits: Vec<Vec<f32>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Key {
    Count(u32),
    Float(f32),
    List(Vec<u32>),
    Text(String),
}

/// What a tensor is filled with: floats of this size, or random blocks of a type.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Values {
    Floats(f64),
    Blocks(String),
}

pub(super) const CONTEXT: u32 = 256;

/// Random blocks whose scales are sound; as `stock.py` makes them.
fn blocks(random: &mut families::Random, values: u64, kind: TensorType) -> Vec<u8> {
    let scales: &[(usize, u16)] = match kind {
        TensorType::Q2K => &[(80, 0x1C00), (82, 0x2000)],
        _ => &[(108, 0x1000)],
    };
    let mut out = Vec::new();
    for _ in 0..values / 256 {
        let bytes = random.many(&[kind.block_bytes()], 1.0, 0.0);
        let mut block: Vec<u8> = bytes.iter().map(|x| (128.0 + 128.0 * f64::from(*x)) as u8).collect();
        for (at, scale) in scales {
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        out.extend(block);
    }
    out
}

pub(super) fn golden() -> Golden {
    let golden: Golden = serde_json::from_str(include_str!("../../../../tests/golden/stock.json")).unwrap();
    assert!(golden.cases.len() >= 7);
    golden
}

pub(super) fn case(name: &str) -> Case {
    golden().cases.into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    pub(super) fn file(&self) -> Builder {
        let mut file = Builder::default();
        for (key, value) in &self.keys {
            file = match value {
                Key::Count(n) => file.u32(key, *n),
                Key::Float(x) => file.f32(key, *x),
                Key::List(list) => file.numbers(key, list),
                Key::Text(text) => file.text(key, text),
            };
        }
        let mut random = families::Random(11);
        for (name, shape, values, middle) in &self.tensors {
            file = match values {
                Values::Floats(scale) => file.floats(name, shape, &random.many(shape, *scale, *middle)),
                Values::Blocks(kind) => {
                    let id = if kind == "Q2_K" { 10 } else { 11 };
                    let kind = TensorType::from_id(id).unwrap();
                    let bytes = blocks(&mut random, shape.iter().product(), kind);
                    file.tensor(name, id, shape, bytes)
                }
            };
        }
        file
    }

    pub(super) fn weights(&self) -> Arc<Weights> {
        open(&self.file())
    }

    pub(super) fn with(mut self, key: &str, value: Key) -> Self {
        self.keys.insert(key.to_owned(), value);
        self
    }

    pub(super) fn decoder(&self) -> Box<dyn Decoder> {
        let weights = self.weights();
        let config = stock(&weights).unwrap();
        load(weights, config, CONTEXT, &mut |_, _| {}).unwrap()
    }
}

fn open(file: &Builder) -> Arc<Weights> {
    let mut on_disk = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut on_disk, &file.build()).unwrap();
    Arc::new(Weights::open(&[on_disk]).unwrap())
}

pub(super) fn stock(weights: &Weights) -> Result<StockConfig, Error> {
    Design::read(weights).map(|design| match design {
        Design::Stock(config) => config,
        Design::Own(config) => panic!("{config:?}"),
    })
}

//! The tensors of a llama-like model: matrices stay where they are in the map, vectors are copied.

use kernels::{Kind, Matrix};

use crate::error::Error;
use crate::gguf::{GgufError, TensorType};
use crate::models::config::{Family, LlamaConfig, shaped};
use crate::weights::{Place, Weights};

/// A matrix of the file.
#[derive(Clone, Debug)]
pub(super) struct MatrixPlace {
    kind: Kind,
    place: Place,
    k: usize,
    n: usize,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) q: MatrixPlace,
    pub(super) k: MatrixPlace,
    pub(super) v: MatrixPlace,
    pub(super) o: MatrixPlace,
    /// Of q, k and v, for families that have them.
    pub(super) biases: [Option<Vec<f32>>; 3],
    /// Norms of each head's queries and keys, for families that have them.
    pub(super) q_norm: Option<Vec<f32>>,
    pub(super) k_norm: Option<Vec<f32>>,
    /// Of what attention and feed-forward add, for families that have them.
    pub(super) post_attention_norm: Option<Vec<f32>>,
    pub(super) post_ffn_norm: Option<Vec<f32>>,
    pub(super) ffn_norm: Vec<f32>,
    pub(super) gate: MatrixPlace,
    pub(super) up: MatrixPlace,
    pub(super) down: MatrixPlace,
}

/// The kernels' name for a tensor type, if they have it.
pub(super) fn kind(kind: TensorType) -> Option<Kind> {
    Some(match kind {
        TensorType::F32 => Kind::F32,
        TensorType::F16 => Kind::F16,
        TensorType::Bf16 => Kind::Bf16,
        TensorType::Q4_0 => Kind::Q4_0,
        TensorType::Q4_1 => Kind::Q4_1,
        TensorType::Q5_0 => Kind::Q5_0,
        TensorType::Q5_1 => Kind::Q5_1,
        TensorType::Q8_0 => Kind::Q8_0,
        TensorType::Q4K => Kind::Q4K,
        TensorType::Q5K => Kind::Q5K,
        TensorType::Q6K => Kind::Q6K,
        TensorType::Q8_1 | TensorType::Q2K | TensorType::Q3K | TensorType::Q8K => return None,
    })
}

impl MatrixPlace {
    /// A matrix that must be there with this shape.
    pub(super) fn find(weights: &Weights, name: &str, k: u32, n: u32) -> Result<Self, Error> {
        let view = shaped(weights, name, &[k, n])?;
        let wrong = || GgufError::WrongType { name: name.to_owned(), kind: view.entry.kind };
        let kind = kind(view.entry.kind).ok_or_else(wrong)?;
        let (k, n) = (k as usize, n as usize);
        Matrix::new(kind, view.bytes, k, n).ok_or_else(wrong)?;
        let place = weights.place(name).ok_or_else(|| GgufError::MissingTensor(name.to_owned()))?;
        Ok(Self { kind, place, k, n })
    }

    /// The matrix itself.
    pub(super) fn view<'a>(&self, weights: &'a Weights) -> Result<Matrix<'a>, Error> {
        Matrix::new(self.kind, weights.at(&self.place), self.k, self.n)
            .ok_or_else(|| Error::Compute("a matrix changed its size".to_owned()))
    }
}

/// A vector that must be there.
pub(super) fn vector(weights: &Weights, name: &str, n: u32) -> Result<Vec<f32>, Error> {
    let view = shaped(weights, name, &[n])?;
    let wrong = || GgufError::WrongType { name: name.to_owned(), kind: view.entry.kind };
    let kind = kind(view.entry.kind).ok_or_else(wrong)?;
    let mut out = vec![0.0; n as usize];
    kernels::dequantise(kind, view.bytes, &mut out);
    Ok(out)
}

fn optional(weights: &Weights, name: &str, n: u32) -> Result<Option<Vec<f32>>, Error> {
    weights.find(name).map(|_| vector(weights, name, n)).transpose()
}

impl Layer {
    /// The matrices that a layer begins with.
    pub(super) fn first<'a>(&self, weights: &'a Weights) -> Result<[Matrix<'a>; 3], Error> {
        Ok([self.q.view(weights)?, self.k.view(weights)?, self.v.view(weights)?])
    }

    pub(super) fn find(weights: &Weights, config: &LlamaConfig, number: u32) -> Result<Self, Error> {
        let name = |what: &str| format!("blk.{number}.{what}");
        let [q, k, v, o, gate, up, down] = config
            .matrices()
            .map(|(what, k, n)| MatrixPlace::find(weights, &name(&format!("{what}.weight")), k, n));
        let (query, key) = (config.heads * config.head_width, config.kv_heads * config.head_width);
        let gemma = config.family == Family::Gemma3;
        let of_gemma = |what: &str| -> Result<Option<Vec<f32>>, Error> {
            gemma.then(|| vector(weights, &name(what), config.width)).transpose()
        };
        Ok(Self {
            post_attention_norm: of_gemma("post_attention_norm.weight")?,
            post_ffn_norm: of_gemma("post_ffw_norm.weight")?,
            attention_norm: vector(weights, &name("attn_norm.weight"), config.width)?,
            ffn_norm: vector(weights, &name("ffn_norm.weight"), config.width)?,
            biases: [
                optional(weights, &name("attn_q.bias"), query)?,
                optional(weights, &name("attn_k.bias"), key)?,
                optional(weights, &name("attn_v.bias"), key)?,
            ],
            q_norm: optional(weights, &name("attn_q_norm.weight"), config.head_width)?,
            k_norm: optional(weights, &name("attn_k_norm.weight"), config.head_width)?,
            q: q?,
            k: k?,
            v: v?,
            o: o?,
            gate: gate?,
            up: up?,
            down: down?,
        })
    }
}

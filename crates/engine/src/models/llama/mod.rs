//! The llama family on the map: llama, mistral, smollm2, smollm3, qwen2, qwen3, gemma3. No weight is copied but the norms;
//! a step stacks the rows of all sequences, so that each matrix is read once for all of them. A row's result depends on its
//! own sequence alone, to the last bit. Once it has seen its largest step, a step allocates nothing but pages.

mod cache;
#[cfg(test)]
mod families;
mod forward;
mod layer;
mod rope;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kernels::{Activations, Level, Pool};

use super::config::LlamaConfig;
use super::{Decoder, Slot, Work};
use crate::chat::PAGE;
use crate::error::Error;
use crate::weights::Weights;
use cache::{Cache, Layout};
use layer::{Layer, MatrixPlace};
use rope::Rope;

/// Rows of a prompt that one step reads.
const CHUNK: usize = PAGE;

/// The model.
pub(crate) struct Llama {
    weights: Arc<Weights>,
    config: LlamaConfig,
    layout: Layout,
    layers: Vec<Layer>,
    table: MatrixPlace,
    output: MatrixPlace,
    output_norm: Vec<f32>,
    /// Rotations of layers that see everything, and of those with a window, if there are any.
    ropes: Vec<Rope>,
    context: u32,
    level: Level,
    pool: Pool,
    caches: Vec<Option<Cache>>,
    arena: Arena,
}

/// Memory of a step, kept for the next one.
#[derive(Default)]
struct Arena {
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    back: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    activations: Activations,
    logits: Vec<f32>,
    /// For each rope, the angles of each row.
    angles: [Vec<(f32, f32)>; 2],
    rows: Vec<Row>,
    /// Numbers of the works that want logits.
    wanted: Vec<usize>,
}

/// A token's place in a step.
#[derive(Clone, Copy)]
struct Row {
    slot: usize,
    position: usize,
}

/// Whether this decoder serves a model.
pub(crate) fn serves(weights: &Weights, config: &LlamaConfig) -> bool {
    config.experts < 2 && weights.tensors().all(|view| layer::kind(view.entry.kind).is_some())
}

/// Bytes of one position: keys and values of all layers as halves.
pub(crate) fn position_bytes(config: &LlamaConfig) -> u64 {
    layout(config).position_bytes() as u64
}

/// Private bytes of the weights: norms and biases alone.
pub(crate) fn private_bytes(weights: &Weights) -> u64 {
    weights.tensors().filter(|view| view.entry.shape.len() == 1).map(|view| view.entry.values() * 4).sum()
}

/// Private bytes of a step at its largest.
pub(crate) fn scratch_bytes(config: &LlamaConfig) -> u64 {
    let heads = u64::from(config.heads * config.head_width);
    let row = 4 * u64::from(config.width)
        + 3 * heads
        + 2 * u64::from(config.ffn)
        + 2 * u64::from(config.ffn.max(config.width));
    (CHUNK as u64) * row * 4 + 16 * 4 * u64::from(config.vocabulary)
}

fn layout(config: &LlamaConfig) -> Layout {
    Layout {
        layers: config.layers as usize,
        heads: config.kv_heads as usize,
        width: config.head_width as usize,
    }
}

impl Llama {
    /// Looks all tensors up; `progress` gets bytes done and in all.
    pub(crate) fn load(
        weights: Arc<Weights>,
        config: LlamaConfig,
        context: u32,
        threads: u32,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let total: u64 = weights.tensors().map(|view| view.bytes.len() as u64).sum();
        let mut layers = Vec::new();
        for number in 0..config.layers {
            layers.push(Layer::find(&weights, &config, number)?);
            progress(total * u64::from(number + 1) / u64::from(config.layers), total);
        }
        let table = MatrixPlace::find(&weights, "token_embd.weight", config.width, config.vocabulary)?;
        let output = match weights.find("output.weight") {
            Some(_) => MatrixPlace::find(&weights, "output.weight", config.width, config.vocabulary)?,
            None => table.clone(),
        };
        let mut ropes = vec![Rope::of_all(&weights, &config)?];
        if config.window.is_some() {
            ropes.push(Rope::plain(config.local_rope_base, config.rope_width));
        }
        Ok(Self {
            layout: layout(&config),
            output_norm: layer::vector(&weights, "output_norm.weight", config.width)?,
            ropes,
            layers,
            table,
            output,
            context,
            level: kernels::level(),
            pool: Pool::new(threads.max(1) as usize),
            caches: Vec::new(),
            arena: Arena::default(),
            weights,
            config,
        })
    }

    /// What serves, for a person.
    pub(crate) fn served_by(&self) -> String {
        format!("innkeeper {}, {}", self.config.architecture, self.level.name())
    }
}

impl Decoder for Llama {
    fn context(&self) -> u32 {
        self.context
    }

    fn chunk(&self) -> usize {
        CHUNK
    }

    fn open(&mut self) -> Slot {
        match self.caches.iter().position(Option::is_none) {
            Some(free) => {
                self.caches[free] = Some(Cache::default());
                Slot(free)
            }
            None => {
                self.caches.push(Some(Cache::default()));
                Slot(self.caches.len() - 1)
            }
        }
    }

    fn close(&mut self, slot: Slot) {
        self.caches[slot.0] = None;
    }

    fn truncate(&mut self, slot: Slot, keep: usize) -> usize {
        let Some(cache) = &mut self.caches[slot.0] else { return 0 };
        cache.truncate(keep);
        cache.length()
    }

    fn held_bytes(&self, slot: Slot) -> u64 {
        self.caches[slot.0].as_ref().map_or(0, |cache| cache.held_bytes(&self.layout))
    }

    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        self.place_rows(work)?;
        self.embed(work)?;
        for number in 0..self.layers.len() {
            self.attend(number)?;
            self.feed_forward(number)?;
        }
        for row in &self.arena.rows {
            if let Some(cache) = &mut self.caches[row.slot] {
                cache.advance(row.position + 1);
            }
        }
        self.head(work, logits)
    }

    fn set_threads(&mut self, n: u32) {
        self.pool.limit(n as usize);
    }
}

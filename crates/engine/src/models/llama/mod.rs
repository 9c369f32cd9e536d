//! The llama family on the map: llama, mistral, smollm2, smollm3, qwen2, qwen3, gemma3. No weight is copied but the norms;
//! a step stacks the rows of all sequences, so that each matrix is read once for all of them. A row's result depends on its
//! own sequence alone, to the last bit. Once it has seen its largest step, a step allocates nothing but pages.

mod cache;
#[cfg(test)]
mod exact;
#[cfg(test)]
pub(super) mod families;
mod forward;
mod layer;
mod rope;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kernels::{Activations, Level, Partials, Pool, Stretch};

use super::config::LlamaConfig;
use super::{Decoder, Slot, Work};
use crate::chat::PAGE;
use crate::error::Error;
use crate::gguf::TensorType;
use crate::weights::Weights;
use cache::{Cache, Layout};
use layer::{Layer, MatrixPlace};
use rope::Rope;

/// Rows of a prompt that one step reads.
const CHUNK: usize = PAGE;
/// Answers beside the chunk, whose logits are all wanted: as many as the server lets one instance make at once.
const BESIDE: usize = 8;

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
    /// The rows of each work.
    stretches: Vec<Stretch>,
    partials: Partials,
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

/// Private bytes of a step at its largest: a chunk of a prompt beside answers that are being made.
pub(crate) fn scratch_bytes(weights: &Weights, config: &LlamaConfig) -> u64 {
    let (chunk, beside) = (CHUNK as u64, BESIDE as u64);
    // Threads with panels and queries of their own: the server gives a worker as many as the machine has.
    let threads = std::thread::available_parallelism().map_or(8, |n| n.get() as u64);
    let [width, ffn, vocabulary] = [config.width, config.ffn, config.vocabulary].map(u64::from);
    let [heads, kv] = [config.heads, config.kv_heads].map(|n| u64::from(n * config.head_width));
    let widest = width.max(ffn).max(heads);
    // What goes from one matrix to the next, then the same as it is where a matrix wants it so or cannot have it otherwise,
    // and rounded, with its scales and sums.
    let wants_floats = |kind| matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
    let exact = [width, ffn, heads].iter().any(|width| !width.is_multiple_of(32))
        || weights.tensors().any(|view| view.entry.shape.len() > 1 && wants_floats(view.entry.kind));
    let floats = 3 * width + 2 * heads + 2 * kv + 2 * ffn + if exact { widest } else { 0 };
    let row = 4 * floats + widest + widest / 2 + 8 * u64::from(config.rope_width);
    // A block of a panel takes 24 bytes for each value of a row; two dozen queries and their scores.
    let thread = 24 * widest + 4 * 24 * (3 * u64::from(config.head_width) + PAGE as u64);
    (chunk + beside) * row + beside * 4 * vocabulary + threads * thread
}

impl Arena {
    /// Room for the largest step, before the first one: steps that grew it bit by bit would leave holes in the allocator's
    /// memory, more or fewer by how requests happened to meet. What is not yet written to takes no memory.
    fn of(config: &LlamaConfig) -> Self {
        let mut arena = Self::default();
        let [width, ffn, vocabulary] = [config.width, config.ffn, config.vocabulary].map(|n| n as usize);
        let [heads, kv] = [config.heads, config.kv_heads].map(|n| (n * config.head_width) as usize);
        let rows = CHUNK + BESIDE;
        for (floats, width) in [
            (&mut arena.x, width),
            (&mut arena.normed, width),
            (&mut arena.back, width),
            (&mut arena.q, heads),
            (&mut arena.mixed, heads),
            (&mut arena.k, kv),
            (&mut arena.v, kv),
            (&mut arena.gate, ffn),
            (&mut arena.up, ffn),
        ] {
            floats.reserve_exact(rows * width);
        }
        arena.logits.reserve_exact(BESIDE * vocabulary);
        arena.activations.reserve(rows, width.max(ffn).max(heads));
        arena
            .angles
            .iter_mut()
            .for_each(|angles| angles.reserve_exact(rows * config.rope_width as usize / 2));
        arena
    }
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
            ropes.push(Rope::of_windows(&config));
        }
        let level = kernels::level();
        let mut arena = Arena::of(&config);
        arena.partials.reserve(&forward::look(&config, level, 0), threads.max(1) as usize, context as usize);
        Ok(Self {
            layout: layout(&config),
            output_norm: layer::vector(&weights, "output_norm.weight", config.width)?,
            ropes,
            layers,
            table,
            output,
            context,
            level,
            pool: Pool::new(threads.max(1) as usize),
            caches: Vec::new(),
            arena,
            weights,
            config,
        })
    }

    /// What serves, for a person.
    pub(crate) fn served_by(&self) -> String {
        let tiles = if self.level == Level::Avx512Vnni && kernels::has_tiles() { " and AMX" } else { "" };
        format!("innkeeper {}, {}{tiles}", self.config.architecture, self.level.name())
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

    fn branch(&mut self, slot: Slot, keep: usize) -> (Slot, usize) {
        let new = self.open();
        let copy = self.caches[slot.0].as_ref().map(|cache| cache.branch(&self.layout, keep));
        // Without memory for a copy everything is read again, and there it is refused.
        if let Some(Ok(copy)) = copy {
            self.caches[new.0] = Some(copy);
        }
        (new, self.caches[new.0].as_ref().map_or(0, Cache::length))
    }

    fn held_bytes(&self, slot: Slot) -> u64 {
        self.caches[slot.0].as_ref().map_or(0, |cache| cache.held_bytes(&self.layout))
    }

    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        self.run_while(work, &|| true, logits)
    }

    fn run_while(
        &mut self,
        work: &[Work<'_>],
        go_on: &dyn Fn() -> bool,
        logits: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Error> {
        self.place_rows(work)?;
        self.embed(work)?;
        for number in 0..self.layers.len() {
            // Nothing counts as filled before the last layer, and is written anew the next time.
            if !go_on() {
                return Err(Error::Interrupted);
            }
            self.attend(number)?;
            self.feed_forward(number)?;
            worker::port::beat();
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

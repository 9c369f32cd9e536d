//! The llama family on the map: llama, mistral, smollm, qwen2, qwen3. No weight is copied but the norms; a step stacks the
//! rows of all sequences, so that each matrix is read once for all of them. A row's result depends on its own sequence
//! alone, to the last bit.

mod cache;
mod layer;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kernels::{Activations, Attention, Job, Level, Pool};

use super::config::LlamaConfig;
use super::{Decoder, Slot, Work};
use crate::chat::PAGE;
use crate::error::Error;
use crate::weights::Weights;
use cache::{Cache, Layout};
use layer::{Layer, MatrixPlace};

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
    frequencies: Vec<f64>,
    /// Pairs of a rotation lie half a head apart.
    halves: bool,
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
    angles: Vec<(f32, f32)>,
}

/// A token's place in a step.
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
        let pairs = config.rope_width / 2;
        let factors = match config.rope_factors {
            true => layer::vector(&weights, "rope_freqs.weight", pairs)?,
            false => vec![1.0; pairs as usize],
        };
        let base = f64::from(config.rope_base);
        let frequency = |(i, factor): (usize, &f32)| {
            base.powf(-2.0 * i as f64 / f64::from(config.rope_width)) / f64::from(*factor)
        };
        Ok(Self {
            layout: layout(&config),
            output_norm: layer::vector(&weights, "output_norm.weight", config.width)?,
            frequencies: factors.iter().enumerate().map(frequency).collect(),
            halves: config.family.starts_with("qwen"),
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
        format!("innkeeper llama, {}", self.level.name())
    }

    fn place_rows(&mut self, work: &[Work<'_>]) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for work in work {
            let slot = work.slot.0;
            let cache = self.caches[slot].get_or_insert_with(Cache::default);
            cache.grow(&self.layout, work.tokens.len())?;
            rows.extend((0..work.tokens.len()).map(|at| Row { slot, position: cache.length() + at }));
        }
        Ok(rows)
    }

    fn embed(&mut self, work: &[Work<'_>], rows: &[Row]) -> Result<(), Error> {
        let width = self.config.width as usize;
        let table = self.table.view(&self.weights)?;
        let arena = &mut self.arena;
        arena.x.resize(rows.len() * width, 0.0);
        let tokens = work.iter().flat_map(|work| work.tokens);
        for (token, x) in tokens.zip(arena.x.chunks_exact_mut(width)) {
            let token = (*token as usize).min(table.n() - 1);
            table.dequantise_row(token, x);
        }
        arena.angles.clear();
        for row in rows {
            let angle = |frequency: &f64| {
                let (sin, cos) = (row.position as f64 * frequency).sin_cos();
                (cos as f32, sin as f32)
            };
            arena.angles.extend(self.frequencies.iter().map(angle));
        }
        Ok(())
    }

    fn attend(&mut self, number: usize, rows: &[Row]) -> Result<(), Error> {
        let Self { weights, config, layers, arena, pool, level, layout, caches, .. } = self;
        let layer = &layers[number];
        let width = config.width as usize;
        let head = config.head_width as usize;
        let (q_width, kv_width) = (config.heads as usize * head, config.kv_heads as usize * head);
        normed(pool, &arena.x, &layer.attention_norm, config.norm_epsilon, &mut arena.normed);
        let exact = [&layer.q, &layer.k, &layer.v].iter().any(|matrix| matrix.reads_floats());
        arena.activations.fill(pool, *level, &arena.normed, width, exact);
        arena.q.resize(rows.len() * q_width, 0.0);
        arena.k.resize(rows.len() * kv_width, 0.0);
        arena.v.resize(rows.len() * kv_width, 0.0);
        let mut jobs = [
            Job { matrix: layer.q.view(weights)?, out: &mut arena.q },
            Job { matrix: layer.k.view(weights)?, out: &mut arena.k },
            Job { matrix: layer.v.view(weights)?, out: &mut arena.v },
        ];
        kernels::matmul(pool, *level, &arena.activations, &mut jobs);
        let pairs = self.frequencies.len();
        for (at, row) in rows.iter().enumerate() {
            let (q, k, v) = (
                &mut arena.q[at * q_width..][..q_width],
                &mut arena.k[at * kv_width..][..kv_width],
                &mut arena.v[at * kv_width..][..kv_width],
            );
            for (values, bias) in [&mut *q, &mut *k, &mut *v].into_iter().zip(&layer.biases) {
                if let Some(bias) = bias {
                    rows::add(values, bias);
                }
            }
            let angles = &arena.angles[at * pairs..][..pairs];
            for (values, norm) in [(q, &layer.q_norm), (&mut *k, &layer.k_norm)] {
                if let Some(norm) = norm {
                    rows::norm_heads(values, norm, config.norm_epsilon);
                }
                rows::rotate(values, head, angles, self.halves);
            }
            if let Some(cache) = &mut caches[row.slot] {
                cache.write(layout, number, row.position, k, v);
            }
        }
        // One item for each row and key-value head; the heads of its group lie side by side.
        let group = q_width / config.kv_heads as usize;
        arena.mixed.resize(rows.len() * q_width, 0.0);
        let (queries, kv_heads) = (&arena.q, config.kv_heads as usize);
        let scale = 1.0 / (head as f32).sqrt();
        let view = |item: usize, out: &mut [f32]| {
            let (row, kv_head) = (&rows[item / kv_heads], item % kv_heads);
            if let Some(cache) = &caches[row.slot] {
                let length = row.position + 1;
                let attention = Attention { level: *level, width: head, from: 0, length, page: PAGE, scale };
                let pages = |page| cache.page(layout, number, kv_head, page);
                attention.run(&queries[item * group..][..group], pages, out);
            }
        };
        each(pool, &mut arena.mixed, group, &view);
        arena.activations.fill(pool, *level, &arena.mixed, q_width, layer.o.reads_floats());
        arena.back.resize(rows.len() * width, 0.0);
        let mut jobs = [Job { matrix: layer.o.view(weights)?, out: &mut arena.back }];
        kernels::matmul(pool, *level, &arena.activations, &mut jobs);
        rows::add(&mut arena.x, &arena.back);
        Ok(())
    }

    fn feed_forward(&mut self, number: usize, rows: usize) -> Result<(), Error> {
        let Self { weights, config, layers, arena, pool, level, .. } = self;
        let layer = &layers[number];
        let (width, ffn) = (config.width as usize, config.ffn as usize);
        normed(pool, &arena.x, &layer.ffn_norm, config.norm_epsilon, &mut arena.normed);
        let exact = layer.gate.reads_floats() || layer.up.reads_floats();
        arena.activations.fill(pool, *level, &arena.normed, width, exact);
        arena.gate.resize(rows * ffn, 0.0);
        arena.up.resize(rows * ffn, 0.0);
        let mut jobs = [
            Job { matrix: layer.gate.view(weights)?, out: &mut arena.gate },
            Job { matrix: layer.up.view(weights)?, out: &mut arena.up },
        ];
        kernels::matmul(pool, *level, &arena.activations, &mut jobs);
        let up = &arena.up;
        let part = ffn.div_ceil(2).max(256);
        each(pool, &mut arena.gate, part, &|at, gate| rows::gated(gate, &up[at * part..][..gate.len()]));
        arena.activations.fill(pool, *level, &arena.gate, ffn, layer.down.reads_floats());
        let mut jobs = [Job { matrix: layer.down.view(weights)?, out: &mut arena.back }];
        kernels::matmul(pool, *level, &arena.activations, &mut jobs);
        rows::add(&mut arena.x, &arena.back);
        Ok(())
    }

    /// The logits of the last rows of those that want them.
    fn head(&mut self, work: &[Work<'_>], out: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        let Self { weights, config, arena, pool, level, .. } = self;
        let (width, vocabulary) = (config.width as usize, config.vocabulary as usize);
        let mut wanted = Vec::new();
        let mut last = 0;
        arena.back.clear();
        for (number, work) in work.iter().enumerate() {
            last += work.tokens.len();
            if work.wants_logits {
                wanted.push(number);
                arena.back.extend_from_slice(&arena.x[(last - 1) * width..last * width]);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        normed(pool, &arena.back, &self.output_norm, config.norm_epsilon, &mut arena.normed);
        arena.activations.fill(pool, *level, &arena.normed, width, self.output.reads_floats());
        arena.logits.resize(wanted.len() * vocabulary, 0.0);
        let mut jobs = [Job { matrix: self.output.view(weights)?, out: &mut arena.logits }];
        kernels::matmul(pool, *level, &arena.activations, &mut jobs);
        for (number, logits) in wanted.into_iter().zip(arena.logits.chunks_exact_mut(vocabulary)) {
            out(number, logits);
        }
        Ok(())
    }
}

/// Norms of all rows.
fn normed(pool: &mut Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    let width = weight.len();
    each(pool, out, width, &|row, out| rows::norm(&x[row * width..][..width], weight, epsilon, out));
}

/// Gives each piece of `size`, with its number, to `work`; a few small pieces are done by the caller alone.
fn each(pool: &mut Pool, out: &mut [f32], size: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let share = out.len().div_ceil(size).div_ceil(pool.threads() * 4);
    if share < 2 && size < 1024 {
        out.chunks_mut(size).enumerate().for_each(|(number, piece)| work(number, piece));
    } else {
        pool.each_mut(out, size, share, work);
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
        let rows = self.place_rows(work)?;
        self.embed(work, &rows)?;
        for number in 0..self.layers.len() {
            self.attend(number, &rows)?;
            self.feed_forward(number, rows.len())?;
        }
        for row in &rows {
            if let Some(cache) = &mut self.caches[row.slot] {
                cache.advance(row.position + 1);
            }
        }
        self.head(work, logits)
    }

    fn set_threads(&mut self, n: u32) {
        if self.pool.threads() != n as usize {
            self.pool = Pool::new(n as usize);
        }
    }
}

//! One step: from tokens through the layers to logits, on the arena.

use kernels::{Activations, Attention, Job, Level, Matrix, Pool, Stretch, rows};

use super::cache::Cache;
use super::{Arena, Llama, Row};
use crate::chat::PAGE;
use crate::error::Error;
use crate::models::Work;
use crate::models::config::{Family, LlamaConfig};

impl Llama {
    pub(super) fn place_rows(&mut self, work: &[Work<'_>]) -> Result<(), Error> {
        self.arena.rows.clear();
        self.arena.stretches.clear();
        for work in work {
            let slot = work.slot.0;
            let cache = self.caches[slot].get_or_insert_default();
            cache.grow(&self.layout, work.tokens.len())?;
            let position = cache.length();
            let (row, rows) = (self.arena.rows.len(), work.tokens.len());
            self.arena.stretches.push(Stretch { row, rows, position, sequence: slot });
            self.arena.rows.extend((0..work.tokens.len()).map(|at| Row { slot, position: position + at }));
        }
        Ok(())
    }

    pub(super) fn embed(&mut self, work: &[Work<'_>]) -> Result<(), Error> {
        let width = self.config.width as usize;
        let table = self.table.view(&self.weights)?;
        let arena = &mut self.arena;
        arena.x.resize(arena.rows.len() * width, 0.0);
        let tokens = work.iter().flat_map(|work| work.tokens);
        for (token, x) in tokens.zip(arena.x.chunks_exact_mut(width)) {
            let token = (*token as usize).min(table.n() - 1);
            table.dequantise_row(token, x);
        }
        let scale = self.config.embedding_scale();
        if scale != 1.0 {
            arena.x.iter_mut().for_each(|x| *x *= scale);
        }
        for (rope, angles) in self.ropes.iter().zip(&mut arena.angles) {
            angles.clear();
            arena.rows.iter().for_each(|row| rope.angles(row.position, angles));
        }
        Ok(())
    }

    pub(super) fn attend(&mut self, number: usize) -> Result<(), Error> {
        let Self { weights, config, layers, arena, pool, level, .. } = self;
        let layer = &layers[number];
        let (count, width, epsilon) = (arena.rows.len(), config.width as usize, config.norm_epsilon);
        let head = config.head_width as usize;
        let (q_width, kv_width) = (config.heads as usize * head, config.kv_heads as usize * head);
        normed(pool, *level, &arena.x, &layer.attention_norm, epsilon, &mut arena.normed);
        for (out, width) in [(&mut arena.q, q_width), (&mut arena.k, kv_width), (&mut arena.v, kv_width)] {
            out.resize(count * width, 0.0);
        }
        let matrices = layer.first(weights)?;
        let outs = [&mut arena.q[..], &mut arena.k[..], &mut arena.v[..]];
        let next = [layer.o.view(weights)?];
        multiply(pool, *level, &mut arena.activations, &arena.normed, matrices, outs, &next);
        self.turn(number);
        self.write_and_look(number);
        let Self { weights, config, layers, arena, pool, level, .. } = self;
        let layer = &layers[number];
        arena.back.resize(count * width, 0.0);
        let matrices = [layer.o.view(weights)?];
        let next = [layer.gate.view(weights)?, layer.up.view(weights)?];
        multiply(pool, *level, &mut arena.activations, &arena.mixed, matrices, [&mut arena.back[..]], &next);
        let norm = layer.post_attention_norm.as_deref();
        add_rows(pool, *level, &mut arena.x, &mut arena.back, width, norm, config.norm_epsilon);
        Ok(())
    }

    /// Biases, norms of heads, and positions.
    fn turn(&mut self, number: usize) {
        let Self { config, layers, arena, pool, ropes, level, .. } = self;
        let (layer, level) = (&layers[number], *level);
        let (head, epsilon) = (config.head_width as usize, config.norm_epsilon);
        let which = usize::from(config.has_window(number as u32));
        let (pairs, angles) = (ropes[which].pairs(), &arena.angles[which]);
        let (rotates, halves) = (config.rotates(number as u32), config.rotates_halves());
        let [q_bias, k_bias, v_bias] = &layer.biases;
        for (values, bias, norm, heads) in [
            (&mut arena.q, q_bias, &layer.q_norm, config.heads as usize),
            (&mut arena.k, k_bias, &layer.k_norm, config.kv_heads as usize),
        ] {
            each(pool, values, heads * head, &|row, values| {
                if let Some(bias) = bias {
                    rows::add(level, values, bias);
                }
                if let Some(norm) = norm {
                    rows::norm_heads(level, values, norm, epsilon);
                }
                if rotates {
                    rows::rotate(level, values, head, &angles[row * pairs..][..pairs], halves);
                }
            });
        }
        if let Some(bias) = v_bias {
            arena.v.chunks_exact_mut(bias.len()).for_each(|row| rows::add(level, row, bias));
        }
    }

    /// Keys and values go into the caches; then every row looks at what its sequence has.
    fn write_and_look(&mut self, number: usize) {
        let Self { config, arena, pool, level, layout, caches, .. } = self;
        let (head, kv_heads) = (config.head_width as usize, config.kv_heads as usize);
        let keys = arena.k.chunks_exact(kv_heads * head);
        let values = arena.v.chunks_exact(kv_heads * head);
        for (row, (keys, values)) in arena.rows.iter().zip(keys.zip(values)) {
            if let Some(cache) = &mut caches[row.slot] {
                cache.write(layout, number, row.position, keys, values);
            }
        }
        arena.mixed.resize(arena.q.len(), 0.0);
        let look = look(config, *level, number as u32);
        // Every sequence of a step has a cache: `place_rows` saw to it.
        let nothing = Cache::default();
        let pages = |sequence: usize, head: usize, page: usize| {
            caches[sequence].as_ref().unwrap_or(&nothing).page(layout, number, head, page)
        };
        let Arena { partials, stretches, q, mixed, .. } = arena;
        look.run(pool, partials, stretches, q, &pages, mixed);
    }

    pub(super) fn feed_forward(&mut self, number: usize) -> Result<(), Error> {
        let Self { weights, config, layers, output, arena, pool, level, .. } = self;
        let layer = &layers[number];
        let (ffn, epsilon) = (config.ffn as usize, config.norm_epsilon);
        normed(pool, *level, &arena.x, &layer.ffn_norm, epsilon, &mut arena.normed);
        arena.gate.resize(arena.rows.len() * ffn, 0.0);
        arena.up.resize(arena.rows.len() * ffn, 0.0);
        let matrices = [layer.gate.view(weights)?, layer.up.view(weights)?];
        let outs = [&mut arena.gate[..], &mut arena.up[..]];
        let next = [layer.down.view(weights)?];
        multiply(pool, *level, &mut arena.activations, &arena.normed, matrices, outs, &next);
        let (up, gelu, level_now) = (&arena.up, config.family == Family::Gemma3, *level);
        let part = ffn.div_ceil(2).max(256);
        each(pool, &mut arena.gate, part, &|at, gate| {
            let up = &up[at * part..][..gate.len()];
            match gelu {
                true => rows::gated_by_gelu(level_now, gate, up),
                false => rows::gated(level_now, gate, up),
            }
        });
        let matrices = [layer.down.view(weights)?];
        let (after, head) = (layers.get(number + 1), [output.view(weights)?]);
        let after = after.map(|layer| layer.first(weights)).transpose()?;
        let next = after.as_ref().map_or(&head[..], |matrices| &matrices[..]);
        multiply(pool, *level, &mut arena.activations, &arena.gate, matrices, [&mut arena.back[..]], next);
        let (width, norm) = (config.width as usize, layer.post_ffn_norm.as_deref());
        add_rows(pool, *level, &mut arena.x, &mut arena.back, width, norm, epsilon);
        Ok(())
    }

    /// The logits of the last rows of those that want them.
    pub(super) fn head(
        &mut self,
        work: &[Work<'_>],
        out: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Error> {
        let Self { weights, config, layers, arena, pool, level, .. } = self;
        let (width, vocabulary) = (config.width as usize, config.vocabulary as usize);
        let mut last = 0;
        arena.wanted.clear();
        arena.back.clear();
        for (number, work) in work.iter().enumerate() {
            last += work.tokens.len();
            if work.wants_logits {
                arena.wanted.push(number);
                arena.back.extend_from_slice(&arena.x[(last - 1) * width..last * width]);
            }
        }
        if arena.wanted.is_empty() {
            return Ok(());
        }
        normed(pool, *level, &arena.back, &self.output_norm, config.norm_epsilon, &mut arena.normed);
        arena.logits.resize(arena.wanted.len() * vocabulary, 0.0);
        let matrices = [self.output.view(weights)?];
        let (next, outs) = (layers[0].first(weights)?, [&mut arena.logits[..]]);
        multiply(pool, *level, &mut arena.activations, &arena.normed, matrices, outs, &next);
        for (number, logits) in arena.wanted.iter().zip(arena.logits.chunks_exact_mut(vocabulary)) {
            out(*number, logits);
        }
        Ok(())
    }
}

/// How a layer looks.
pub(super) fn look(config: &LlamaConfig, level: Level, layer: u32) -> Attention {
    Attention {
        level,
        heads: config.heads as usize,
        kv_heads: config.kv_heads as usize,
        width: config.head_width as usize,
        page: PAGE,
        window: config.window.filter(|_| config.has_window(layer)).map(|window| window as usize),
        causal: true,
        scale: config.score_scale(),
    }
}

/// Rounds `values` once, and multiplies them with each matrix; `next` are those that the call after this multiplies.
fn multiply<const N: usize>(
    pool: &mut Pool,
    level: Level,
    activations: &mut Activations,
    values: &[f32],
    matrices: [Matrix<'_>; N],
    outs: [&mut [f32]; N],
    next: &[Matrix<'_>],
) {
    let exact = matrices.iter().any(Matrix::reads_floats);
    activations.fill(pool, level, values, matrices[0].k(), exact);
    let mut outs = outs.into_iter();
    let mut jobs = matrices.map(|matrix| Job { matrix, out: outs.next().unwrap_or_default() });
    kernels::expect(pool, activations, next);
    kernels::matmul(pool, activations, &mut jobs);
}

/// Norms of all rows.
fn normed(pool: &mut Pool, level: Level, x: &[f32], weight: &[f32], epsilon: f32, out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    let width = weight.len();
    each(pool, out, width, &|row, out| rows::norm(level, &x[row * width..][..width], weight, epsilon, out));
}

/// Adds `more` to `x`, each row normed by `weight` if there is one.
fn add_rows(
    pool: &mut Pool,
    level: Level,
    x: &mut [f32],
    more: &mut [f32],
    width: usize,
    weight: Option<&[f32]>,
    epsilon: f32,
) {
    if let Some(weight) = weight {
        each(pool, more, width, &|_, more| rows::norm_heads(level, more, weight, epsilon));
    }
    each(pool, x, width, &|row, x| rows::add(level, x, &more[row * width..][..width]));
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

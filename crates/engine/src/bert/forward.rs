//! BERT's encoder on rows of several texts at once, through the house's kernels. The large matrices are rounded to eight bits
//! when they are loaded; tables of embeddings stay in the map. Sources: Devlin et al., 2018; huggingface's `modeling_bert.py`.

use std::ops::Range;

use kernels::{
    Activations, Attention, Job, KEY_BLOCK, Kind, Level, Matrix, Page, Partials, Pool, Stretch, quantise,
    rows, write_halves,
};

use super::tensors::{Table, Tensors};
use super::{Activation, Config, LONGEST_TEXT};
use crate::error::Error;

/// A matrix with a bias.
struct Linear {
    bytes: Vec<u8>,
    k: usize,
    n: usize,
    bias: Vec<f32>,
}

/// A norm with mean, weight and bias.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    out_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

/// The encoder.
pub(super) struct Encoder {
    tensors: Tensors,
    words: Table,
    positions: Table,
    kind: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    width: usize,
    vocabulary: usize,
    epsilon: f32,
    activation: Activation,
    level: Level,
    pool: Pool,
    arena: Arena,
}

/// Memory of a batch, kept for the next.
#[derive(Default)]
struct Arena {
    x: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    back: Vec<f32>,
    middle: Vec<f32>,
    keys: Vec<u16>,
    values: Vec<u16>,
    rounded: Rounded,
    partials: Partials,
    stretches: Vec<Stretch>,
    /// Of each text, where its keys and values begin, in positions.
    starts: Vec<usize>,
}

/// Activations, what rounding took from them, and the second's products.
#[derive(Default)]
struct Rounded {
    first: Activations,
    second: Activations,
    residue: Vec<f32>,
    more: Vec<f32>,
}

impl Linear {
    fn load(pool: &mut Pool, tensors: &Tensors, name: &str, k: usize, n: usize) -> Result<Self, Error> {
        let (kind, values) = tensors.bytes(&format!("{name}.weight"), &[n, k])?;
        let bias = tensors.values(&format!("{name}.bias"), &[n])?;
        Ok(Self { bytes: quantise(pool, kind, values), k, n, bias })
    }

    fn matrix(&self) -> Result<Matrix<'_>, Error> {
        Matrix::new(Kind::Q8_0, &self.bytes, self.k, self.n)
            .ok_or_else(|| Error::Compute("a matrix has another size".to_owned()))
    }
}

impl Norm {
    fn load(tensors: &Tensors, name: &str, width: usize) -> Result<Self, Error> {
        let part = |part: &str| tensors.values(&format!("{name}.{part}"), &[width]);
        Ok(Self { weight: part("weight")?, bias: part("bias")? })
    }

    fn apply(&self, level: Level, x: &mut [f32], epsilon: f32) {
        rows::norm_with_mean(level, x, &self.weight, &self.bias, epsilon);
    }
}

impl Layer {
    fn load(pool: &mut Pool, tensors: &Tensors, config: &Config, number: usize) -> Result<Self, Error> {
        let name = |what: &str| format!("encoder.layer.{number}.{what}");
        let (width, middle) = (config.hidden_size, config.intermediate_size);
        let mut linear = |what: &str, k, n| Linear::load(pool, tensors, &name(what), k, n);
        Ok(Self {
            query: linear("attention.self.query", width, width)?,
            key: linear("attention.self.key", width, width)?,
            value: linear("attention.self.value", width, width)?,
            out: linear("attention.output.dense", width, width)?,
            out_norm: Norm::load(tensors, &name("attention.output.LayerNorm"), width)?,
            up: linear("intermediate.dense", width, middle)?,
            down: linear("output.dense", middle, width)?,
            down_norm: Norm::load(tensors, &name("output.LayerNorm"), width)?,
        })
    }
}

impl Encoder {
    pub(super) fn load(tensors: Tensors, config: &Config, threads: u32) -> Result<Self, Error> {
        let (width, vocabulary) = (config.hidden_size, config.vocab_size);
        let mut pool = Pool::new(threads.max(1) as usize);
        let layers = (0..config.num_hidden_layers)
            .map(|number| Layer::load(&mut pool, &tensors, config, number))
            .collect::<Result<Vec<_>, _>>()?;
        let kinds =
            tensors.values("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, width])?;
        Ok(Self {
            words: tensors.table("embeddings.word_embeddings.weight", vocabulary, width)?,
            positions: tensors.table(
                "embeddings.position_embeddings.weight",
                config.max_position_embeddings,
                width,
            )?,
            kind: kinds[..width].to_vec(),
            norm: Norm::load(&tensors, "embeddings.LayerNorm", width)?,
            layers,
            heads: config.num_attention_heads,
            width,
            vocabulary,
            epsilon: config.layer_norm_eps,
            activation: config.hidden_act,
            level: kernels::level(),
            pool,
            arena: Arena::default(),
            tensors,
        })
    }

    pub(super) fn set_threads(&mut self, n: u32) {
        self.pool.limit(n as usize);
    }

    /// What computes, for a person.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// The mean of each text's last states, in the texts' order. A text has at most [`LONGEST_TEXT`] tokens, at least one.
    pub(super) fn means(
        &mut self,
        texts: &[&[u32]],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, Error> {
        self.embed(texts);
        for number in 0..self.layers.len() {
            if !go_on() {
                return Err(Error::Interrupted);
            }
            self.attend(number)?;
            self.feed_forward(number)?;
            worker::port::beat();
        }
        let (mut row, mut means) = (0, Vec::with_capacity(texts.len()));
        for text in texts {
            let mut mean = vec![0.0; self.width];
            for x in self.arena.x[row * self.width..][..text.len() * self.width].chunks_exact(self.width) {
                mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += x);
            }
            mean.iter_mut().for_each(|mean| *mean /= text.len() as f32);
            means.push(mean);
            row += text.len();
        }
        Ok(means)
    }

    fn embed(&mut self, texts: &[&[u32]]) {
        let width = self.width;
        let Arena { x, stretches, starts, .. } = &mut self.arena;
        x.clear();
        stretches.clear();
        starts.clear();
        let (mut place, mut more) = (0, vec![0.0; width]);
        for (sequence, text) in texts.iter().enumerate() {
            let row = x.len() / width;
            stretches.push(Stretch { row, rows: text.len(), position: text.len() - 1, sequence });
            starts.push(place);
            place += text.len().next_multiple_of(KEY_BLOCK);
            for (position, token) in text.iter().enumerate() {
                let from = x.len();
                x.extend_from_slice(&self.kind);
                for (table, number) in
                    [(&self.words, (*token as usize).min(self.vocabulary - 1)), (&self.positions, position)]
                {
                    self.tensors.row(table, number, &mut more);
                    x[from..].iter_mut().zip(&more).for_each(|(x, more)| *x += more);
                }
                self.norm.apply(self.level, &mut x[from..], self.epsilon);
            }
        }
    }

    fn attend(&mut self, number: usize) -> Result<(), Error> {
        let Self { layers, heads, width, epsilon, level, pool, arena, .. } = self;
        let (layer, head) = (&layers[number], *width / *heads);
        let Arena { x, q, k, v, mixed, back, keys, values, rounded, partials, stretches, starts, .. } = arena;
        multiply(
            pool,
            *level,
            rounded,
            x,
            [(&layer.query, &mut *q), (&layer.key, &mut *k), (&layer.value, &mut *v)],
        )?;
        let positions = starts
            .last()
            .zip(stretches.last())
            .map_or(0, |(start, last)| start + last.rows.next_multiple_of(KEY_BLOCK));
        keys.resize(positions * *width, 0);
        values.resize(positions * *width, 0);
        for (stretch, start) in stretches.iter().zip(starts.iter()) {
            write(stretch, *start, (head, *heads), (&k[..], &v[..]), keys, values);
        }
        mixed.resize(x.len(), 0.0);
        let look = Attention {
            level: *level,
            heads: *heads,
            kv_heads: *heads,
            width: head,
            page: LONGEST_TEXT.next_multiple_of(KEY_BLOCK),
            window: None,
            causal: false,
            scale: 1.0 / (head as f32).sqrt(),
        };
        let (keys, values) = (&keys[..], &values[..]);
        let pages = |text: usize, kv_head: usize, _: usize| {
            let length = stretches[text].rows.next_multiple_of(KEY_BLOCK);
            let at = starts[text] * *width + kv_head * length * head;
            Page { keys: &keys[at..][..length * head], values: &values[at..][..length * head] }
        };
        look.run(pool, partials, stretches, q, &pages, mixed);
        multiply(pool, *level, rounded, mixed, [(&layer.out, &mut *back)])?;
        add_normed(pool, *level, x, back, &layer.out_norm, *epsilon);
        Ok(())
    }

    fn feed_forward(&mut self, number: usize) -> Result<(), Error> {
        let Self { layers, epsilon, activation, level, pool, arena, .. } = self;
        let layer = &layers[number];
        let Arena { x, back, middle, rounded, .. } = arena;
        multiply(pool, *level, rounded, x, [(&layer.up, &mut *middle)])?;
        let (relu, level_now) = (*activation == Activation::Relu, *level);
        pool.each_mut(middle, layer.up.n, 4, &|_, row| {
            if relu { row.iter_mut().for_each(|x| *x = x.max(0.0)) } else { rows::gelu(level_now, row) }
        });
        multiply(pool, *level, rounded, middle, [(&layer.down, &mut *back)])?;
        add_normed(pool, *level, x, back, &layer.down_norm, *epsilon);
        Ok(())
    }
}

/// Multiplies `values` with each matrix and adds its bias. What rounding the values took away is multiplied too: eight bits
/// of activations alone would turn some vectors by more than a thousandth.
fn multiply<const N: usize>(
    pool: &mut Pool,
    level: Level,
    rounded: &mut Rounded,
    values: &[f32],
    linears: [(&Linear, &mut Vec<f32>); N],
) -> Result<(), Error> {
    let k = linears[0].0.k;
    rounded.first.fill(pool, level, values, k, false);
    rounded.first.residue(values, &mut rounded.residue);
    rounded.second.fill(pool, level, &rounded.residue, k, false);
    for (linear, out) in linears {
        let size = values.len() / k * linear.n;
        for (activations, out) in [(&rounded.first, &mut *out), (&rounded.second, &mut rounded.more)] {
            out.resize(size, 0.0);
            kernels::matmul(pool, activations, &mut [Job { matrix: linear.matrix()?, out }]);
        }
        pool.each_mut(out, linear.n, 16, &|row, out| {
            let more = &rounded.more[row * linear.n..][..linear.n];
            for ((x, bias), more) in out.iter_mut().zip(&linear.bias).zip(more) {
                *x += bias + more;
            }
        });
    }
    Ok(())
}

/// `x = norm(x + more)`, row by row.
fn add_normed(pool: &mut Pool, level: Level, x: &mut [f32], more: &[f32], norm: &Norm, epsilon: f32) {
    let width = norm.weight.len();
    pool.each_mut(x, width, 8, &|row, x| {
        rows::add(level, x, &more[row * width..][..width]);
        norm.apply(level, x, epsilon);
    });
}

/// Keys in blocks and values in rows, of one text: head after head, so many positions each as its blocks have.
fn write(
    stretch: &Stretch,
    start: usize,
    (head, heads): (usize, usize),
    (k, v): (&[f32], &[f32]),
    keys: &mut [u16],
    values: &mut [u16],
) {
    let (width, length) = (head * heads, stretch.rows.next_multiple_of(KEY_BLOCK));
    let mut halves = vec![0u16; head];
    for position in 0..stretch.rows {
        let row = (stretch.row + position) * width;
        for number in 0..heads {
            let of: Range<usize> = row + number * head..row + (number + 1) * head;
            let at = start * width + number * length * head;
            write_halves(&v[of.clone()], &mut values[at + position * head..][..head]);
            write_halves(&k[of], &mut halves);
            let block = at + position / KEY_BLOCK * KEY_BLOCK * head + position % KEY_BLOCK;
            for (lane, half) in halves.iter().enumerate() {
                keys[block + lane * KEY_BLOCK] = *half;
            }
        }
    }
}

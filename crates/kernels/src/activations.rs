//! Rows of activations, rounded once to eight bits in blocks of 32 for all matrices that read them.

use crate::lines::Lines;
use crate::matmul::Level;
use crate::pool::{Cut, Pool};

/// From so many rows on, weights are unpacked into panels. For those of AVX-512, activations lie in plain order.
pub(crate) const MANY: usize = 6;
/// Panels take so many rows at a time; what is missing of them at the end is there and never looked at.
pub(crate) const ROWS: usize = 16;

/// A number of rows, each of `k` values.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    k: usize,
    rows: usize,
    /// Which instructions rounded them, and so which multiply them: the order of the values depends on it.
    level: Level,
    /// How blocks lie.
    layout: Layout,
    /// Whether the last fill rounded them.
    pub(crate) rounded: bool,
    /// As they are, for formats without an integer path; empty if nobody asked for them.
    pub(crate) exact: Vec<f32>,
    /// The rounded values, padded with zeros.
    pub(crate) q: Lines<i8>,
    /// A block's scale at [`place`], padded with zeros to sixteens, as the next three are.
    pub(crate) d: Lines<f32>,
    /// A block's scale times its sum of `q`.
    pub(crate) s: Lines<f32>,
    /// A block's sum of `q`.
    pub(crate) sums: Lines<i32>,
    /// The sum of `q` over a block's first half.
    pub(crate) firsts: Lines<i32>,
}

/// Where a block's numbers stand among those of its sixteen: the order in which AVX-512 sums four blocks at a time.
pub(crate) const fn place(block: usize) -> usize {
    block & !15 | (block & 3) << 2 | (block >> 2) & 3
}

/// How the blocks of a row lie: in the order in which the weights that they meet are unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One after the other.
    #[default]
    Plain,
    /// Four blocks A to D as the first halves of A, B, C, D, then their second halves: for AVX-512.
    Quads,
    /// Two blocks likewise: of eight, 0 and 4, then 1 and 5, 2 and 6, 3 and 7; of those beyond the eights of a row of so
    /// many blocks, 0 and 1, then 2 and 3, and so on. For few rows with AVX2.
    Pairs(usize),
    /// [`ROWS`] rows together, whose blocks are in the order of [`turn`]: of each block the first four values of every row,
    /// then the next four, and so on; of numbers a block those of every row. For many rows with AVX2.
    Together(usize),
}

/// Where a block of a row of so many stands among them, so that what `avx2::four` adds up in one lane follows each other:
/// those of the lower lanes, then those beyond the eights that are added to them, then the same of the upper lanes.
pub(crate) const fn turn(block: usize, blocks: usize) -> usize {
    let (eights, beyond) = (blocks / 8, blocks % 8);
    let (lane, number) = (block % 8, block / 8);
    let firsts = beyond.div_ceil(2);
    if number < eights {
        return lane * eights + number + if lane < 4 { 0 } else { firsts };
    }
    4 * eights + lane / 2 + lane % 2 * (4 * eights + firsts)
}

impl Layout {
    /// Where the halves of a block begin within its row, where rows lie apart.
    pub(crate) const fn halves(self, block: usize) -> (usize, usize) {
        match self {
            Self::Plain | Self::Together(_) => (block * 32, block * 32 + 16),
            Self::Quads => {
                let at = block / 4 * 128 + block % 4 * 16;
                (at, at + 64)
            }
            Self::Pairs(blocks) => {
                let (eights, within) = (blocks / 8 * 8, block % 8);
                let at = if block < eights {
                    (block - within) * 32 + within % 4 * 64 + within / 4 * 16
                } else {
                    let beyond = block - eights;
                    eights * 32 + beyond / 2 * 64 + beyond % 2 * 16
                };
                (at, at + 32)
            }
        }
    }
}

/// The rounded form of a row, or of rows that lie together.
pub(crate) struct Rounded<'a> {
    pub(crate) q: &'a mut [i8],
    pub(crate) d: &'a mut [f32],
    pub(crate) s: &'a mut [f32],
    pub(crate) sums: &'a mut [i32],
    pub(crate) firsts: &'a mut [i32],
}

impl Activations {
    /// Rows of `q` for one row of activations.
    pub(crate) fn q_stride(&self) -> usize {
        self.k.next_multiple_of(128)
    }

    /// Entries of `d`, `s` and the sums for one row.
    pub(crate) fn d_stride(&self) -> usize {
        (self.k / 32).next_multiple_of(16)
    }

    /// Where the `number`th four values of a row's block lie.
    fn four(&self, row: usize, block: usize, number: usize) -> usize {
        if let Layout::Together(blocks) = self.layout {
            let group = row / ROWS * ROWS * self.q_stride();
            return group + ((turn(block, blocks) * 8 + number) * ROWS + row % ROWS) * 4;
        }
        let (first, second) = self.layout.halves(block);
        row * self.q_stride() + if number < 4 { first + number * 4 } else { second + number * 4 - 16 }
    }

    /// Where a row's block has its scale and its sums.
    fn number(&self, row: usize, block: usize) -> usize {
        match self.layout {
            Layout::Together(blocks) => {
                row / ROWS * ROWS * self.d_stride() + turn(block, blocks) * ROWS + row % ROWS
            }
            _ if self.level == Level::Avx512Vnni => row * self.d_stride() + place(block),
            _ => row * self.d_stride() + block,
        }
    }

    /// Which instructions multiply them; the machine has them.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// How blocks lie.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Values of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What rounding took away from each value; `values` are those of the last fill. Rounded and multiplied in their turn, they
    /// make a product of some fourteen bits where eight are too few.
    pub fn residue(&self, values: &[f32], out: &mut Vec<f32>) {
        assert_eq!(values.len(), self.rows * self.k, "the values are not those that were taken");
        out.clear();
        out.extend_from_slice(values);
        if !self.rounded {
            return out.fill(0.0);
        }
        for (row, out) in out.chunks_exact_mut(self.k).enumerate() {
            for (block, out) in out.chunks_exact_mut(32).enumerate() {
                let d = self.d[self.number(row, block)];
                for (number, out) in out.chunks_exact_mut(4).enumerate() {
                    let q = &self.q[self.four(row, block, number)..][..4];
                    for (out, q) in out.iter_mut().zip(q) {
                        *out -= d * f32::from(*q);
                    }
                }
            }
        }
    }

    /// Makes room for so many rows of at most `k` values. What is not yet written to takes no memory.
    pub fn reserve(&mut self, rows: usize, k: usize) {
        let widest = Self { k, ..Self::default() };
        let (rows, q, d) = (rows.next_multiple_of(ROWS), widest.q_stride(), widest.d_stride());
        self.exact.reserve_exact((rows * k).saturating_sub(self.exact.len()));
        self.q.reserve(rows * q);
        for floats in [&mut self.d, &mut self.s] {
            floats.reserve(rows * d);
        }
        for sums in [&mut self.sums, &mut self.firsts] {
            sums.reserve(rows * d);
        }
    }

    /// Takes rows of `k` values from `values`; rounds them if `k` is a multiple of 32, and keeps them as they are too if
    /// that cannot be or `exact` asks for it (see [`crate::Matrix::reads_floats`]).
    pub fn fill(&mut self, pool: &mut Pool, level: Level, values: &[f32], k: usize, exact: bool) {
        assert!(k > 0 && values.len().is_multiple_of(k), "the values are not whole rows");
        let level = level.sound();
        self.k = k;
        self.rows = values.len() / k;
        self.level = level;
        self.layout = match level {
            Level::Avx512Vnni if self.rows < MANY => Layout::Quads,
            Level::Avx2 if self.rows < MANY => Layout::Pairs(k / 32),
            Level::Avx2 => Layout::Together(k / 32),
            _ => Layout::Plain,
        };
        self.rounded = k.is_multiple_of(32) && level != Level::Reference;
        self.exact.clear();
        if exact || !self.rounded {
            self.exact.extend_from_slice(values);
        }
        if !self.rounded || self.rows == 0 {
            return;
        }
        let (q_stride, d_stride, layout) = (self.q_stride(), self.d_stride(), self.layout);
        // What a row does not fill, `round_row` clears; so nothing has to be cleared here.
        let there = self.rows.next_multiple_of(ROWS);
        self.q.resize(there * q_stride);
        for floats in [&mut self.d, &mut self.s] {
            floats.resize(there * d_stride);
        }
        for sums in [&mut self.sums, &mut self.firsts] {
            sums.resize(there * d_stride);
        }
        let (q, d, s) = (Cut::new(&mut self.q), Cut::new(&mut self.d), Cut::new(&mut self.s));
        let (sums, firsts) = (Cut::new(&mut self.sums), Cut::new(&mut self.firsts));
        // Rows that lie together are one thread's.
        let (group, least) = if matches!(layout, Layout::Together(_)) { (ROWS, 1) } else { (1, 4) };
        let groups = self.rows.div_ceil(group);
        let share = groups.div_ceil(pool.threads() * 4).max(least);
        pool.run(groups.div_ceil(share), &|number| {
            for at in number * share..((number + 1) * share).min(groups) {
                let values = &values[at * group * k..((at + 1) * group * k).min(values.len())];
                #[expect(unsafe_code, reason = "threads write disjoint rows of one slice")]
                // SAFETY: each group is in one share, and each share is one thread's.
                let mut rounded = unsafe {
                    Rounded {
                        q: q.piece(at, group * q_stride),
                        d: d.piece(at, group * d_stride),
                        s: s.piece(at, group * d_stride),
                        sums: sums.piece(at, group * d_stride),
                        firsts: firsts.piece(at, group * d_stride),
                    }
                };
                round_rows(level, values, &mut rounded, layout);
            }
        });
    }
}

#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn round_rows(level: Level, values: &[f32], out: &mut Rounded<'_>, layout: Layout) {
    #[cfg(target_arch = "x86_64")]
    match level {
        // SAFETY: `fill` made the level sound.
        Level::Avx512Vnni => return unsafe { round_row_avx512(values, out, layout) },
        // SAFETY: as above.
        Level::Avx2 => unsafe {
            return match layout {
                Layout::Together(blocks) => crate::avx2::round_together(values, out, blocks),
                _ => crate::avx2::round_row(values, out, layout),
            };
        },
        _ => {}
    }
    let _ = level;
    round_plain::<false>(values, out, layout);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn round_row_avx512(values: &[f32], out: &mut Rounded<'_>, layout: Layout) {
    round_plain::<true>(values, out, layout);
}

/// `PLACED`: scales and sums stand at their [`place`].
#[inline(always)]
fn round_plain<const PLACED: bool>(values: &[f32], out: &mut Rounded<'_>, layout: Layout) {
    let blocks = values.len() / 32;
    for block in 0..out.d.len() {
        let at = if PLACED { place(block) } else { block };
        let (d, first, second) = match values.chunks_exact(32).nth(block) {
            Some(values) => round_block(values, layout.halves(block), out.q),
            None => (0.0, 0, 0),
        };
        out.d[at] = d;
        out.sums[at] = first + second;
        out.firsts[at] = first;
        out.s[at] = d * (first + second) as f32;
    }
    for block in blocks..out.q.len() / 32 {
        let (first, second) = layout.halves(block);
        out.q[first..first + 16].fill(0);
        out.q[second..second + 16].fill(0);
    }
}

/// Rounds one block to -127..=127; gives its scale and the sums of its halves.
#[inline(always)]
fn round_block(values: &[f32], (first, second): (usize, usize), q: &mut [i8]) -> (f32, i32, i32) {
    let mut highest = [0f32; 16];
    for part in values.chunks_exact(16) {
        for (h, x) in highest.iter_mut().zip(part) {
            *h = if x.abs() > *h { x.abs() } else { *h };
        }
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            let other = highest[lane + width];
            highest[lane] = if other > highest[lane] { other } else { highest[lane] };
        }
    }
    let d = highest[0] / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let mut sums = [0i32; 2];
    for ((part, at), sum) in values.chunks_exact(16).zip([first, second]).zip(&mut sums) {
        for (x, q) in part.iter().zip(&mut q[at..at + 16]) {
            // Adding 1.5 * 2^23 rounds to the nearest whole number, ties to even, and leaves it in the last bits.
            *q = (x * inverse + 12_582_912.0).to_bits() as i8;
            *sum += i32::from(*q);
        }
    }
    (d, sums[0], sums[1])
}

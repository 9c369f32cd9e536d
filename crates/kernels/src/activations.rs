//! Rows of activations, rounded once to eight bits in blocks of 32 for all matrices that read them.

use std::sync::{Mutex, PoisonError};

use crate::matmul::Level;
use crate::pool::Pool;

/// A number of rows, each of `k` values.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    k: usize,
    rows: usize,
    /// Whether the last fill rounded them.
    pub(crate) rounded: bool,
    /// As they are; used by formats without an integer path.
    pub(crate) exact: Vec<f32>,
    /// Pairs of blocks A and B lie as A's first half, B's first, A's second, B's second, padded to whole pairs: the
    /// order in which the kernels unpack weights.
    pub(crate) q: Vec<i8>,
    /// A block's scale, padded to sixteens.
    pub(crate) d: Vec<f32>,
    /// A block's scale times its sum of `q`, padded likewise.
    pub(crate) s: Vec<f32>,
}

/// Where the values of a block begin within its row, first and second half.
pub(crate) fn halves(block: usize) -> (usize, usize) {
    let pair = block / 2 * 64 + block % 2 * 16;
    (pair, pair + 32)
}

impl Activations {
    /// Rows of `q` for one row of activations.
    pub(crate) fn q_stride(&self) -> usize {
        self.k.next_multiple_of(64)
    }

    /// Entries of `d` and `s` for one row.
    pub(crate) fn d_stride(&self) -> usize {
        (self.k / 32).next_multiple_of(16)
    }

    /// Values of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes rows of `k` values from `values`; rounds them if `k` is a multiple of 32.
    pub fn fill(&mut self, pool: &mut Pool, level: Level, values: &[f32], k: usize) {
        assert!(k > 0 && values.len().is_multiple_of(k), "the values are not whole rows");
        self.k = k;
        self.rows = values.len() / k;
        self.rounded = k.is_multiple_of(32);
        self.exact.clear();
        self.exact.extend_from_slice(values);
        if !self.rounded || self.rows == 0 {
            return;
        }
        let level = level.sound();
        let (q_stride, d_stride) = (self.q_stride(), self.d_stride());
        self.q.clear();
        self.q.resize(self.rows * q_stride, 0);
        self.d.clear();
        self.d.resize(self.rows * d_stride, 0.0);
        self.s.clear();
        self.s.resize(self.rows * d_stride, 0.0);
        let share = self.rows.div_ceil(pool.threads() * 4).max(4);
        let parts: Vec<Mutex<_>> = values
            .chunks(share * k)
            .zip(self.q.chunks_mut(share * q_stride))
            .zip(self.d.chunks_mut(share * d_stride).zip(self.s.chunks_mut(share * d_stride)))
            .map(Mutex::new)
            .collect();
        pool.run(parts.len(), &|number| {
            let mut part = parts[number].lock().unwrap_or_else(PoisonError::into_inner);
            let ((values, q), (d, s)) = &mut *part;
            let rows = values.chunks_exact(k).zip(q.chunks_exact_mut(q_stride));
            for ((values, q), (d, s)) in
                rows.zip(d.chunks_exact_mut(d_stride).zip(s.chunks_exact_mut(d_stride)))
            {
                round_row(level, values, q, d, s);
            }
        });
    }
}

#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn round_row(level: Level, values: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if matches!(level, Level::Avx512Vnni | Level::Avx2) {
        // SAFETY: both levels have AVX2, and `fill` made the level sound.
        unsafe { round_row_avx2(values, q, d, s) };
        return;
    }
    let _ = level;
    round_plain(values, q, d, s);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_row_avx2(values: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [f32]) {
    round_plain(values, q, d, s);
}

#[inline(always)]
fn round_plain(values: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [f32]) {
    for (block, values) in values.chunks_exact(32).enumerate() {
        (d[block], s[block]) = round_block(values, block, q);
    }
}

/// Rounds one block to -127..=127; gives its scale and scale times sum.
#[inline(always)]
fn round_block(values: &[f32], block: usize, q: &mut [i8]) -> (f32, f32) {
    let mut highest = [0f32; 16];
    for part in values.chunks_exact(16) {
        for (h, x) in highest.iter_mut().zip(part) {
            *h = if x.abs() > *h { x.abs() } else { *h };
        }
    }
    let highest = highest.iter().fold(0f32, |a, b| if *b > a { *b } else { a });
    let d = highest / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let (first, second) = halves(block);
    let mut sum = 0i32;
    for (part, at) in values.chunks_exact(16).zip([first, second]) {
        for (x, q) in part.iter().zip(&mut q[at..at + 16]) {
            // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, ties to even.
            let whole = (x * inverse + 12_582_912.0) - 12_582_912.0;
            *q = whole as i8;
            sum += i32::from(*q);
        }
    }
    (d, d * sum as f32)
}

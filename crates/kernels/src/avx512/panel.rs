//! Many rows of activations: sixteen rows of weights are unpacked once into a panel in which a vector holds four values
//! of k of each of the sixteen, so that four values of activations, broadcast, meet all of them at once.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::unpack::{self, Heads, heads, quad};
use super::{both_halves, tiles, with_term};
use crate::activations::{Activations, place};
use crate::kinds::{Q6K, has_minimum, shift, with_kind};
use crate::matmul::{Matrix, Out};

/// Rows of weights in a panel.
const PANEL: usize = 16;
/// Rows of activations that vectors multiply at a time.
const ROWS: usize = 8;

/// An unpacked panel; kept by its thread for the next one.
#[derive(Default)]
pub(super) struct Panel {
    /// For each block eight vectors: four double words of the first half, four of the second.
    pub(super) weights: Vec<__m512i>,
    pub(super) heads: Vec<Heads>,
    /// Its blocks as they are looked at.
    pub(super) order: Vec<u32>,
}

/// Where a panel's products go: the columns `from..to` of rows of `n`.
pub(super) struct Target<'a> {
    n: usize,
    from: usize,
    to: usize,
    out: &'a Out,
}

impl<'a> Target<'a> {
    pub(super) fn new(n: usize, from: usize, to: usize, out: &'a Out) -> Self {
        Self { n, from, to, out }
    }

    /// Writes one row's products.
    ///
    /// # Safety
    /// The row must be one of the result, and the columns the caller's alone.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn put(&self, row: usize, values: __m512) {
        let there = ((1u32 << (self.to - self.from)) - 1) as u16;
        // SAFETY: the caller's promise; columns that are not there are not written.
        unsafe { _mm512_mask_storeu_ps(self.out.at(row * self.n + self.from), there, values) };
    }
}

thread_local! {
    static MINE: RefCell<Panel> = RefCell::default();
}

/// The columns `from..to`, at most [`PANEL`], by all rows of activations.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `x` must be rounded; the columns of `out` must be the
/// caller's alone. The matrix must be of a quantised format.
pub(crate) unsafe fn panel(matrix: &Matrix<'_>, from: usize, to: usize, x: &Activations, out: &Out) {
    MINE.with_borrow_mut(|panel| {
        // SAFETY: the caller's promise.
        unsafe { with_kind!(matrix.kind(), fill_and_multiply[](panel, matrix, from, to, x, out)) }
    });
}

/// # Safety
/// As for [`panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn fill_and_multiply<const K: u8>(
    panel: &mut Panel,
    matrix: &Matrix<'_>,
    from: usize,
    to: usize,
    x: &Activations,
    out: &Out,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill::<K>(panel, matrix, from, to, x.k() / 32);
        let target = Target::new(matrix.n(), from, to, out);
        let first = if tiles::usable() { tiles::multiply_all::<K>(panel, x, &target) } else { 0 };
        by_vectors::<K>(panel, x, first, &target);
    }
}

/// The rows from `first` on.
///
/// # Safety
/// As for [`panel`], whose columns the panel holds.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn by_vectors<const K: u8>(
    panel: &Panel,
    x: &Activations,
    mut first: usize,
    target: &Target<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        while first < x.rows() {
            let left = x.rows() - first;
            match left {
                ROWS.. => multiply::<K, ROWS>(panel, x, first, target),
                4.. => multiply::<K, 4>(panel, x, first, target),
                3 => multiply::<K, 3>(panel, x, first, target),
                2 => multiply::<K, 2>(panel, x, first, target),
                _ => multiply::<K, 1>(panel, x, first, target),
            }
            first += if left >= ROWS { ROWS } else { left.min(4) };
        }
    }
}

/// # Safety
/// As for [`panel`]; the rows have `blocks` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn fill<const K: u8>(
    panel: &mut Panel,
    matrix: &Matrix<'_>,
    from: usize,
    to: usize,
    blocks: usize,
) {
    let none = _mm512_setzero_si512();
    let zero = _mm512_setzero_ps();
    let empty = Heads { scale: zero, minimum: zero, first: none, second: none };
    panel.weights.resize(blocks.next_multiple_of(4) * 8, none);
    panel.heads.resize(blocks.next_multiple_of(16), empty);
    if panel.order.len() != blocks {
        let places = FOURS.into_iter().flat_map(|four| (0..4).map(move |turn| (four, turn)));
        let all = places.flat_map(|(four, turn)| at_place(four, turn, blocks));
        panel.order.clear();
        panel.order.extend(all.map(|block| block as u32));
    }
    for group in (0..blocks).step_by(16) {
        let count = (blocks - group).min(16);
        // Rows that are not there repeat the last one that is; nobody reads their columns.
        let row = |number: usize| matrix.row((from + number).min(to - 1)).as_ptr();
        // SAFETY: the group lies in each row.
        unsafe {
            let base = |number: usize| row(number).add(unpack::bytes(K, group));
            let mut all = [empty; PANEL];
            for (number, heads_of_row) in all.iter_mut().enumerate() {
                *heads_of_row = heads::<K>(base(number), count);
            }
            turn_heads::<K>(&all, &mut panel.heads[group..group + 16]);
            for number in 0..count.div_ceil(4) {
                let mut halves = ([none; PANEL], [none; PANEL]);
                for row in 0..PANEL {
                    (halves.0[row], halves.1[row]) = quad::<K>(base(row), number, count);
                }
                let to = &mut panel.weights[(group + number * 4) * 8..][..32];
                for (at, half) in [transposed(halves.0), transposed(halves.1)].into_iter().enumerate() {
                    for (word, vector) in half.into_iter().enumerate() {
                        to[word / 4 * 8 + at * 4 + word % 4] = vector;
                    }
                }
            }
        }
    }
}

/// Heads of sixteen rows, one row each, to heads of sixteen places, one place each.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn_heads<const K: u8>(rows: &[Heads; PANEL], places: &mut [Heads]) {
    let mut parts = [[_mm512_setzero_si512(); PANEL]; 3];
    for (number, heads) in rows.iter().enumerate() {
        parts[0][number] = _mm512_castps_si512(heads.scale);
        parts[1][number] = if K == Q6K { heads.first } else { _mm512_castps_si512(heads.minimum) };
        parts[2][number] = heads.second;
    }
    let scales = transposed(parts[0]);
    for (place, scale) in places.iter_mut().zip(scales) {
        place.scale = _mm512_castsi512_ps(scale);
    }
    if has_minimum(K) {
        for (place, minimum) in places.iter_mut().zip(transposed(parts[1])) {
            place.minimum = _mm512_castsi512_ps(minimum);
        }
    }
    if K == Q6K {
        for (place, first) in places.iter_mut().zip(transposed(parts[1])) {
            place.first = first;
        }
        for (place, second) in places.iter_mut().zip(transposed(parts[2])) {
            place.second = second;
        }
    }
}

/// Sixteen by sixteen double words, rows for columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(mut rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut next = rows;
    for at in (0..16).step_by(2) {
        next[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        next[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    for at in (0..16).step_by(4) {
        rows[at] = _mm512_unpacklo_epi64(next[at], next[at + 2]);
        rows[at + 1] = _mm512_unpackhi_epi64(next[at], next[at + 2]);
        rows[at + 2] = _mm512_unpacklo_epi64(next[at + 1], next[at + 3]);
        rows[at + 3] = _mm512_unpackhi_epi64(next[at + 1], next[at + 3]);
    }
    // Now 128-bit lane l of row 4 g + w holds word 4 l + w of the rows 4 g to 4 g + 3.
    for word in 0..4 {
        let [a, b, c, d] = [rows[word], rows[4 + word], rows[8 + word], rows[12 + word]];
        let low_ab = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
        let high_ab = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
        let low_cd = _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d);
        let high_cd = _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d);
        next[word] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_ab, low_cd);
        next[4 + word] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_ab, low_cd);
        next[8 + word] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high_ab, high_cd);
        next[12 + word] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high_ab, high_cd);
    }
    next
}

/// The blocks of a row at one place of their sixteens, in order.
#[inline(always)]
pub(super) fn at_place(four: usize, turn: usize, blocks: usize) -> impl Iterator<Item = usize> {
    (four * 4 + turn..blocks).step_by(16)
}

/// The order in which the four fours of places are made: the first two and the last two are added up first.
pub(super) const FOURS: [usize; 4] = [0, 2, 1, 3];

/// # Safety
/// As for [`panel`], whose columns the panel holds; `first + M` must not exceed the rows of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn multiply<const K: u8, const M: usize>(
    panel: &Panel,
    x: &Activations,
    first: usize,
    target: &Target<'_>,
) {
    let blocks = x.k() / 32;
    let zero = _mm512_setzero_ps();
    let (mut pair, mut whole) = ([zero; M], [zero; M]);
    // SAFETY: blocks below `blocks` are in the panel and in the rows of `x`.
    unsafe {
        for (number, four) in FOURS.into_iter().enumerate() {
            let mut sums = [zero; M];
            for turn in 0..4 {
                let mut place = [zero; M];
                for block in at_place(four, turn, blocks) {
                    add_block::<K, M>(panel, block, x, first, &mut place);
                }
                for m in 0..M {
                    sums[m] = _mm512_add_ps(sums[m], place[m]);
                }
            }
            for m in 0..M {
                pair[m] = if number % 2 == 0 { sums[m] } else { _mm512_add_ps(pair[m], sums[m]) };
                if number == 1 {
                    whole[m] = pair[m];
                }
            }
        }
        for m in 0..M {
            target.put(first + m, _mm512_add_ps(whole[m], pair[m]));
        }
    }
}

/// Adds the products of one block.
///
/// # Safety
/// As for [`multiply`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn add_block<const K: u8, const M: usize>(
    panel: &Panel,
    block: usize,
    x: &Activations,
    first: usize,
    to: &mut [__m512; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let weights = panel.weights.as_ptr().add(block * 8);
        let heads = &*panel.heads.as_ptr().add(place(block));
        let mut whole = [_mm512_setzero_si512(); M];
        let mut second = [_mm512_setzero_si512(); M];
        let q = x.q.as_ptr().add(first * x.q_stride() + block * 32);
        for part in 0..8 {
            let weights = *weights.add(part);
            for m in 0..M {
                let word = q.add(m * x.q_stride() + part * 4).cast::<i32>().read_unaligned();
                let sum = if K == Q6K && part >= 4 { &mut second[m] } else { &mut whole[m] };
                *sum = _mm512_dpbusd_epi32(*sum, weights, _mm512_set1_epi32(word));
            }
        }
        for m in 0..M {
            let at = (first + m) * x.d_stride() + place(block);
            to[m] = with_block::<K>(to[m], heads, whole[m], second[m], x, at);
        }
    }
}

/// Adds a block's products for one row of activations, from the sums of its unsigned weights; `second` is of its second
/// half where that has a scale of its own.
///
/// # Safety
/// `at` must be the block's place in the vectors of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,fma")]
pub(super) unsafe fn with_block<const K: u8>(
    to: __m512,
    heads: &Heads,
    whole: __m512i,
    second: __m512i,
    x: &Activations,
    at: usize,
) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = match shift(K) {
            None => whole,
            Some(_) if K == Q6K => {
                let firsts = _mm512_set1_epi32(*x.firsts.as_ptr().add(at));
                both_halves(heads, whole, second, firsts, _mm512_set1_epi32(*x.sums.as_ptr().add(at)))
            }
            Some(shift) => _mm512_sub_epi32(whole, _mm512_set1_epi32(*x.sums.as_ptr().add(at) << shift)),
        };
        let d = _mm512_set1_ps(*x.d.as_ptr().add(at));
        let s = _mm512_set1_ps(*x.s.as_ptr().add(at));
        with_term::<K>(to, heads.scale, heads.minimum, sum, d, s)
    }
}

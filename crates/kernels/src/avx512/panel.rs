//! Many rows of activations: sixteen rows of weights are unpacked once into a panel in which a vector holds four values
//! of k of each of the sixteen, so that four values of activations, broadcast, meet all of them at once.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::unpack::{self, Heads, heads, quad, shift};
use super::{both_halves, term};
use crate::activations::{Activations, place};
use crate::kinds::{Q6K, with_kind};
use crate::matmul::{Matrix, Out};

/// Rows of weights in a panel.
const PANEL: usize = 16;
/// Rows of activations that are multiplied at a time.
const ROWS: usize = 4;

/// An unpacked panel; kept by its thread for the next one.
#[derive(Default)]
struct Panel {
    /// For each block eight vectors: four double words of the first half, four of the second.
    weights: Vec<__m512i>,
    heads: Vec<Heads>,
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
        let mut first = 0;
        while first < x.rows() {
            let left = x.rows() - first;
            match left {
                ROWS.. => multiply::<K, ROWS>(panel, matrix.n(), from, to, x, first, out),
                3 => multiply::<K, 3>(panel, matrix.n(), from, to, x, first, out),
                2 => multiply::<K, 2>(panel, matrix.n(), from, to, x, first, out),
                _ => multiply::<K, 1>(panel, matrix.n(), from, to, x, first, out),
            }
            first += left.min(ROWS);
        }
    }
}

/// # Safety
/// As for [`panel`]; the rows have `blocks` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn fill<const K: u8>(panel: &mut Panel, matrix: &Matrix<'_>, from: usize, to: usize, blocks: usize) {
    let none = _mm512_setzero_si512();
    let zero = _mm512_setzero_ps();
    let empty = Heads { scale: zero, minimum: zero, first: none, second: none };
    panel.weights.resize(blocks.next_multiple_of(4) * 8, none);
    panel.heads.resize(blocks.next_multiple_of(16), empty);
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
    if unpack::has_minimum(K) {
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

/// # Safety
/// As for [`panel`], whose columns the panel holds; `first + M` must not exceed the rows of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn multiply<const K: u8, const M: usize>(
    panel: &Panel,
    n: usize,
    from: usize,
    to: usize,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let blocks = x.k() / 32;
    let mut sums = [_mm512_setzero_ps(); M];
    // SAFETY: blocks below `blocks` are in the panel and in the rows of `x`.
    unsafe {
        for group in (0..blocks).step_by(16) {
            let quads = (blocks - group).min(16).div_ceil(4);
            let mut fours = [[_mm512_setzero_ps(); 4]; M];
            for number in 0..quads {
                let made = four::<K, M>(panel, group + number * 4, blocks, x, first);
                for (fours, made) in fours.iter_mut().zip(made) {
                    fours[number] = made;
                }
            }
            for m in 0..M {
                sums[m] = _mm512_add_ps(sums[m], tree(fours[m]));
            }
        }
        let there = ((1u32 << (to - from)) - 1) as u16;
        for (m, sum) in sums.into_iter().enumerate() {
            _mm512_mask_storeu_ps(out.at((first + m) * n + from), there, sum);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn tree([a, b, c, d]: [__m512; 4]) -> __m512 {
    _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d))
}

/// The products of the four blocks from `from` on.
///
/// # Safety
/// As for [`multiply`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn four<const K: u8, const M: usize>(
    panel: &Panel,
    from: usize,
    blocks: usize,
    x: &Activations,
    first: usize,
) -> [__m512; M] {
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let mut terms = [[_mm512_setzero_ps(); 4]; M];
    // SAFETY: the caller's promise.
    unsafe {
        for number in 0..4 {
            let block = from + number;
            if block >= blocks {
                break;
            }
            let weights = panel.weights.as_ptr().add(block * 8);
            let heads = &*panel.heads.as_ptr().add(place(block));
            for (m, terms) in terms.iter_mut().enumerate() {
                let q = x.q.as_ptr().add((first + m) * q_stride + from * 32 + number * 16);
                let at = (first + m) * d_stride + place(block);
                let word = |at: usize| _mm512_set1_epi32(q.add(at).cast::<i32>().read_unaligned());
                let mut sum = match shift(K) {
                    Some(shift) if K != Q6K => _mm512_set1_epi32(-(*x.sums.as_ptr().add(at) << shift)),
                    _ => _mm512_setzero_si512(),
                };
                for part in 0..4 {
                    sum = _mm512_dpbusd_epi32(sum, *weights.add(part), word(part * 4));
                }
                if K == Q6K {
                    let mut second = _mm512_setzero_si512();
                    for part in 0..4 {
                        second = _mm512_dpbusd_epi32(second, *weights.add(4 + part), word(64 + part * 4));
                    }
                    let firsts = _mm512_set1_epi32(*x.firsts.as_ptr().add(at));
                    let all = _mm512_set1_epi32(*x.sums.as_ptr().add(at));
                    sum = both_halves(heads, sum, second, firsts, all);
                } else {
                    for part in 0..4 {
                        sum = _mm512_dpbusd_epi32(sum, *weights.add(4 + part), word(64 + part * 4));
                    }
                }
                let d = _mm512_set1_ps(*x.d.as_ptr().add(at));
                let s = _mm512_set1_ps(*x.s.as_ptr().add(at));
                terms[number] = term::<K>(heads, sum, d, s);
            }
        }
        let mut out = [_mm512_setzero_ps(); M];
        for (out, terms) in out.iter_mut().zip(terms) {
            *out = tree(terms);
        }
        out
    }
}

//! AVX-512 with VNNI on the blocks as they lie in the file. Few rows of activations: eight rows of weights at a time
//! ([`mod@eight`]), or one ([`dot`]). Many: panels of sixteen rows, unpacked once ([`mod@panel`]) and multiplied by vectors
//! or, where the machine has them, by tiles ([`tiles`]). All add up in the same order, so a row of activations gets the
//! same bits from each: integers within a block; blocks at the same place of their sixteen, one sixteen after the other; then
//! four fours of places, each in turn (place 0, 4, 8, 12 and so on), as (0 + 2) + (1 + 3).

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

mod attention;
mod eight;
mod panel;
mod tiles;
mod unpack;

use std::arch::x86_64::*;
use std::ops::Range;

use crate::activations::Activations;
use crate::blocks::Kind;
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q6K, has_minimum, shift, with_kind};
use crate::matmul::{Matrix, Out};
pub(crate) use attention::{scores, soften, weigh};
pub(crate) use panel::panel;
pub(crate) use tiles::usable as has_tiles;
use unpack::{Heads, elevens, fives, heads, nibbles, nines, quad, with_fifths};

/// So many bytes before they are needed, weights are asked for; measured with `examples/speed.rs`.
const AHEAD: usize = 2048;

/// Whether this machine has what the functions here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

/// The `columns` of a matrix by `M` rows of activations from `first` on.
///
/// # Safety
/// The machine must have what [`available`] asks for; `first + M` must not exceed the rows of `x`, which must be rounded
/// for quantised formats and exact for the others; the columns of `out` must be the caller's alone.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn rows<const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    // SAFETY: the caller's promise; the range is of columns, whose rows are whole blocks of `k`.
    unsafe {
        match matrix.kind() {
            Kind::F32 => float_rows::<0, M>(matrix, columns, x, first, out),
            Kind::F16 => float_rows::<1, M>(matrix, columns, x, first, out),
            Kind::Bf16 => float_rows::<2, M>(matrix, columns, x, first, out),
            kind => with_kind!(kind, quantised_rows[M](matrix, columns, x, first, out)),
        }
    }
}

/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn quantised_rows<const K: u8, const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let mut columns = columns;
    if eight::fits(K, x.k() / 32) {
        while columns.len() >= eight::EIGHT {
            // SAFETY: the caller's promise, and eight columns are there.
            unsafe { eight::eight::<K, M>(matrix, columns.start, x, first, out) };
            columns.start += eight::EIGHT;
        }
    }
    for column in columns {
        // SAFETY: the caller's promise.
        unsafe {
            let made = dot::<K, M>(matrix.row(column), x, first);
            for (m, value) in made.into_iter().enumerate() {
                out.put((first + m) * matrix.n() + column, value);
            }
        }
    }
}

/// One row of weights by `M` rows of activations.
///
/// # Safety
/// As for [`rows`]; `row` must hold `k / 32` blocks of the format.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn dot<const K: u8, const M: usize>(row: &[u8], x: &Activations, first: usize) -> [f32; M] {
    let blocks = x.k() / 32;
    let mut sums = [_mm512_setzero_ps(); M];
    // SAFETY: every group lies in the row, and in the padded rows of `x`.
    unsafe {
        for group in 0..blocks / 16 {
            let base = row.as_ptr().add(unpack::bytes(K, group * 16));
            sixteen::<K, M>(base, 16, x, first, group * 16, &mut sums);
        }
        let whole = blocks / 16 * 16;
        if whole < blocks {
            let base = row.as_ptr().add(unpack::bytes(K, whole));
            sixteen::<K, M>(base, blocks - whole, x, first, whole, &mut sums);
        }
    }
    sums.map(|sum| add_up(sum))
}

/// Adds the products of up to sixteen blocks, the row's `from`th and following.
///
/// # Safety
/// As for [`dot`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn sixteen<const K: u8, const M: usize>(
    base: *const u8,
    count: usize,
    x: &Activations,
    first: usize,
    from: usize,
    sums: &mut [__m512; M],
) {
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let none = _mm512_setzero_si512();
    let mut whole = [[none; 4]; M];
    // Of second halves, where these have a scale of their own.
    let mut second = [[none; 4]; M];
    let quads = count.div_ceil(4);
    // SAFETY: the caller's promise; `q` is padded to whole fours, the other vectors of `x` to whole sixteens.
    unsafe {
        for line in 0..unpack::bytes(K, count).div_ceil(64) {
            // Rows follow each other, so what comes next is known long before it is needed.
            _mm_prefetch::<_MM_HINT_T0>(base.wrapping_add(AHEAD + line * 64).cast());
        }
        // Formats that are taken apart by sixteen blocks at once; the others, and what is left of a row, by four.
        let at_once = K == Q4_1 || matches!(K, Q4_0 | Q5_0) && count == 16;
        let mut fifths = [none; 4];
        let (heads, bytes) = match K {
            Q4_1 => fives(base, count),
            Q4_0 if at_once => nines(base),
            Q5_0 if at_once => {
                let (heads, bytes, bits) = elevens(base);
                fifths = bits;
                (heads, bytes)
            }
            _ => (heads::<K>(base, count), [none; 4]),
        };
        for number in 0..4 {
            if number >= quads {
                break;
            }
            let (a, b) = match at_once {
                true if K == Q5_0 => with_fifths(nibbles(bytes[number]), fifths[number]),
                true => nibbles(bytes[number]),
                false => quad::<K>(base, number, count),
            };
            for m in 0..M {
                let q = x.q.as_ptr().add((first + m) * q_stride + from * 32 + number * 128);
                let (low, high) = (_mm512_loadu_si512(q.cast()), _mm512_loadu_si512(q.add(64).cast()));
                whole[m][number] = _mm512_dpbusd_epi32(none, a, low);
                if K == Q6K {
                    second[m][number] = _mm512_dpbusd_epi32(none, b, high);
                } else {
                    whole[m][number] = _mm512_dpbusd_epi32(whole[m][number], b, high);
                }
            }
        }
        for m in 0..M {
            let at = (first + m) * d_stride + from;
            let sum = if narrow(K) { add_narrow(whole[m]) } else { add_within(whole[m], quads) };
            let sum = if K == Q6K {
                let firsts = _mm512_loadu_si512(x.firsts.as_ptr().add(at).cast());
                let all = _mm512_loadu_si512(x.sums.as_ptr().add(at).cast());
                both_halves(&heads, sum, add_within(second[m], quads), firsts, all)
            } else {
                match shift(K) {
                    Some(shift) => {
                        let all = _mm512_loadu_si512(x.sums.as_ptr().add(at).cast());
                        _mm512_sub_epi32(sum, _mm512_sll_epi32(all, _mm_cvtsi32_si128(shift as i32)))
                    }
                    None => sum,
                }
            };
            let d = _mm512_loadu_ps(x.d.as_ptr().add(at));
            let s = _mm512_loadu_ps(x.s.as_ptr().add(at));
            sums[m] = with_term::<K>(sums[m], heads.scale, heads.minimum, sum, d, s);
        }
    }
}

/// Adds the products of blocks, from their integer sums: first what is scaled, then the minimum's share.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn with_term<const K: u8>(
    to: __m512,
    scale: __m512,
    minimum: __m512,
    sum: __m512i,
    d: __m512,
    s: __m512,
) -> __m512 {
    let to = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, d), to);
    if has_minimum(K) { _mm512_fmadd_ps(minimum, s, to) } else { to }
}

/// The sums of halves with scales of their own, once their weights are signed again. Exact: 32 times 127 times 16 times
/// 128, twice, stays far below 2^31.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn both_halves(heads: &Heads, first: __m512i, second: __m512i, firsts: __m512i, all: __m512i) -> __m512i {
    let first = _mm512_sub_epi32(first, _mm512_slli_epi32::<5>(firsts));
    let second = _mm512_sub_epi32(second, _mm512_slli_epi32::<5>(_mm512_sub_epi32(all, firsts)));
    _mm512_add_epi32(_mm512_mullo_epi32(first, heads.first), _mm512_mullo_epi32(second, heads.second))
}

/// Whether weights have four bits.
const fn narrow(kind: u8) -> bool {
    matches!(kind, Q4_0 | Q4_1 | Q4K)
}

/// [`add_within`] for weights of four bits: a part is at most 8 times 15 times 127, so two of them fit into sixteen bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_narrow([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let one = _mm512_set1_epi16(1);
    let ab = _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
    let cd = _mm512_madd_epi16(_mm512_packs_epi32(c, d), one);
    _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), one)
}

/// The sums of sixteen blocks, each at its place, from four vectors of four blocks with four parts each.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_within(parts: [__m512i; 4], quads: usize) -> __m512i {
    let [a, b, c, d] = parts;
    if quads == 1 {
        // All four places get the sum; the three that are not the block's meet a scale of zero.
        let a = _mm512_add_epi32(a, _mm512_shuffle_epi32::<0b01_00_11_10>(a));
        return _mm512_add_epi32(a, _mm512_shuffle_epi32::<0b10_11_00_01>(a));
    }
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// The sum of the lanes, in the order that the module's first lines give.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn add_up(values: __m512) -> f32 {
    let two = _mm_add_ps(_mm512_castps512_ps128(values), _mm512_extractf32x4_ps::<1>(values));
    let three = _mm_add_ps(two, _mm512_extractf32x4_ps::<2>(values));
    let four = _mm_add_ps(three, _mm512_extractf32x4_ps::<3>(values));
    let pair = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
}

/// Rows of floats: `F` is 0 for 32 bits, 1 for halves, 2 for bfloat16.
///
/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
unsafe fn float_rows<const F: u8, const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let k = x.k();
    for column in columns {
        let row = matrix.row(column);
        let mut sums = [_mm512_setzero_ps(); M];
        for at in (0..k).step_by(16) {
            let there = ((1u32 << (k - at).min(16)) - 1) as u16;
            // SAFETY: masked lanes are not read; the others lie in the row and in the rows of `x`.
            unsafe {
                let weights = match F {
                    0 => _mm512_maskz_loadu_ps(there, row.as_ptr().add(at * 4).cast()),
                    1 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, row.as_ptr().add(at * 2).cast())),
                    _ => {
                        let halves = _mm256_maskz_loadu_epi16(there, row.as_ptr().add(at * 2).cast());
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
                    }
                };
                for (m, sum) in sums.iter_mut().enumerate() {
                    let x = _mm512_maskz_loadu_ps(there, x.exact.as_ptr().add((first + m) * k + at));
                    *sum = _mm512_fmadd_ps(weights, x, *sum);
                }
            }
        }
        for (m, sum) in sums.into_iter().enumerate() {
            // SAFETY: the column is the caller's alone.
            unsafe { out.put((first + m) * matrix.n() + column, add_up(sum)) };
        }
    }
}

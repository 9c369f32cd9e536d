//! Eight rows of weights, each of sixteens of blocks and two more (576 values are sixteen and two), by few rows of
//! activations. Alone, the two cost a third of what the sixteen do; here those of the eight rows are taken as sixteen, and
//! the lanes of eight sums are added up at once. The order of additions is that of one row ([`super::dot`]), so the bits
//! are too.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

use super::unpack::{Heads, Pairs, bytes, heads_of_pairs, nibbles, pair_of_halves, quad_of};
use super::{AHEAD, add_narrow, add_within, narrow, sixteen, with_term};
use crate::activations::Activations;
use crate::kinds::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, shift};
use crate::matmul::{Matrix, Out};

/// Rows of weights that are taken together.
pub(super) const EIGHT: usize = 8;

/// Whether rows of so many blocks end in two beyond their sixteens. Where nothing is beyond, eight rows at once were no faster
/// than one.
pub(super) const fn fits(kind: u8, blocks: usize) -> bool {
    blocks > 16 && blocks % 16 == 2 && matches!(kind, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
}

/// Eight columns from `column` on by `M` rows of activations.
///
/// # Safety
/// As for [`super::rows`]; the rows must be such that [`fits`] is true.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn eight<const K: u8, const M: usize>(
    matrix: &Matrix<'_>,
    column: usize,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let blocks = x.k() / 32;
    let mut sums = [[_mm512_setzero_ps(); EIGHT]; M];
    // SAFETY: every sixteen lies in its row, as the two blocks after the last do.
    unsafe {
        for number in 0..EIGHT {
            let row = matrix.row(column + number).as_ptr();
            let mut of_row = [_mm512_setzero_ps(); M];
            for group in 0..blocks / 16 {
                let base = row.add(bytes(K, group * 16));
                sixteen::<K, M>(base, 16, x, first, group * 16, &mut of_row);
            }
            for (sums, sum) in sums.iter_mut().zip(of_row) {
                sums[number] = sum;
            }
        }
        let mut turned = sums.map(|[a, b, c, d, e, f, g, h]| [turned([a, b, c, d]), turned([e, f, g, h])]);
        let end = |number: usize| matrix.row(column + number).as_ptr().add(bytes(K, blocks - 2));
        let ends: Pairs = std::array::from_fn(end);
        for end in ends {
            _mm_prefetch::<_MM_HINT_T0>(end.wrapping_add(AHEAD).cast());
        }
        add_ends::<K, M>(ends, blocks - 2, x, first, &mut turned);
        for (m, [low, high]) in turned.into_iter().enumerate() {
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
            let values = _mm512_permutex2var_ps(added_up(low), firsts, added_up(high));
            let to = out.at((first + m) * matrix.n() + column);
            _mm256_storeu_ps(to, _mm512_castps512_ps256(values));
        }
    }
}

/// Adds the products of the two blocks at each row's end to the places that they have in a sixteen of their own.
///
/// # Safety
/// As for [`eight`]; `from` is the number of the first of the two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn add_ends<const K: u8, const M: usize>(
    ends: Pairs,
    from: usize,
    x: &Activations,
    first: usize,
    sums: &mut [[[__m512; 4]; 2]; M],
) {
    let none = _mm512_setzero_si512();
    // SAFETY: the caller's promise; a row has sixteen blocks before its end.
    unsafe {
        let (heads, fours) = if K == Q4_1 {
            let (heads, bytes) = pairs_of_fives(ends);
            (heads, bytes.map(|bytes| nibbles(bytes)))
        } else {
            let four = |number: usize| {
                let (a, b) = (ends[number * 2], ends[number * 2 + 1]);
                quad_of::<K>([a, a.add(bytes(K, 1)), b, b.add(bytes(K, 1))])
            };
            (heads_of_pairs::<K>(ends, 16), [four(0), four(1), four(2), four(3)])
        };
        for (m, [low_rows, high_rows]) in sums.iter_mut().enumerate() {
            let q = x.q.as_ptr().add((first + m) * x.q_stride() + from * 32);
            let low = _mm512_broadcast_i64x4(_mm256_loadu_si256(q.cast()));
            let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(q.add(64).cast()));
            let products =
                fours.map(|(a, b)| _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(none, a, low), b, high));
            let mut sum = if narrow(K) { add_narrow(products) } else { add_within(products, 4) };
            // The first block is at place 0 of its sixteen, the second at place 4.
            let at = (first + m) * x.d_stride() + from;
            let both = |values: __m512i| {
                let lanes = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
                _mm512_permutexvar_epi32(lanes, values)
            };
            let floats = |values: &[f32]| {
                _mm512_castsi512_ps(both(_mm512_loadu_si512(values.as_ptr().add(at).cast())))
            };
            if let Some(shift) = shift(K) {
                let all = both(_mm512_loadu_si512(x.sums.as_ptr().add(at).cast()));
                sum = _mm512_sub_epi32(sum, _mm512_sll_epi32(all, _mm_cvtsi32_si128(shift as i32)));
            }
            let (d, s) = (floats(&x.d), floats(&x.s));
            let before = gathered(low_rows, high_rows);
            let after = with_term::<K>(before, heads.scale, heads.minimum, sum, d, s);
            scatter(after, low_rows, high_rows);
        }
    }
}

/// [`super::unpack::fives`] for two blocks of each of eight rows, before which the rows are at least 24 bytes long already: each load ends
/// where its pair does.
///
/// # Safety
/// As for [`heads_of_pairs`], and 24 bytes must lie before each pair.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pairs_of_fives(pairs: Pairs) -> (Heads, [__m512i; 4]) {
    let none = _mm512_setzero_si512();
    let (mut first, mut second, mut bytes) = ([none; 4], [none; 4], [none; 4]);
    let order = _mm512_setr_epi32(7, 8, 9, 10, 12, 13, 14, 15, 23, 24, 25, 26, 28, 29, 30, 31);
    for number in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            first[number] = _mm512_loadu_si512(pairs[number * 2].sub(24).cast());
            second[number] = _mm512_loadu_si512(pairs[number * 2 + 1].sub(24).cast());
        }
        bytes[number] = _mm512_permutex2var_epi32(first[number], order, second[number]);
    }
    // Lanes of 128 bits are a four's four blocks; a double word in it is the four's number.
    let pick = _mm512_setr_epi32(6, 22, 6, 22, 11, 27, 11, 27, 6, 22, 6, 22, 11, 27, 11, 27);
    let even = [
        _mm512_permutex2var_epi32(first[0], pick, first[1]),
        _mm512_permutex2var_epi32(first[2], pick, first[3]),
    ];
    let odd = [
        _mm512_permutex2var_epi32(second[0], pick, second[1]),
        _mm512_permutex2var_epi32(second[2], pick, second[3]),
    ];
    let low = _mm512_mask_blend_epi32(0xff00, even[0], odd[0]);
    let high = _mm512_mask_blend_epi32(0xff00, even[1], odd[1]);
    (pair_of_halves(_mm512_mask_blend_epi32(0xcccc, low, high)), bytes)
}

/// The places of two end blocks of eight rows as their products lie: a double word for two rows, in it row by row the two.
#[inline]
#[target_feature(enable = "avx512f")]
fn gathered(low: &[__m512; 4], high: &[__m512; 4]) -> __m512 {
    // Row r of a four has its places at element 0 of 128-bit lane r: of the first vector place 0, of the second place 4.
    let order = _mm512_setr_epi32(0, 8, 0, 8, 16, 24, 16, 24, 4, 12, 4, 12, 20, 28, 20, 28);
    let low = _mm512_permutex2var_ps(low[0], order, low[1]);
    let high = _mm512_permutex2var_ps(high[0], order, high[1]);
    _mm512_mask_blend_ps(0xcccc, low, high)
}

/// Puts back what [`gathered`] took.
#[inline]
#[target_feature(enable = "avx512f")]
fn scatter(values: __m512, low: &mut [__m512; 4], high: &mut [__m512; 4]) {
    let put = |to: &mut __m512, order: [i32; 4]| {
        let [a, b, c, d] = order;
        let order = _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
        *to = _mm512_mask_permutexvar_ps(*to, 0x1111, order, values);
    };
    put(&mut low[0], [0, 8, 1, 9]);
    put(&mut low[1], [4, 12, 5, 13]);
    put(&mut high[0], [2, 10, 3, 11]);
    put(&mut high[1], [6, 14, 7, 15]);
}

/// Four rows of four lanes of 128 bits to four vectors of one lane of each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let low = (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d));
    let high = (_mm512_shuffle_f32x4::<0b11_10_11_10>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d));
    [
        _mm512_shuffle_f32x4::<0b10_00_10_00>(low.0, low.1),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(low.0, low.1),
        _mm512_shuffle_f32x4::<0b10_00_10_00>(high.0, high.1),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(high.0, high.1),
    ]
}

/// The sums of four rows' lanes, in the order of [`super::add_up`], at element 0 of each row's 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn added_up([a, b, c, d]: [__m512; 4]) -> __m512 {
    let four = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), c), d);
    let pair = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
    _mm512_add_ps(pair, _mm512_movehdup_ps(pair))
}

//! AVX2 and FMA, one block of 32 at a time, on the blocks as they lie in the file; for many rows of activations, on blocks
//! that are unpacked once ([`mod@panel`]).

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

mod panel;

use std::arch::x86_64::*;
use std::ops::Range;

use crate::activations::Activations;
use crate::attention::{KEY_BLOCK, Soft, plain_scores, plain_weigh};
use crate::blocks::{Kind, scales_and_minima};
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, with_kind};
use crate::matmul::{Matrix, Out};
pub(crate) use panel::panel;

/// Whether this machine has what the functions here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// The `columns` of a matrix by `M` rows of activations from `first` on.
///
/// # Safety
/// The machine must have what [`available`] asks for; `first + M` must not exceed the rows of `x`, which must be rounded
/// for quantised formats and exact for the others; the columns of `out` must be the caller's alone.
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantised_rows<const K: u8, const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    for column in columns {
        let mut sums = Sums::<M>::none();
        // SAFETY: the caller's promise; the activations have as many blocks as the row.
        unsafe {
            each_part::<K>(matrix, column, &mut |part, at| sums.add::<K>(&part, x, first, at));
            sums.put(matrix.n(), column, first, out);
        }
    }
}

/// Calls `take` with every 32 values of a row of weights and their number.
///
/// # Safety
/// The machine must have what [`available`] asks for; the matrix must be of the format `K`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn each_part<const K: u8>(
    matrix: &Matrix<'_>,
    column: usize,
    take: &mut impl FnMut(Part, usize),
) {
    let (values, bytes) = matrix.kind().block();
    for (number, block) in matrix.row(column).chunks_exact(bytes).enumerate() {
        let at = number * (values / 32);
        // SAFETY: the block is whole.
        unsafe {
            match K {
                Q4K | Q5K => super_block::<K>(block, at, take),
                Q6K => six_bits(block, at, take),
                _ => small_block::<K>(block, at, take),
            }
        }
    }
}

/// Thirty-two weights, the scale of each lane of four, and the minimum.
#[derive(Clone, Copy)]
pub(super) struct Part {
    weights: __m256i,
    scale: __m256,
    minimum: f32,
}

pub(super) struct Sums<const M: usize> {
    products: [__m256; M],
    minima: [f32; M],
}

impl<const M: usize> Sums<M> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn none() -> Self {
        Self { products: [_mm256_setzero_ps(); M], minima: [0.0; M] }
    }

    /// Adds the products of the block number `at` of a row. Signed weights change sides of the sign with the activations,
    /// because the instruction wants one side unsigned.
    ///
    /// # Safety
    /// The machine must have what [`available`] asks for; `at` must be a block of `x`, `first + M` its rows.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn add<const K: u8>(&mut self, part: &Part, x: &Activations, first: usize, at: usize) {
        let weights = part.weights;
        for m in 0..M {
            // SAFETY: the caller's promise.
            unsafe {
                let q = _mm256_loadu_si256(x.q.as_ptr().add((first + m) * x.q_stride() + at * 32).cast());
                let pairs = if matches!(K, Q8_0 | Q6K) {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(q, weights))
                } else {
                    _mm256_maddubs_epi16(weights, q)
                };
                let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                let place = (first + m) * x.d_stride() + at;
                let scale = _mm256_mul_ps(part.scale, _mm256_set1_ps(*x.d.get_unchecked(place)));
                self.products[m] = _mm256_fmadd_ps(products, scale, self.products[m]);
                self.minima[m] += part.minimum * *x.s.get_unchecked(place);
            }
        }
    }

    /// Writes the sums to a column of rows of `n`.
    ///
    /// # Safety
    /// The column must be the caller's alone, and `first + M` must not exceed the rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn put(&self, n: usize, column: usize, first: usize, out: &Out) {
        for m in 0..M {
            // SAFETY: the caller's promise.
            unsafe { out.put((first + m) * n + column, add_up(self.products[m]) + self.minima[m]) };
        }
    }
}

/// Sixteen bytes of nibbles: the low ones, then the high ones.
///
/// # Safety
/// Sixteen bytes must lie at `at`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadu_si128(at.cast()) };
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Sixteen in every byte whose bit is set.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth(bits: u32) -> __m256i {
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits.cast_signed()), spread);
    let mine = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mine), mine);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "f16c")]
fn half_at(block: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([block[at], block[at + 1]]);
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// A block of 32.
///
/// # Safety
/// The machine must have what [`available`] asks for; the block must be whole.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn small_block<const K: u8>(block: &[u8], at: usize, take: &mut impl FnMut(Part, usize)) {
    let d = half_at(block, 0);
    let scale = _mm256_set1_ps(d);
    // SAFETY: the block's last sixteen bytes are nibbles, or its last 32 are the weights; fifth bits stand before them.
    unsafe {
        if K == Q8_0 {
            let weights = _mm256_loadu_si256(block.as_ptr().add(2).cast());
            return take(Part { weights, scale, minimum: 0.0 }, at);
        }
        let low = nibbles(block.as_ptr().add(block.len() - 16));
        let bits = |from: usize| block.as_ptr().add(from).cast::<u32>().read_unaligned();
        let (weights, minimum) = match K {
            Q4_0 => (low, -8.0 * d),
            Q4_1 => (low, half_at(block, 2)),
            Q5_0 => (_mm256_or_si256(low, fifth(bits(2))), -16.0 * d),
            Q5_1 => (_mm256_or_si256(low, fifth(bits(4))), half_at(block, 2)),
            _ => return,
        };
        take(Part { weights, scale, minimum }, at);
    }
}

/// Eight blocks with scales and minima of six bits.
///
/// # Safety
/// As for [`small_block`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn super_block<const K: u8>(block: &[u8], at: usize, take: &mut impl FnMut(Part, usize)) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, minima) = scales_and_minima(&block[4..16]);
    let start = if K == Q5K { 48 } else { 16 };
    let nibble = _mm256_set1_epi8(15);
    // SAFETY: 32 bytes of fifth bits at 16, four times 32 bytes of nibbles from `start` on.
    unsafe {
        let bits = _mm256_loadu_si256(block.as_ptr().add(16).cast());
        for pair in 0..4 {
            let bytes = _mm256_loadu_si256(block.as_ptr().add(start + pair * 32).cast());
            let two =
                [_mm256_and_si256(bytes, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble)];
            for (side, mut weights) in two.into_iter().enumerate() {
                let j = pair * 2 + side;
                if K == Q5K {
                    let bit = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(j as i32));
                    let bit = _mm256_slli_epi16::<4>(_mm256_and_si256(bit, _mm256_set1_epi8(1)));
                    weights = _mm256_or_si256(weights, bit);
                }
                let scale = _mm256_set1_ps(d * f32::from(scales[j]));
                take(Part { weights, scale, minimum: -dmin * f32::from(minima[j]) }, at + j);
            }
        }
    }
}

/// Eight blocks of six bits, with a scale for each half.
///
/// # Safety
/// As for [`small_block`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bits(block: &[u8], at: usize, take: &mut impl FnMut(Part, usize)) {
    let d = half_at(block, 208);
    let scale = |n: usize| _mm_set1_ps(d * f32::from(block[192 + n].cast_signed()));
    for j in 0..8 {
        let (half, quarter) = (j / 4, j % 4);
        // SAFETY: twice 64 bytes of nibbles, then twice 32 bytes of upper bits.
        unsafe {
            let low = _mm256_loadu_si256(block.as_ptr().add(half * 64 + quarter % 2 * 32).cast());
            let high = _mm256_loadu_si256(block.as_ptr().add(128 + half * 32).cast());
            let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(quarter as i32 / 2 * 4));
            let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(quarter as i32 * 2));
            let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
            let weights = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)), high);
            let weights = _mm256_sub_epi8(weights, _mm256_set1_epi8(32));
            let scale = _mm256_set_m128(scale(2 * j + 1), scale(2 * j));
            take(Part { weights, scale, minimum: 0.0 }, at + j);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_up(values: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Eight floats: `F` is 0 for 32 bits, 1 for halves, 2 for bfloat16.
///
/// # Safety
/// The machine must have what [`available`] asks for; eight values must lie at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight<const F: u8>(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        match F {
            0 => _mm256_loadu_ps(at.cast()),
            1 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
            _ => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                at.cast(),
            )))),
        }
    }
}

/// Rows of floats.
///
/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_rows<const F: u8, const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let k = x.k();
    let size = matrix.kind().block().1;
    let whole = k / 8 * 8;
    for column in columns {
        let row = matrix.row(column);
        let mut sums = [_mm256_setzero_ps(); M];
        for at in (0..whole).step_by(8) {
            // SAFETY: `at + 8` does not exceed `k`.
            unsafe {
                let weights = eight::<F>(row.as_ptr().add(at * size));
                for (m, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_loadu_ps(x.exact.as_ptr().add((first + m) * k + at));
                    *sum = _mm256_fmadd_ps(weights, x, *sum);
                }
            }
        }
        let mut rest = [0f32; 8];
        crate::dequantise(matrix.kind(), &row[whole * size..], &mut rest[..k - whole]);
        for (m, sum) in sums.into_iter().enumerate() {
            let x = &x.exact[(first + m) * k + whole..][..k - whole];
            let rest: f32 = rest.iter().zip(x).map(|(w, x)| w * x).sum();
            // SAFETY: the column is the caller's alone.
            unsafe { out.put((first + m) * matrix.n() + column, add_up(sum) + rest) };
        }
    }
}

/// [`plain_scores`] with vectors.
///
/// # Safety
/// The machine must have what [`available`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn scores(query: &[f32], keys: &[f32], scores: &mut [f32; KEY_BLOCK]) {
    plain_scores(query, keys, scores);
}

/// [`plain_weigh`] with vectors.
///
/// # Safety
/// The machine must have what [`available`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn weigh(weights: &[f32], values: &[f32], out: &mut [f32]) {
    plain_weigh(weights, values, out);
}

/// [`crate::attention::soften`] with vectors.
///
/// # Safety
/// The machine must have what [`available`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn soften(scores: &mut [f32], scale: f32) -> Soft {
    crate::attention::soften(scores, scale)
}

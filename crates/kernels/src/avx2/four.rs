//! Four rows of weights by few rows of activations. Each row's blocks are added by eights, a lane for a block; what is left of
//! four rows is taken together, two blocks of each, and then all lanes of the four are added up at once. A row adds up alike
//! whatever the other three are.

use std::arch::x86_64::*;

use super::FileRows;
use super::unpack::Eight;
use crate::activations::Activations;
use crate::columns::{Columns, FOUR};
use crate::kinds::{Q4_0, Q4_1, Q4K, Q6K, Q8_0};
use crate::matmul::{Matrix, Out};

/// Where the products of four rows of weights go: to some columns of rows of `n` values.
pub(super) struct Target<'a> {
    out: &'a Out,
    n: usize,
    columns: Columns,
}

impl<'a> Target<'a> {
    pub(super) fn new(matrix: &Matrix<'_>, columns: Columns, out: &'a Out) -> Self {
        Self { out, n: matrix.n(), columns }
    }

    /// Writes the four products of a row of activations.
    ///
    /// # Safety
    /// The row must be there; the columns must be the caller's alone.
    #[inline(always)]
    pub(super) unsafe fn put(&self, row: usize, products: __m128) {
        let Columns { first, step, count } = self.columns;
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.out.at(row * self.n + first);
            if step == 1 && count == FOUR {
                return _mm_storeu_ps(to, products);
            }
            let mut four = [0f32; FOUR];
            _mm_storeu_ps(four.as_mut_ptr(), products);
            for (number, product) in four.into_iter().enumerate().take(count) {
                to.add(number * step).write(product);
            }
        }
    }
}

/// Adds up four rows of weights by `M` rows of activations from `first` on, and writes the products.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `first + M` must not exceed the rows of `x`, which must be
/// rounded; the columns of the target must be the caller's alone.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn four<const K: u8, const M: usize, const AHEAD: usize>(
    rows: &FileRows,
    x: &Activations,
    first: usize,
    target: &Target<'_>,
) {
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let (eights, beyond) = (x.k() / 256, x.k() / 32 % 8);
    let zero = _mm256_setzero_ps();
    let mut all = [[zero; FOUR]; M];
    // SAFETY: the caller's promise; a row of `x` has its eights, then its pairs, padded with zeros to a whole one.
    unsafe {
        for row in 0..FOUR {
            let mut sums = [zero; M];
            for number in 0..eights {
                let eight = rows.eight::<K, AHEAD>(row, number);
                for (m, sum) in sums.iter_mut().enumerate() {
                    let q = x.q.as_ptr().add((first + m) * q_stride + number * 256);
                    let at = (first + m) * d_stride + number * 8;
                    let lanes = |values: *const f32| _mm256_loadu_ps(values.add(at));
                    let whole = |values: *const i32| _mm256_loadu_si256(values.add(at).cast());
                    let corrections = if K == Q6K {
                        let firsts = whole(x.firsts.as_ptr());
                        [firsts, _mm256_sub_epi32(whole(x.sums.as_ptr()), firsts)]
                    } else {
                        [_mm256_setzero_si256(); 2]
                    };
                    *sum = with::<K>(
                        *sum,
                        (eight.scale, eight.other),
                        totals::<K>(&eight, q, 64),
                        corrections,
                        lanes(x.d.as_ptr()),
                        lanes(x.s.as_ptr()),
                    );
                }
            }
            for (all, sum) in all.iter_mut().zip(sums) {
                all[row] = sum;
            }
        }
        let mut rest = [zero; M];
        for number in 0..beyond.div_ceil(2) {
            let ends = rows.ends::<K>(number);
            for (m, rest) in rest.iter_mut().enumerate() {
                let q = x.q.as_ptr().add((first + m) * q_stride + eights * 256 + number * 64);
                let at = (first + m) * d_stride + eights * 8 + number * 2;
                let both = |values: *const f32| {
                    let (low, high) = (values.add(at), values.add(at + 1));
                    _mm256_set_m128(_mm_set1_ps(*high), _mm_set1_ps(*low))
                };
                let none = [_mm256_setzero_si256(); 2];
                *rest = with::<K>(
                    *rest,
                    (ends.scale, ends.other),
                    totals::<K>(&ends, q, 0),
                    none,
                    both(x.d.as_ptr()),
                    both(x.s.as_ptr()),
                );
            }
        }
        for (m, ([a, b, c, d], rest)) in all.into_iter().zip(rest).enumerate() {
            target.put(first + m, products([a, b, c, d], rest));
        }
    }
}

/// The products of four rows, from the lanes of each and from what was taken together.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn products([a, b, c, d]: [__m256; FOUR], rest: __m256) -> __m128 {
    // Lanes 0 to 3 and 4 to 7 are the four rows.
    let lanes = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let lanes = _mm256_add_ps(lanes, rest);
    _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes))
}

/// Adds the products of eight blocks, from their whole sums, scales and minima (or second scales, see [`Eight`]): `corrections`
/// are the activations' sums by halves for [`Q6K`].
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn with<const K: u8>(
    to: __m256,
    (scale, other): (__m256, __m256),
    [first, second]: [__m256i; 2],
    corrections: [__m256i; 2],
    d: __m256,
    s: __m256,
) -> __m256 {
    if K == Q6K {
        let [a, b] = corrections;
        let first = _mm256_cvtepi32_ps(_mm256_sub_epi32(first, _mm256_slli_epi32::<5>(a)));
        let second = _mm256_cvtepi32_ps(_mm256_sub_epi32(second, _mm256_slli_epi32::<5>(b)));
        let both = _mm256_fmadd_ps(second, other, _mm256_mul_ps(first, scale));
        return _mm256_fmadd_ps(both, d, to);
    }
    let to = _mm256_fmadd_ps(_mm256_cvtepi32_ps(first), _mm256_mul_ps(scale, d), to);
    if K == Q8_0 { to } else { _mm256_fmadd_ps(other, s, to) }
}

/// The whole sums of eight blocks' products with the activations at `q`; `step` as for [`parts`]. For [`Q6K`] those of their
/// first halves, then of their second ones.
///
/// # Safety
/// As for [`parts`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn totals<const K: u8>(eight: &Eight, q: *const i8, step: usize) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        if K == Q6K {
            let mut halves = [[_mm256_setzero_si256(); 4]; 2];
            for (number, weights) in eight.weights.into_iter().enumerate() {
                for (half, weights) in weights.into_iter().enumerate() {
                    let q = _mm256_loadu_si256(q.add(number * step).cast::<__m256i>().add(half));
                    halves[half][number] = _mm256_maddubs_epi16(weights, q);
                }
            }
            return halves.map(|half| add_some(half));
        }
        [added::<K>(parts::<K>(eight, q, step)), _mm256_setzero_si256()]
    }
}

/// The products of eight blocks with the activations at `q`, where each pair's follow `step` bytes after those of the one
/// before: a vector for each pair, in which [`added`] adds. Not for [`Q6K`].
///
/// # Safety
/// Four pairs must lie there.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn parts<const K: u8>(eight: &Eight, q: *const i8, step: usize) -> [__m256i; 4] {
    let mut parts = [_mm256_setzero_si256(); 4];
    for (number, [a, b]) in eight.weights.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe {
            let q = q.add(number * step).cast::<__m256i>();
            (_mm256_loadu_si256(q), _mm256_loadu_si256(q.add(1)))
        };
        parts[number] = if K == Q8_0 {
            // One side must be unsigned, so the weights' signs change sides.
            let one = _mm256_set1_epi16(1);
            let low = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(low, a));
            let high = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(high, b));
            _mm256_add_epi32(_mm256_madd_epi16(low, one), _mm256_madd_epi16(high, one))
        } else {
            _mm256_add_epi16(_mm256_maddubs_epi16(a, low), _mm256_maddubs_epi16(b, high))
        };
    }
    parts
}

/// The whole sums of eight blocks, each in its lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn added<const K: u8>(parts: [__m256i; 4]) -> __m256i {
    match K {
        Q8_0 => add_wide(parts),
        Q4_0 | Q4_1 | Q4K => add_narrow(parts),
        _ => add_some(parts),
    }
}

/// The sums of eight blocks, each in its lane, from eight parts of sixteen bits a block, where all eight fit into sixteen
/// bits: weights of four bits make parts of 4 times 15 times 127 at most, and four of them are added so.
#[inline]
#[target_feature(enable = "avx2")]
fn add_narrow([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let (ab, cd) = (fold(a, b), fold(c, d));
    let low = pick::<0b10_00_10_00>(ab, cd);
    let high = pick::<0b11_01_11_01>(ab, cd);
    _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1))
}

/// [`add_narrow`] where two parts fit into sixteen bits: of five bits twice 4 times 31 times 127, of six, whose halves are
/// added up apart, twice 2 times 63 times 127.
#[inline]
#[target_feature(enable = "avx2")]
fn add_some([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let one = _mm256_set1_epi16(1);
    let ab = _mm256_madd_epi16(fold(a, b), one);
    let cd = _mm256_madd_epi16(fold(c, d), one);
    _mm256_add_epi32(pick::<0b10_00_10_00>(ab, cd), pick::<0b11_01_11_01>(ab, cd))
}

/// [`add_narrow`] for four parts of 32 bits a block.
#[inline]
#[target_feature(enable = "avx2")]
fn add_wide([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    _mm256_add_epi32(pick::<0b10_00_10_00>(ab, cd), pick::<0b11_01_11_01>(ab, cd))
}

/// The upper half of each lane's parts added to the lower.
#[inline]
#[target_feature(enable = "avx2")]
fn fold(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// Double words of two vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn pick<const ORDER: i32>(a: __m256i, b: __m256i) -> __m256i {
    _mm256_castps_si256(_mm256_shuffle_ps::<ORDER>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)))
}

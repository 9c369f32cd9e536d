//! Q4_1 and Q8_0 with AVX-512 VNNI, on the blocks as they lie in the file. Two blocks make one vector of 64 products; the
//! scales of sixteen blocks are gathered at once and spread over the lanes by a permutation.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

use crate::activations::Activations;
use crate::blocks::Kind;

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

/// One row of weights by `M` rows of activations from `first` on.
///
/// # Safety
/// The machine must have what [`available`] asks for. `row` must hold `k / 32` whole blocks of `kind`, which is `Q4_1` or
/// `Q8_0`; `first + M` must not exceed the rows of `x`, which must be rounded.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn dot<const M: usize, const Q8: bool>(
    row: &[u8],
    x: &Activations,
    first: usize,
) -> [f32; M] {
    let blocks = x.k() / 32;
    let size = if Q8 { Kind::Q8_0.block().1 } else { Kind::Q4_1.block().1 };
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1);
    let nibble = _mm256_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); M];
    let mut group = 0;
    while group < blocks {
        let count = (blocks - group).min(16);
        // SAFETY: every pointer below stays inside `row` (blocks `group..group + count`, which the caller promised) or
        // inside the vectors of `x`, whose strides are padded to whole pairs and whole sixteens.
        unsafe {
            let base = row.as_ptr().add(group * size);
            // Q8_0 has no minimum: its values are moved by 128 to be unsigned, and the minimum moves them back.
            let (scales, minima) = if Q8 {
                let scales = _mm512_cvtph_ps(word_heads(base, count));
                (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-128.0)))
            } else {
                let heads = double_word_heads(base, count);
                let minima = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(heads)));
                (_mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads)), minima)
            };
            let mut spread = [_mm512_setzero_ps(); M];
            for m in 0..M {
                let at = (first + m) * d_stride + group;
                spread[m] = _mm512_mul_ps(scales, _mm512_loadu_ps(x.d.as_ptr().add(at)));
                sums[m] = _mm512_fmadd_ps(minima, _mm512_loadu_ps(x.s.as_ptr().add(at)), sums[m]);
            }
            let mut pair = 0;
            while pair < count {
                let a = base.add(pair * size);
                // The last block may stand alone: then it is read twice, and the second reading meets a scale of zero.
                let b = if pair + 1 < count { a.add(size) } else { a };
                let weights = if Q8 {
                    let low = _mm256_loadu_si256(a.add(2).cast());
                    let both = _mm512_inserti64x4::<1>(
                        _mm512_castsi256_si512(low),
                        _mm256_loadu_si256(b.add(2).cast()),
                    );
                    let signed = _mm512_shuffle_i64x2::<0b11_01_10_00>(both, both);
                    _mm512_xor_si512(signed, _mm512_set1_epi8(-128))
                } else {
                    let low = _mm_loadu_si128(a.add(4).cast());
                    let both = _mm256_inserti128_si256::<1>(
                        _mm256_castsi128_si256(low),
                        _mm_loadu_si128(b.add(4).cast()),
                    );
                    let first = _mm256_and_si256(both, nibble);
                    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
                };
                let index = _mm512_add_epi32(lanes, _mm512_set1_epi32(pair as i32));
                for m in 0..M {
                    let q = x.q.as_ptr().add((first + m) * q_stride + (group + pair) / 2 * 64);
                    let products =
                        _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, _mm512_loadu_si512(q.cast()));
                    let scale = _mm512_permutexvar_ps(index, spread[m]);
                    sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[m]);
                }
                pair += 2;
            }
        }
        group += count;
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = _mm512_reduce_add_ps(sums[m]);
    }
    out
}

/// The first four bytes (scale and minimum) of `count` blocks of 20 bytes, at most 16, the rest zero. Loads and
/// permutations, because a gather costs more than all the products of its blocks.
///
/// # Safety
/// The machine must have what [`available`] asks for; `count` blocks must lie at `base`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn double_word_heads(base: *const u8, count: usize) -> __m512i {
    // Block i begins at double word 5 i: in vector 5 i / 16, at 5 i % 16.
    const LANES: [u16; 5] = [0x000f, 0x0070, 0x0380, 0x1c00, 0xe000];
    let at = _mm512_setr_epi32(0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11);
    let mut heads = _mm512_setzero_si512();
    let words = count * 5;
    for (number, lanes) in LANES.into_iter().enumerate() {
        if number * 16 >= words {
            break;
        }
        let there = (words - number * 16).min(16);
        let mask = ((1u32 << there) - 1) as u16;
        // SAFETY: masked lanes are not read; the others lie inside the blocks.
        let part = unsafe { _mm512_maskz_loadu_epi32(mask, base.add(number * 64).cast()) };
        heads = _mm512_mask_permutexvar_epi32(heads, lanes, at, part);
    }
    heads
}

/// The first two bytes (the scale) of `count` blocks of 34 bytes, at most 16, the rest zero.
///
/// # Safety
/// As for [`double_word_heads`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn word_heads(base: *const u8, count: usize) -> __m256i {
    // Block i begins at word 17 i: in vector 17 i / 32, at 17 i % 32.
    const LANES: [u32; 9] = [0x0003, 0x000c, 0x0030, 0x00c0, 0x0300, 0x0c00, 0x3000, 0xc000, 0];
    let mut at = [0i16; 32];
    for (i, at) in at.iter_mut().enumerate().take(16) {
        *at = (17 * i % 32) as i16;
    }
    // SAFETY: the array is one vector.
    let at = unsafe { _mm512_loadu_epi16(at.as_ptr()) };
    let mut heads = _mm512_setzero_si512();
    let words = count * 17;
    for (number, lanes) in LANES.into_iter().enumerate() {
        if number * 32 >= words || lanes == 0 {
            break;
        }
        let there = (words - number * 32).min(32);
        let mask = ((1u64 << there) - 1) as u32;
        // SAFETY: masked lanes are not read; the others lie inside the blocks.
        let part = unsafe { _mm512_maskz_loadu_epi16(mask, base.add(number * 64).cast()) };
        heads = _mm512_mask_permutexvar_epi16(heads, lanes, at, part);
    }
    _mm512_castsi512_si256(heads)
}

/// The products of one query with the keys of a page, one a position.
///
/// # Safety
/// The machine must have what [`available`] asks for; `query` has `width` values, a multiple of 16, and `keys` at least
/// `width` halves for each entry of `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn scores(query: &[f32], keys: &[u16], width: usize, out: &mut [f32]) {
    for (out, key) in out.iter_mut().zip(keys.chunks_exact(width)) {
        let mut sum = _mm512_setzero_ps();
        for at in (0..width).step_by(16) {
            // SAFETY: `at + 16` does not exceed `width`, which both slices have.
            unsafe {
                let k = _mm512_cvtph_ps(_mm256_loadu_si256(key.as_ptr().add(at).cast()));
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(query.as_ptr().add(at)), k, sum);
            }
        }
        *out = _mm512_reduce_add_ps(sum);
    }
}

/// Adds the values of a page, each by its weight, to `out`.
///
/// # Safety
/// The machine must have what [`available`] asks for; `out` has `width` values, a multiple of 16, and `values` at least
/// `width` halves for each weight.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn weigh(weights: &[f32], values: &[u16], width: usize, out: &mut [f32]) {
    let mut at = 0;
    while at < width {
        // Four vectors at a time stay in registers; the last few may be fewer.
        let vectors = ((width - at) / 16).min(4);
        let mut sums = [_mm512_setzero_ps(); 4];
        // SAFETY: `at + vectors * 16` does not exceed `width`.
        unsafe {
            for (n, sum) in sums.iter_mut().enumerate().take(vectors) {
                *sum = _mm512_loadu_ps(out.as_ptr().add(at + n * 16));
            }
            for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
                let weight = _mm512_set1_ps(*weight);
                for (n, sum) in sums.iter_mut().enumerate().take(vectors) {
                    let v = _mm512_cvtph_ps(_mm256_loadu_si256(value.as_ptr().add(at + n * 16).cast()));
                    *sum = _mm512_fmadd_ps(weight, v, *sum);
                }
            }
            for (n, sum) in sums.iter().enumerate().take(vectors) {
                _mm512_storeu_ps(out.as_mut_ptr().add(at + n * 16), *sum);
            }
        }
        at += vectors * 16;
    }
}

/// [`crate::attention::normalise`] with wide vectors.
///
/// # Safety
/// The machine must have what [`available`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn normalise(scores: &mut [f32], scale: f32) {
    crate::attention::normalise(scores, scale);
}

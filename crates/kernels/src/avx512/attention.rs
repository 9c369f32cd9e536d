//! Attention's inner loops with AVX-512, and the same plain code compiled for it.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

/// The products of one query with the keys of a page, one a position.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `query` has `width` values, a multiple of 16, and `keys` at least
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
/// The machine must have what [`super::available`] asks for; `out` has `width` values, a multiple of 16, and `values` at least
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

/// [`crate::attention::exponents`] with wide vectors.
///
/// # Safety
/// The machine must have what [`super::available`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn exponents(scores: &mut [f32], highest: f32, scale: f32) -> f32 {
    crate::attention::exponents(scores, highest, scale)
}

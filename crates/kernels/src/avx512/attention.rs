//! Attention's inner loops: several queries at a time meet each key and each value once it is widened.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

use crate::attention::{KEY_BLOCK, Soft};

/// Calls a function with the number of the next queries as a constant, until there are none left.
macro_rules! in_groups {
    ($count:expr, $first:ident, $function:ident [$($constant:tt),*] ($($argument:expr),*)) => {
        let mut $first = 0;
        while $first < $count {
            match $count - $first {
                6.. => { $function::<6 $(, $constant)*>($($argument),*); $first += 6 }
                4.. => { $function::<4 $(, $constant)*>($($argument),*); $first += 4 }
                3 => { $function::<3 $(, $constant)*>($($argument),*); $first += 3 }
                2 => { $function::<2 $(, $constant)*>($($argument),*); $first += 2 }
                _ => { $function::<1 $(, $constant)*>($($argument),*); $first += 1 }
            }
        }
    };
}

/// The products of all queries with a block of keys: [`KEY_BLOCK`] scores a query, `stride` apart.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `keys` must be a block of keys as wide as a query.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn scores(queries: &[f32], width: usize, keys: &[u16], out: &mut [f32], stride: usize) {
    let count = queries.len() / width;
    assert!(
        keys.len() >= width * KEY_BLOCK && out.len() >= (count - 1) * stride + KEY_BLOCK,
        "the scores have another size"
    );
    // SAFETY: the sizes were checked; each group of queries lies among them.
    unsafe {
        in_groups!(count, first, some_scores[](
            queries.as_ptr().add(first * width),
            width,
            keys.as_ptr(),
            out.as_mut_ptr().add(first * stride),
            stride
        ));
    }
}

/// # Safety
/// As for [`scores`], whose sizes were checked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
unsafe fn some_scores<const M: usize>(
    queries: *const f32,
    width: usize,
    keys: *const u16,
    out: *mut f32,
    stride: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); KEY_BLOCK / 16]; M];
    // SAFETY: the caller's promise.
    unsafe {
        for at in 0..width {
            let mut key = [_mm512_setzero_ps(); KEY_BLOCK / 16];
            for (n, key) in key.iter_mut().enumerate() {
                *key = _mm512_cvtph_ps(_mm256_loadu_si256(keys.add(at * KEY_BLOCK + n * 16).cast()));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let query = _mm512_set1_ps(*queries.add(m * width + at));
                for (sum, key) in sums.iter_mut().zip(key) {
                    *sum = _mm512_fmadd_ps(query, key, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(out.add(m * stride + n * 16), sum);
            }
        }
    }
}

/// Adds `positions` values, each by its weight, to what each query has; the weights of a query are `stride` apart from the
/// next one's.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `width` must be a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn weigh(
    weights: &[f32],
    stride: usize,
    positions: usize,
    values: &[u16],
    width: usize,
    out: &mut [f32],
) {
    let count = out.len() / width;
    assert!(
        values.len() >= positions * width && weights.len() >= (count - 1) * stride + positions,
        "the values have another size"
    );
    let mut at = 0;
    while at < width {
        let from = |first: usize| (first * stride, at, first * width + at);
        // SAFETY: the sizes were checked; a group of queries and of vectors lies among them.
        unsafe {
            match (width - at) / 16 {
                4.. => {
                    in_groups!(
                        count,
                        first,
                        some_weighed[4](weights, stride, positions, values, width, out, from(first))
                    );
                    at += 64;
                }
                2.. => {
                    in_groups!(
                        count,
                        first,
                        some_weighed[2](weights, stride, positions, values, width, out, from(first))
                    );
                    at += 32;
                }
                _ => {
                    in_groups!(
                        count,
                        first,
                        some_weighed[1](weights, stride, positions, values, width, out, from(first))
                    );
                    at += 16;
                }
            }
        }
    }
}

/// # Safety
/// As for [`weigh`], whose sizes were checked; where weights, values and results begin must leave room for `M` queries and
/// `V` vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
unsafe fn some_weighed<const M: usize, const V: usize>(
    weights: &[f32],
    stride: usize,
    positions: usize,
    values: &[u16],
    width: usize,
    out: &mut [f32],
    (weight, value, result): (usize, usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (weights, values) = (weights.as_ptr().add(weight), values.as_ptr().add(value));
        let out = out.as_mut_ptr().add(result);
        let mut sums = [[_mm512_setzero_ps(); V]; M];
        for (m, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(out.add(m * width + n * 16));
            }
        }
        for position in 0..positions {
            let mut value = [_mm512_setzero_ps(); V];
            for (n, value) in value.iter_mut().enumerate() {
                *value = _mm512_cvtph_ps(_mm256_loadu_si256(values.add(position * width + n * 16).cast()));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let weight = _mm512_set1_ps(*weights.add(m * stride + position));
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = _mm512_fmadd_ps(weight, value, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(out.add(m * width + n * 16), sum);
            }
        }
    }
}

/// [`crate::attention::soften`] with wide vectors.
///
/// # Safety
/// The machine must have what [`super::available`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) unsafe fn soften(scores: &mut [f32], scale: f32) -> Soft {
    crate::attention::soften::<false>(scores, scale)
}

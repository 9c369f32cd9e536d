//! Attention's inner loops: three queries at a time meet each key and each value. Keys and values are halves, or, where so many
//! queries share them that it pays to make floats of them beforehand, floats.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

use crate::attention::{KEY_BLOCK, Soft};

/// From so many queries on, floats are made beforehand.
pub(crate) const MANY_QUERIES: usize = 6;
/// Vectors of one query that are summed at a time.
const VECTORS: usize = 4;

/// Numbers that lie as halves or as floats.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    Halves(&'a [u16]),
    Floats(&'a [f32]),
}

impl Stored<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Halves(halves) => halves.len(),
            Self::Floats(floats) => floats.len(),
        }
    }
}

/// Eight numbers from the `at`th on of what begins at `start`: floats if `WIDE`, else halves.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; they must be there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight<const WIDE: bool>(start: *const u8, at: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        if WIDE {
            _mm256_loadu_ps(start.cast::<f32>().add(at))
        } else {
            _mm256_cvtph_ps(_mm_loadu_si128(start.cast::<u16>().add(at).cast()))
        }
    }
}

/// Rows of 64 halves that are asked for before they are needed.
const AHEAD: usize = 32;

/// Asks for 64 halves from the `at`th on.
#[inline(always)]
fn ask_for(start: *const u8, at: usize) {
    let start = start.wrapping_add(at * 2).cast::<i8>();
    // SAFETY: nothing is read.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(start);
        _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64));
    }
}

/// Calls a function with whether the numbers are floats and the number of the next queries as constants, and where the
/// numbers begin, until no query is left.
macro_rules! in_groups {
    ($stored:expr, $count:expr, $first:ident, $function:ident [$($constant:tt),*] ($($argument:expr),*)) => {
        let mut $first = 0;
        while $first < $count {
            let take = ($count - $first).min(3);
            match ($stored, take) {
                (Stored::Halves(s), 3) => $function::<false, 3 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
                (Stored::Halves(s), 2) => $function::<false, 2 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
                (Stored::Halves(s), _) => $function::<false, 1 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
                (Stored::Floats(s), 3) => $function::<true, 3 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
                (Stored::Floats(s), 2) => $function::<true, 2 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
                (Stored::Floats(s), _) => $function::<true, 1 $(, $constant)*>(s.as_ptr().cast(), $($argument),*),
            }
            $first += take;
        }
    };
}

/// The products of all queries with a block of keys: [`KEY_BLOCK`] scores a query, `stride` apart.
///
/// # Safety
/// The machine must have what [`super::available`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn scores(queries: &[f32], width: usize, keys: Stored<'_>, out: &mut [f32], stride: usize) {
    let count = queries.len() / width;
    assert!(
        keys.len() >= width * KEY_BLOCK && out.len() >= (count - 1) * stride + KEY_BLOCK,
        "the scores have another size"
    );
    // SAFETY: the sizes were checked; each group of queries lies among them.
    unsafe {
        in_groups!(keys, count, first, some_scores[](
            queries.as_ptr().add(first * width),
            width,
            out.as_mut_ptr().add(first * stride),
            stride
        ));
    }
}

/// # Safety
/// As for [`scores`], whose sizes were checked.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn some_scores<const WIDE: bool, const M: usize>(
    keys: *const u8,
    queries: *const f32,
    width: usize,
    out: *mut f32,
    stride: usize,
) {
    for part in (0..KEY_BLOCK).step_by(VECTORS * 8) {
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; M];
        // SAFETY: the caller's promise.
        unsafe {
            for at in 0..width {
                if !WIDE && part == 0 {
                    ask_for(keys, (at + AHEAD) * KEY_BLOCK);
                }
                // One key at a time: sums, queries and the key are sixteen vectors, as many as there are.
                let mut query = [_mm256_setzero_ps(); M];
                for (m, query) in query.iter_mut().enumerate() {
                    *query = _mm256_set1_ps(*queries.add(m * width + at));
                }
                for n in 0..VECTORS {
                    let key = eight::<WIDE>(keys, at * KEY_BLOCK + part + n * 8);
                    for (sums, query) in sums.iter_mut().zip(query) {
                        sums[n] = _mm256_fmadd_ps(query, key, sums[n]);
                    }
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    _mm256_storeu_ps(out.add(m * stride + part + n * 8), sum);
                }
            }
        }
    }
}

/// Adds `positions` values, each by its weight, to what each query has; the weights of a query are `stride` apart from the
/// next one's.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `width` must be a multiple of 8.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn weigh(
    weights: &[f32],
    stride: usize,
    positions: usize,
    values: Stored<'_>,
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
        // SAFETY: the sizes were checked; a group of queries and of vectors lies among them.
        unsafe {
            if width - at >= VECTORS * 8 {
                in_groups!(
                    values,
                    count,
                    first,
                    some_weighed[VECTORS](
                        (weights.as_ptr().add(first * stride), stride),
                        (positions, width, at),
                        out.as_mut_ptr().add(first * width)
                    )
                );
                at += VECTORS * 8;
            } else {
                in_groups!(
                    values,
                    count,
                    first,
                    some_weighed[1](
                        (weights.as_ptr().add(first * stride), stride),
                        (positions, width, at),
                        out.as_mut_ptr().add(first * width)
                    )
                );
                at += 8;
            }
        }
    }
}

/// # Safety
/// As for [`weigh`], whose sizes were checked; weights and results must leave room for `M` queries, and a row of values,
/// from `at` on, for `V` vectors.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn some_weighed<const WIDE: bool, const M: usize, const V: usize>(
    values: *const u8,
    (weights, stride): (*const f32, usize),
    (positions, width, at): (usize, usize, usize),
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); V]; M];
        for (m, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(out.add(m * width + at + n * 8));
            }
        }
        for position in 0..positions {
            if !WIDE && at == 0 {
                ask_for(values, (position + AHEAD) * width);
            }
            let mut weight = [_mm256_setzero_ps(); M];
            for (m, weight) in weight.iter_mut().enumerate() {
                *weight = _mm256_set1_ps(*weights.add(m * stride + position));
            }
            for n in 0..V {
                let value = eight::<WIDE>(values, position * width + at + n * 8);
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    sums[n] = _mm256_fmadd_ps(weight, value, sums[n]);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(out.add(m * width + at + n * 8), sum);
            }
        }
    }
}

/// [`crate::attention::soften`] with vectors.
///
/// # Safety
/// The machine must have what [`super::available`] asks for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn soften(scores: &mut [f32], scale: f32) -> Soft {
    crate::attention::soften::<true>(scores, scale)
}

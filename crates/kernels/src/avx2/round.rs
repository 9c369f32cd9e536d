//! Rounding of activations: what `activations::round_block` does, with vectors, and rows laid together.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;

use crate::activations::{Layout, ROWS, Rounded, turn};

/// One block: its 32 rounded values, its scale, and the sums of its fours of values.
struct Block {
    q: __m256i,
    d: f32,
    fours: __m256i,
}

/// Rounds 32 values to -127..=127.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn block(values: &[f32; 32]) -> Block {
    let [a, b, c, d] = parts(values);
    let positive = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let size = |x: __m256| _mm256_and_ps(x, positive);
    // A value that is no number is passed over.
    let highest = _mm256_max_ps(size(b), _mm256_max_ps(size(a), _mm256_setzero_ps()));
    let highest = _mm256_max_ps(size(d), _mm256_max_ps(size(c), highest));
    let four = _mm_max_ps(_mm256_castps256_ps128(highest), _mm256_extractf128_ps::<1>(highest));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    let scale = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two))) / 127.0;
    let inverse = _mm256_set1_ps(if scale > 0.0 { 1.0 / scale } else { 0.0 });
    // Adding 1.5 * 2^23 rounds to the nearest whole number, ties to even, and leaves it in the last bits.
    let magic = _mm256_set1_ps(12_582_912.0);
    let last = _mm256_set1_epi32(0xff);
    let whole = |x: __m256| {
        let sum = _mm256_add_ps(_mm256_mul_ps(x, inverse), magic);
        _mm256_and_si256(_mm256_castps_si256(sum), last)
    };
    let (ab, cd) = (_mm256_packus_epi32(whole(a), whole(b)), _mm256_packus_epi32(whole(c), whole(d)));
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let q = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order);
    let twos = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    Block { q, d: scale, fours: _mm256_madd_epi16(twos, _mm256_set1_epi16(1)) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn parts(values: &[f32; 32]) -> [__m256; 4] {
    let at = values.as_ptr();
    // SAFETY: 32 floats.
    unsafe {
        [
            _mm256_loadu_ps(at),
            _mm256_loadu_ps(at.add(8)),
            _mm256_loadu_ps(at.add(16)),
            _mm256_loadu_ps(at.add(24)),
        ]
    }
}

/// The sum of the first half, and of all.
#[inline]
#[target_feature(enable = "avx2")]
fn sums(fours: __m256i) -> (i32, i32) {
    let [first, second] = [_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours)];
    let both = _mm_hadd_epi32(first, second);
    let both = _mm_hadd_epi32(both, both);
    let first = _mm_cvtsi128_si32(both);
    (first, first + _mm_extract_epi32::<1>(both))
}

/// One row of whole blocks that lies for itself; what it does not fill becomes zero.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn row(values: &[f32], out: &mut Rounded<'_>, layout: Layout) {
    let (whole, _) = values.as_chunks::<32>();
    for (number, values) in whole.iter().enumerate() {
        let block = block(values);
        let (first, all) = sums(block.fours);
        let (low, high) = layout.halves(number);
        for (at, half) in
            [(low, _mm256_castsi256_si128(block.q)), (high, _mm256_extracti128_si256::<1>(block.q))]
        {
            // SAFETY: the piece has sixteen bytes.
            unsafe { _mm_storeu_si128(out.q[at..at + 16].as_mut_ptr().cast(), half) };
        }
        out.d[number] = block.d;
        out.sums[number] = all;
        out.firsts[number] = first;
        out.s[number] = block.d * all as f32;
    }
    for number in whole.len()..out.q.len() / 32 {
        let (low, high) = layout.halves(number);
        out.q[low..low + 16].fill(0);
        out.q[high..high + 16].fill(0);
    }
    for floats in [&mut *out.d, &mut *out.s] {
        floats[whole.len()..].fill(0.0);
    }
    for sums in [&mut *out.sums, &mut *out.firsts] {
        sums[whole.len()..].fill(0);
    }
}

/// At most [`ROWS`] rows of so many blocks, which lie together; what the missing ones would have is of no use.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn together(values: &[f32], out: &mut Rounded<'_>, blocks: usize) {
    let rows = values.len() / (blocks * 32);
    for number in 0..blocks {
        let at = turn(number, blocks);
        for from in (0..rows).step_by(8) {
            let mut q = [_mm256_setzero_si256(); 8];
            let mut numbers = [[0f32; 8]; 2];
            let mut sums_of = [[0i32; 8]; 2];
            for row in from..rows.min(from + 8) {
                let Some(values) = values[(row * blocks + number) * 32..].first_chunk::<32>() else {
                    continue;
                };
                let block = block(values);
                let (first, all) = sums(block.fours);
                q[row - from] = block.q;
                numbers[0][row - from] = block.d;
                numbers[1][row - from] = block.d * all as f32;
                sums_of[0][row - from] = all;
                sums_of[1][row - from] = first;
            }
            let four = &mut out.q[(at * 8 * ROWS + from) * 4..];
            for (of_rows, to) in transposed(q).into_iter().zip(four.chunks_mut(4 * ROWS)) {
                // SAFETY: the piece has 32 bytes.
                unsafe { _mm256_storeu_si256(to[..32].as_mut_ptr().cast(), of_rows) };
            }
            let here = at * ROWS + from..at * ROWS + from + 8;
            out.d[here.clone()].copy_from_slice(&numbers[0]);
            out.s[here.clone()].copy_from_slice(&numbers[1]);
            out.sums[here.clone()].copy_from_slice(&sums_of[0]);
            out.firsts[here].copy_from_slice(&sums_of[1]);
        }
    }
}

/// Eight rows of eight double words, as eight columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
    let four = |a, b, c, d| {
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (other_low, other_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, other_low),
            _mm256_unpackhi_epi64(low, other_low),
            _mm256_unpacklo_epi64(high, other_high),
            _mm256_unpackhi_epi64(high, other_high),
        ]
    };
    // Of columns 0 to 3 in the lower lanes, 4 to 7 in the upper.
    let ([a, b, c, d], [e, f, g, h]) = (four(a, b, c, d), four(e, f, g, h));
    [
        _mm256_permute2x128_si256::<0x20>(a, e),
        _mm256_permute2x128_si256::<0x20>(b, f),
        _mm256_permute2x128_si256::<0x20>(c, g),
        _mm256_permute2x128_si256::<0x20>(d, h),
        _mm256_permute2x128_si256::<0x31>(a, e),
        _mm256_permute2x128_si256::<0x31>(b, f),
        _mm256_permute2x128_si256::<0x31>(c, g),
        _mm256_permute2x128_si256::<0x31>(d, h),
    ]
}

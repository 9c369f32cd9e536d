//! Eight blocks of 32 weights taken apart, by pairs: the first halves of both blocks in one vector, their second halves in
//! another, as [`crate::activations::Layout::Pairs`] lays the activations. What belongs to a block stands in a lane of its
//! own, that of block n in lane n, the pairs being 0 and 4, 1 and 5, 2 and 6, 3 and 7.

use std::arch::x86_64::*;

use crate::blocks::scales_and_minima;
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, has_minimum};

/// Eight blocks. Where weights were made unsigned by adding to them, `other` makes up for it, but for [`Q6K`].
#[derive(Clone, Copy)]
pub(super) struct Eight {
    /// Signed for [`Q8_0`] alone.
    pub(super) weights: [[__m256i; 2]; 4],
    pub(super) scale: __m256,
    /// The minimum; for [`Q6K`] the scale of second halves, `scale` being that of the first.
    pub(super) other: __m256,
}

/// Bytes of so many blocks of 32.
pub(super) const fn bytes(kind: u8, blocks: usize) -> usize {
    match kind {
        Q4_0 => blocks * 18,
        Q4_1 => blocks * 20,
        Q5_0 => blocks * 22,
        Q5_1 => blocks * 24,
        Q8_0 => blocks * 34,
        Q4K => blocks / 8 * 144,
        Q5K => blocks / 8 * 176,
        _ => blocks / 8 * 210,
    }
}

/// The eight blocks at `at`.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; eight blocks must lie there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn eight<const K: u8>(at: *const u8) -> Eight {
    // SAFETY: the caller's promise.
    unsafe {
        match K {
            Q4K | Q5K => super_block::<K>(at),
            Q6K => six_bits(at),
            _ => {
                let block = |number: usize| at.add(bytes(K, number));
                let weights = [
                    pair::<K>(block(0), block(4)),
                    pair::<K>(block(1), block(5)),
                    pair::<K>(block(2), block(6)),
                    pair::<K>(block(3), block(7)),
                ];
                let (scale, other) = heads::<K>(at);
                Eight { weights, scale, other }
            }
        }
    }
}

/// Two blocks of each of four rows; the first of each row are in the lower lanes.
///
/// # Safety
/// As for [`eight`]; a block must lie at each place. The format must be one of single blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn ends<const K: u8>(first: [*const u8; 4], second: [*const u8; 4]) -> Eight {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d] = first;
        let [e, f, g, h] = second;
        let weights = [pair::<K>(a, e), pair::<K>(b, f), pair::<K>(c, g), pair::<K>(d, h)];
        let (scale, other) = if has_minimum(K) {
            let word = |at: *const u8| at.cast::<i32>().read_unaligned();
            scales_and_minima_of(
                _mm_setr_epi32(word(a), word(b), word(c), word(d)),
                _mm_setr_epi32(word(e), word(f), word(g), word(h)),
            )
        } else {
            let half = |at: *const u8| at.cast::<i16>().read_unaligned();
            let halves =
                _mm_setr_epi16(half(a), half(b), half(c), half(d), half(e), half(f), half(g), half(h));
            scales_of::<K>(halves)
        };
        Eight { weights, scale, other }
    }
}

/// Sixteen bytes of one place in the lower lane, sixteen of another in the upper.
///
/// # Safety
/// They must lie there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn two(low: *const u8, high: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_castsi128_si256(_mm_loadu_si128(low.cast()));
        _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(high.cast()))
    }
}

/// The low nibbles, and the high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: __m256i) -> [__m256i; 2] {
    let nibble = _mm256_set1_epi8(15);
    [_mm256_and_si256(bytes, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble)]
}

/// # Safety
/// As for [`eight`]; a block must lie at both places.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pair<const K: u8>(a: *const u8, b: *const u8) -> [__m256i; 2] {
    // SAFETY: a block's last sixteen bytes are nibbles, or its last 32 are the weights; fifth bits stand before them.
    unsafe {
        if K == Q8_0 {
            return [two(a.add(2), b.add(2)), two(a.add(18), b.add(18))];
        }
        let start = bytes(K, 1) - 16;
        let low = nibbles(two(a.add(start), b.add(start)));
        if !matches!(K, Q5_0 | Q5_1) {
            return low;
        }
        let bits = |block: *const u8| _mm256_set1_epi32(block.add(start - 4).cast::<i32>().read_unaligned());
        let bits = _mm256_blend_epi32::<0b1111_0000>(bits(a), bits(b));
        let spread = [0x0101_0101_0101_0101, 0x0303_0303_0303_0303];
        let mine = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
        let mut all = low;
        for (weights, high) in all.iter_mut().zip(spread) {
            let low = high - 0x0101_0101_0101_0101;
            let bytes = _mm256_shuffle_epi8(bits, _mm256_setr_epi64x(low, high, low, high));
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mine), mine);
            *weights = _mm256_or_si256(*weights, _mm256_and_si256(set, _mm256_set1_epi8(16)));
        }
        all
    }
}

/// Scales and minima of eight blocks that follow each other: loads that have what is wanted at the lane where it is wanted,
/// so that nothing has to be moved.
///
/// # Safety
/// As for [`eight`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn heads<const K: u8>(at: *const u8) -> (__m256, __m256) {
    let stride = bytes(K, 1);
    // SAFETY: what is read of a block from before its head or after it lies among the eight.
    unsafe {
        if has_minimum(K) {
            let load = |number: usize| _mm_loadu_si128(at.add(number * stride - number % 4 * 4).cast());
            let low = _mm_blend_epi32::<0b0010>(load(0), load(1));
            let low = _mm_blend_epi32::<0b0100>(low, load(2));
            let low = _mm_blend_epi32::<0b1000>(low, load(3));
            let high = _mm_blend_epi32::<0b0010>(load(4), load(5));
            let high = _mm_blend_epi32::<0b0100>(high, load(6));
            scales_and_minima_of(low, _mm_blend_epi32::<0b1000>(high, load(7)))
        } else {
            let load = |number: usize| _mm_loadu_si128(at.add(number * (stride - 2)).cast());
            let halves = _mm_blend_epi16::<0b0000_0010>(load(0), load(1));
            let halves = _mm_blend_epi16::<0b0000_0100>(halves, load(2));
            let halves = _mm_blend_epi16::<0b0000_1000>(halves, load(3));
            let halves = _mm_blend_epi16::<0b0001_0000>(halves, load(4));
            let halves = _mm_blend_epi16::<0b0010_0000>(halves, load(5));
            let halves = _mm_blend_epi16::<0b0100_0000>(halves, load(6));
            scales_of::<K>(_mm_blend_epi16::<0b1000_0000>(halves, load(7)))
        }
    }
}

/// From double words of two halves, the lower of which is the scale: of blocks 0 to 3, and of 4 to 7.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales_and_minima_of(low: __m128i, high: __m128i) -> (__m256, __m256) {
    let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let (low, high) = (_mm_shuffle_epi8(low, apart), _mm_shuffle_epi8(high, apart));
    (_mm256_cvtph_ps(_mm_unpacklo_epi64(low, high)), _mm256_cvtph_ps(_mm_unpackhi_epi64(low, high)))
}

/// From halves; the minimum is what was added to the weights.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales_of<const K: u8>(halves: __m128i) -> (__m256, __m256) {
    let scale = _mm256_cvtph_ps(halves);
    let added = match K {
        Q4_0 => -8.0,
        Q5_0 => -16.0,
        _ => 0.0,
    };
    (scale, _mm256_mul_ps(scale, _mm256_set1_ps(added)))
}

/// # Safety
/// Two bytes must lie there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn half_everywhere(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    let bits = unsafe { at.cast::<i16>().read_unaligned() };
    _mm256_cvtph_ps(_mm_set1_epi16(bits))
}

/// Eight whole numbers of eight bits as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn small(numbers: [u8; 8]) -> __m256 {
    let numbers = _mm_cvtsi64_si128(u64::from_le_bytes(numbers).cast_signed());
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(numbers))
}

/// Eight blocks with scales and minima of six bits. Two of them share 32 bytes of nibbles.
///
/// # Safety
/// As for [`eight`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn super_block<const K: u8>(at: *const u8) -> Eight {
    let start = if K == Q5K { 48 } else { 16 };
    // SAFETY: twelve bytes of scales at 4, 32 bytes of fifth bits at 16, four times 32 bytes of nibbles from `start` on.
    unsafe {
        let (scales, minima) = scales_and_minima(std::slice::from_raw_parts(at.add(4), 12));
        let scale = _mm256_mul_ps(half_everywhere(at), small(scales));
        let minimum = _mm256_mul_ps(half_everywhere(at.add(2)), small(minima));
        let other = _mm256_sub_ps(_mm256_setzero_ps(), minimum);
        let mut weights = [[_mm256_setzero_si256(); 2]; 4];
        for side in [0, 1] {
            let bits =
                |side: usize| _mm256_broadcastsi128_si256(_mm_loadu_si128(at.add(16 + side * 16).cast()));
            let bits = if K == Q5K { bits(side) } else { _mm256_setzero_si256() };
            for two_blocks in 0..2 {
                let q = at.add(start + two_blocks * 32 + side * 16);
                for (part, nibbles) in nibbles(two(q, q.add(64))).into_iter().enumerate() {
                    let number = two_blocks * 2 + part;
                    weights[number][side] = if K == Q5K {
                        let (low, high) = (number as i64, number as i64 + 4);
                        let bit = _mm256_srlv_epi64(bits, _mm256_setr_epi64x(low, low, high, high));
                        let bit = _mm256_slli_epi16::<4>(_mm256_and_si256(bit, _mm256_set1_epi8(1)));
                        _mm256_or_si256(nibbles, bit)
                    } else {
                        nibbles
                    };
                }
            }
        }
        Eight { weights, scale, other }
    }
}

/// Eight blocks of six bits, with a scale for each half.
///
/// # Safety
/// As for [`eight`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bits(at: *const u8) -> Eight {
    // SAFETY: twice 64 bytes of nibbles, twice 32 bytes of upper bits, sixteen scales, a half.
    unsafe {
        let all = _mm_loadu_si128(at.add(192).cast());
        let apart =
            _mm_shuffle_epi8(all, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
        let d = half_everywhere(at.add(208));
        let scale = |scales| _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(scales)));
        let mut weights = [[_mm256_setzero_si256(); 2]; 4];
        for side in [0, 1] {
            let high = at.add(128 + side * 16);
            let high = two(high, high.add(32));
            let upper = [
                _mm256_slli_epi16::<4>(high),
                _mm256_slli_epi16::<2>(high),
                high,
                _mm256_srli_epi16::<2>(high),
            ];
            for odd in 0..2 {
                let low = at.add(odd * 32 + side * 16);
                for (part, nibbles) in nibbles(two(low, low.add(64))).into_iter().enumerate() {
                    let number = part * 2 + odd;
                    let upper = _mm256_and_si256(upper[number], _mm256_set1_epi8(0x30));
                    weights[number][side] = _mm256_or_si256(nibbles, upper);
                }
            }
        }
        Eight { weights, scale: scale(apart), other: scale(_mm_unpackhi_epi64(apart, apart)) }
    }
}

//! How each format gives its weights to the arithmetic: unsigned bytes, four blocks of 32 at a time, and what their sums
//! are multiplied with, sixteen blocks at a time. Formats are told apart by a constant, so that each gets its own code.

#![expect(unsafe_code, reason = "vector instructions on raw blocks; each function says what it needs")]

use std::arch::x86_64::*;

use crate::blocks::scales_and_minima;
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q8_0};

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

/// Scales and minima of sixteen blocks, each at its place (`activations::place`); absent blocks have zeros.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) scale: __m512,
    /// Of formats that have one.
    pub(super) minimum: __m512,
    /// Scales of a block's halves, as integers, of `Q6K`.
    pub(super) first: __m512i,
    pub(super) second: __m512i,
}

/// Where eight pairs of blocks begin, each two one after the other.
pub(super) type Pairs = [*const u8; 8];

/// Of blocks that all follow each other.
#[inline(always)]
fn pairs<const K: u8>(base: *const u8) -> Pairs {
    std::array::from_fn(|number| base.wrapping_add(number * bytes(K, 2)))
}

/// The double word that a block begins in, of `count` blocks of `SIZE` bytes, each at its place: where `SIZE` is no multiple
/// of four, a block with an odd number has its first half word in the upper half. Absent blocks have zeros. Loads and
/// permutations, because a gather costs more than all the products of its blocks.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; the first `count` of the sixteen blocks must be there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn beginnings<const SIZE: usize>(pairs: Pairs, count: usize) -> __m512i {
    let none = _mm512_setzero_si512();
    let second = (SIZE / 4) as i32;
    let order = {
        let (a, b, c, d) = (0, second, 16, 16 + second);
        _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d)
    };
    let mut heads = none;
    for four in 0..4 {
        if four * 4 >= count {
            break;
        }
        let mut pair = [none; 2];
        for (number, pair) in pair.iter_mut().enumerate() {
            let first = four * 4 + number * 2;
            let there = match count.saturating_sub(first) {
                0 => break,
                1 => 1,
                _ => 1 | 1 << (SIZE / 4),
            };
            // SAFETY: the lanes that are read lie in one or two blocks that are there.
            *pair = unsafe { _mm512_maskz_loadu_epi32(there, pairs[first / 2].cast()) };
        }
        let made = _mm512_permutex2var_epi32(pair[0], order, pair[1]);
        heads = _mm512_mask_mov_epi32(heads, 0x1111 << four, made);
    }
    heads
}

/// Halves as floats, in the upper half of each double word. Whole numbers and one product, because the instruction that
/// widens halves wants them packed first; infinite scales, which no sound file has, become finite.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper_halves(words: __m512i) -> __m512 {
    // Sign, and exponent and mantissa three bits down, are where a float has them; the exponents differ by 112.
    let there = _mm512_set1_epi32(0x8fff_e000_u32.cast_signed());
    let bits = _mm512_and_si512(_mm512_srai_epi32::<3>(words), there);
    _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(f32::from_bits(0x7780_0000)))
}

/// The scales of blocks of `SIZE` bytes, no multiple of four, that begin with one.
///
/// # Safety
/// As for [`beginnings`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scales<const SIZE: usize>(pairs: Pairs, count: usize) -> __m512 {
    let up = _mm512_setr_epi32(16, 16, 16, 16, 0, 0, 0, 0, 16, 16, 16, 16, 0, 0, 0, 0);
    // SAFETY: the caller's promise.
    upper_halves(_mm512_sllv_epi32(unsafe { beginnings::<SIZE>(pairs, count) }, up))
}

/// The two halves at `at` as floats in all lanes, one vector each.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; four bytes must lie at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
unsafe fn two_halves(at: *const u8) -> (__m512, __m512) {
    // SAFETY: the caller's promise.
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() }));
    (_mm512_broadcastss_ps(both), _mm512_broadcastss_ps(_mm_movehdup_ps(both)))
}

/// Lanes whose block belongs to the second of two super-blocks.
const SECOND: u16 = 0xcccc;

/// Scales and minima of a super-block as two times eight bytes.
///
/// # Safety
/// Twelve bytes must lie at `packed`.
#[inline]
unsafe fn six_bits(packed: *const u8) -> (u64, u64) {
    // SAFETY: the caller's promise.
    let (scales, minima) = scales_and_minima(unsafe { &*packed.cast::<[u8; 12]>() });
    (u64::from_le_bytes(scales), u64::from_le_bytes(minima))
}

/// Sixteen bytes as floats, each at its place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn placed(low: u64, high: u64) -> __m512 {
    let bytes = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_shuffle_epi8(bytes, order)))
}

/// What the sums of `count` blocks from `base` on are multiplied with.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `count` blocks of 32 (at most 16, whole super-blocks) of the
/// format must lie at `base`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
pub(super) unsafe fn heads<const K: u8>(base: *const u8, count: usize) -> Heads {
    let zero = _mm512_setzero_ps();
    let none = _mm512_setzero_si512();
    let plain = |scale, minimum| Heads { scale, minimum, first: none, second: none };
    // SAFETY: the caller's promise; a second super-block is read only if `count` says that it is there.
    unsafe {
        match K {
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 => heads_of_pairs::<K>(pairs::<K>(base), count),
            Q4K | Q5K => {
                let (d, dmin) = two_halves(base);
                let (scales, minima) = six_bits(base.add(4));
                if count <= 8 {
                    let scale = _mm512_mul_ps(d, placed(scales, 0));
                    let minimum = _mm512_mul_ps(dmin, placed(minima, 0));
                    return plain(scale, _mm512_sub_ps(zero, minimum));
                }
                let next = base.add(bytes(K, 8));
                let (d2, dmin2) = two_halves(next);
                let (scales2, minima2) = six_bits(next.add(4));
                let d = _mm512_mask_mov_ps(d, SECOND, d2);
                let dmin = _mm512_mask_mov_ps(dmin, SECOND, dmin2);
                let minimum = _mm512_mul_ps(dmin, placed(minima, minima2));
                plain(_mm512_mul_ps(d, placed(scales, scales2)), _mm512_sub_ps(zero, minimum))
            }
            _ => {
                let half = |at: *const u8| {
                    let bits = i32::from(at.add(208).cast::<u16>().read_unaligned());
                    _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
                };
                let scales = |at: *const u8| _mm_loadu_si128(at.add(192).cast());
                let (mut d, mut words) = (half(base), _mm256_castsi128_si256(scales(base)));
                words = _mm256_inserti128_si256::<1>(words, _mm_setzero_si128());
                if count > 8 {
                    let next = base.add(210);
                    d = _mm512_mask_mov_ps(d, SECOND, half(next));
                    words = _mm256_inserti128_si256::<1>(words, scales(next));
                } else {
                    d = _mm512_maskz_mov_ps(!SECOND, d);
                }
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let both = _mm512_permutexvar_epi32(order, _mm512_cvtepi16_epi32(words));
                let first = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(both));
                Heads { scale: d, minimum: zero, first, second: _mm512_srai_epi32::<8>(both) }
            }
        }
    }
}

/// [`heads`] of a format whose blocks are of 32.
///
/// # Safety
/// As for [`beginnings`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn heads_of_pairs<const K: u8>(pairs: Pairs, count: usize) -> Heads {
    // SAFETY: the caller's promise.
    unsafe {
        match K {
            Q4_0 => scale_alone(scales::<18>(pairs, count)),
            Q4_1 => pair_of_halves(beginnings::<20>(pairs, count)),
            Q5_0 => scale_alone(scales::<22>(pairs, count)),
            Q5_1 => pair_of_halves(beginnings::<24>(pairs, count)),
            _ => scale_alone(scales::<34>(pairs, count)),
        }
    }
}

/// Scale and minimum from double words of two halves.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn pair_of_halves(heads: __m512i) -> Heads {
    let none = _mm512_setzero_si512();
    let scale = upper_halves(_mm512_slli_epi32::<16>(heads));
    Heads { scale, minimum: upper_halves(heads), first: none, second: none }
}

/// `Q4_1`, whose blocks are five double words: the nibbles of four blocks at a time, and all scales and minima, from two
/// loads for each four. Blocks that are not there are zeros.
///
/// # Safety
/// As for [`heads`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn fives(base: *const u8, count: usize) -> (Heads, [__m512i; 4]) {
    let none = _mm512_setzero_si512();
    let mut first = [none; 4];
    let mut bytes = [none; 4];
    let order = _mm512_setr_epi32(1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 28, 29, 30, 31);
    for number in 0..4 {
        let words = count.saturating_sub(number * 4) * 5;
        if words == 0 {
            break;
        }
        // SAFETY: the caller's promise; lanes beyond the last block are not read.
        unsafe {
            let at = base.add(number * 80);
            let last;
            if words >= 20 {
                first[number] = _mm512_loadu_si512(at.cast());
                last = _mm512_loadu_si512(at.add(16).cast());
            } else {
                first[number] = _mm512_maskz_loadu_epi32(((1u32 << words) - 1) as u16, at.cast());
                last = none;
            }
            bytes[number] = _mm512_permutex2var_epi32(first[number], order, last);
        }
    }
    let pick = _mm512_setr_epi32(0, 16, 0, 16, 5, 21, 5, 21, 10, 26, 10, 26, 15, 31, 15, 31);
    let low = _mm512_permutex2var_epi32(first[0], pick, first[1]);
    let high = _mm512_permutex2var_epi32(first[2], pick, first[3]);
    (pair_of_halves(_mm512_mask_blend_epi32(0xcccc, low, high)), bytes)
}

/// Sixteen blocks of `Q4_0`, of nine half words each: all scales, and the nibbles of four blocks at a time. A load that begins
/// with the nibbles of a block has those of the next but one at whole double words too, so two loads and one permutation
/// give four blocks, and the scales lie between.
///
/// # Safety
/// As for [`heads`], with sixteen blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn nines(base: *const u8) -> (Heads, [__m512i; 4]) {
    let none = _mm512_setzero_si512();
    let (mut even, mut odd, mut bytes) = ([none; 4], [none; 4], [none; 4]);
    let order = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 9, 10, 11, 12, 25, 26, 27, 28);
    for number in 0..4 {
        // SAFETY: 66 and 72 bytes of a four, and 12 of the next one where there is one.
        unsafe {
            let at = base.add(number * 72);
            even[number] = _mm512_loadu_si512(at.add(2).cast());
            odd[number] = match number {
                3 => _mm512_maskz_loadu_epi32(0x1fff, at.add(20).cast()),
                _ => _mm512_loadu_si512(at.add(20).cast()),
            };
        }
        bytes[number] = _mm512_permutex2var_epi32(even[number], order, odd[number]);
    }
    let pick = _mm512_setr_epi32(0, 0, 0, 0, 4, 20, 4, 20, 8, 24, 8, 24, 13, 29, 13, 29);
    let low = _mm512_permutex2var_epi32(even[0], pick, even[1]);
    let high = _mm512_permutex2var_epi32(even[2], pick, even[3]);
    let others = _mm512_mask_blend_epi32(0xcccc, low, high);
    // The scale of a four's first block stands before its first load, and in the second load of the four before.
    let pick = _mm512_setr_epi32(0, 13, 29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let firsts = _mm512_permutex2var_epi32(odd[0], pick, odd[1]);
    let pick = _mm512_setr_epi32(0, 1, 2, 29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let firsts = _mm512_permutex2var_epi32(firsts, pick, odd[2]);
    let words = _mm512_mask_blend_epi32(0x000e, others, firsts);
    // SAFETY: the first block is there.
    let words = _mm512_mask_set1_epi32(words, 1, unsafe { base.cast::<i32>().read_unaligned() });
    let up = _mm512_setr_epi32(16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 16, 16, 16, 16);
    (scale_alone(upper_halves(_mm512_sllv_epi32(words, up))), bytes)
}

/// Sixteen blocks of `Q5_0`, of eleven half words each: all scales, the nibbles of four blocks at a time, and their fifth
/// bits, a block's four times in its lane. Loads as for [`nines`].
///
/// # Safety
/// As for [`heads`], with sixteen blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn elevens(base: *const u8) -> (Heads, [__m512i; 4], [__m512i; 4]) {
    let none = _mm512_setzero_si512();
    let (mut even, mut odd) = ([none; 4], [none; 4]);
    let (mut bytes, mut bits) = ([none; 4], [none; 4]);
    let order = _mm512_setr_epi32(1, 2, 3, 4, 17, 18, 19, 20, 12, 13, 14, 15, 28, 29, 30, 31);
    let order_of_bits = _mm512_setr_epi32(0, 0, 0, 0, 16, 16, 16, 16, 11, 11, 11, 11, 27, 27, 27, 27);
    for number in 0..4 {
        // SAFETY: both end within the four's 88 bytes.
        unsafe {
            even[number] = _mm512_loadu_si512(base.add(number * 88 + 2).cast());
            odd[number] = _mm512_loadu_si512(base.add(number * 88 + 24).cast());
        }
        bytes[number] = _mm512_permutex2var_epi32(even[number], order, odd[number]);
        bits[number] = _mm512_permutex2var_epi32(even[number], order_of_bits, odd[number]);
    }
    let pick = _mm512_setr_epi32(0, 0, 0, 0, 5, 21, 5, 21, 10, 26, 10, 26, 0, 0, 0, 0);
    let low = _mm512_permutex2var_epi32(even[0], pick, even[1]);
    let high = _mm512_permutex2var_epi32(even[2], pick, even[3]);
    let words = _mm512_mask_blend_epi32(0xcccc, low, high);
    let pick = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 26, 10, 26);
    let words = _mm512_mask_blend_epi32(0x3000, words, _mm512_permutex2var_epi32(odd[0], pick, odd[1]));
    let mut words = _mm512_mask_blend_epi32(0xc000, words, _mm512_permutex2var_epi32(odd[2], pick, odd[3]));
    for number in 0..4 {
        // SAFETY: a four begins there.
        let first = unsafe { base.add(number * 88).cast::<i32>().read_unaligned() };
        words = _mm512_mask_set1_epi32(words, 1 << number, first);
    }
    let up = _mm512_setr_epi32(16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0);
    (scale_alone(upper_halves(_mm512_sllv_epi32(words, up))), bytes, bits)
}

/// Adds fifth bits as [`elevens`] gives them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn with_fifths((first, second): Quad, bits: __m512i) -> Quad {
    let mine = _mm512_set1_epi64(0x8040_2010_0804_0201_u64.cast_signed());
    let spread = |low: i64, high: i64| {
        let order = _mm512_set_epi64(high, low, high, low, high, low, high, low);
        _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, order), mine)
    };
    let low = spread(0, 0x0101_0101_0101_0101);
    let high = spread(0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    (fifth(first, low), fifth(second, high))
}

/// Of a format without minima.
#[inline]
#[target_feature(enable = "avx512f")]
fn scale_alone(scale: __m512) -> Heads {
    let none = _mm512_setzero_si512();
    Heads { scale, minimum: _mm512_setzero_ps(), first: none, second: none }
}

/// The weights of four blocks as unsigned bytes, first halves and second halves.
pub(super) type Quad = (__m512i, __m512i);

/// Sixteen bytes of each of four blocks, `skip` bytes into the block.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; the bytes must be there.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
unsafe fn four_parts(blocks: [*const u8; 4], skip: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let part = |number: usize| _mm_loadu_si128(blocks[number].add(skip).cast());
        let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(0)), part(1));
        let wide = _mm512_inserti32x4::<2>(_mm512_castsi256_si512(low), part(2));
        _mm512_inserti32x4::<3>(wide, part(3))
    }
}

/// The even 128-bit lanes of `a` and `b` in turn, then the odd ones in turn.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes_in_turn(a: __m512i, b: __m512i) -> Quad {
    let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    (_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b))
}

/// Low and high nibbles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn nibbles(bytes: __m512i) -> Quad {
    let nibble = _mm512_set1_epi8(15);
    (_mm512_and_si512(bytes, nibble), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble))
}

/// Adds the fifth bit where `bits` has one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn fifth(weights: __m512i, bits: u64) -> __m512i {
    _mm512_mask_add_epi8(weights, bits, weights, _mm512_set1_epi8(16))
}

/// Four blocks, the `number`th four of the `count` blocks at `base`. Where the last four are not whole, blocks that are
/// not there repeat the last one that is.
///
/// # Safety
/// As for [`heads`]; `number * 4 < count`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn quad<const K: u8>(base: *const u8, number: usize, count: usize) -> Quad {
    // SAFETY: the caller's promise; every address below lies in a block that is there.
    unsafe {
        match K {
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 => {
                let block = |n: usize| base.add(bytes(K, 1) * (number * 4 + n).min(count - 1));
                quad_of::<K>([block(0), block(1), block(2), block(3)])
            }
            Q4K | Q5K => {
                let (start, half) = (base.add(number / 2 * bytes(K, 8)), number % 2);
                let skip = if K == Q5K { 48 } else { 16 };
                let (mut low, mut high) = nibbles(_mm512_loadu_si512(start.add(skip + half * 64).cast()));
                if K == Q5K {
                    let bits = _mm512_broadcast_i64x4(_mm256_loadu_si256(start.add(16).cast()));
                    let bits = _mm512_srl_epi16(bits, _mm_cvtsi32_si128(half as i32 * 4));
                    let test = |n: i8| {
                        let low = _mm512_castsi256_si512(_mm256_set1_epi8(1 << n));
                        let mask = _mm512_inserti64x4::<1>(low, _mm256_set1_epi8(4 << n));
                        _mm512_test_epi8_mask(bits, mask)
                    };
                    (low, high) = (fifth(low, test(0)), fifth(high, test(1)));
                }
                lanes_in_turn(low, high)
            }
            _ => {
                let (start, half) = (base.add(number / 2 * 210), number % 2);
                let (low, high) = nibbles(_mm512_loadu_si512(start.add(half * 64).cast()));
                let upper = |at: usize| {
                    let bits = _mm_loadu_si128(start.add(128 + half * 32 + at).cast());
                    let shifts = _mm512_setr_epi64(
                        0,
                        0,
                        0x0002_0002_0002_0002,
                        0x0002_0002_0002_0002,
                        0x0004_0004_0004_0004,
                        0x0004_0004_0004_0004,
                        0x0006_0006_0006_0006,
                        0x0006_0006_0006_0006,
                    );
                    let bits = _mm512_srlv_epi16(_mm512_broadcast_i32x4(bits), shifts);
                    _mm512_slli_epi16::<4>(_mm512_and_si512(bits, _mm512_set1_epi8(3)))
                };
                // Low nibbles hold blocks A and B, high ones C and D.
                let first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), high);
                let second =
                    _mm512_permutex2var_epi64(low, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), high);
                (_mm512_or_si512(first, upper(0)), _mm512_or_si512(second, upper(16)))
            }
        }
    }
}

/// Four blocks of a format whose blocks are of 32, wherever they lie.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; the blocks must be there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn quad_of<const K: u8>(blocks: [*const u8; 4]) -> Quad {
    // SAFETY: the caller's promise.
    unsafe {
        if K == Q8_0 {
            let part = |n: usize| _mm256_loadu_si256(blocks[n].add(2).cast());
            let ab = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(part(0)), part(1));
            let cd = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(part(2)), part(3));
            let unsigned = _mm512_set1_epi8(-128);
            let first = _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), cd);
            let second = _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), cd);
            return (_mm512_xor_si512(first, unsigned), _mm512_xor_si512(second, unsigned));
        }
        let skip = bytes(K, 1) - 16;
        let (first, second) = nibbles(four_parts(blocks, skip));
        if matches!(K, Q4_0 | Q4_1) {
            return (first, second);
        }
        let bits = blocks.map(|at| at.add(skip - 4).cast::<u32>().read_unaligned());
        let [a, b, c, d] = bits.map(u64::from);
        let low = a & 0xffff | (b & 0xffff) << 16 | (c & 0xffff) << 32 | d << 48;
        let high = a >> 16 | b >> 16 << 16 | c >> 16 << 32 | d >> 16 << 48;
        (fifth(first, low), fifth(second, high))
    }
}

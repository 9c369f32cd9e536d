//! How each format gives its weights to the arithmetic: unsigned bytes, four blocks of 32 at a time, and what their sums
//! are multiplied with, sixteen blocks at a time. Formats are told apart by a constant, so that each gets its own code.

#![expect(unsafe_code, reason = "vector instructions on raw blocks; each function says what it needs")]

use std::arch::x86_64::*;

use crate::activations::place;
use crate::blocks::scales_and_minima;
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// Whether the format has a minimum a block.
pub(super) const fn has_minimum(kind: u8) -> bool {
    matches!(kind, Q4_1 | Q5_1 | Q4K | Q5K)
}

/// The binary logarithm of what was added to the weights to make them unsigned, if anything was.
pub(super) const fn shift(kind: u8) -> Option<u32> {
    match kind {
        Q4_0 => Some(3),
        Q5_0 => Some(4),
        Q6K => Some(5),
        Q8_0 => Some(7),
        _ => None,
    }
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

/// Scales and minima of sixteen blocks, each at its [`place`]; absent blocks have zeros.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) scale: __m512,
    /// Of formats that have one.
    pub(super) minimum: __m512,
    /// Scales of a block's halves, as integers, of `Q6K`.
    pub(super) first: __m512i,
    pub(super) second: __m512i,
}

/// For sixteen blocks of `SIZE` elements, `VECTOR` elements in a vector: from which vector and where in it each block's
/// first element comes.
struct Table<const SIZE: usize, const VECTOR: usize>;

impl<const SIZE: usize, const VECTOR: usize> Table<SIZE, VECTOR> {
    const WORDS: [i16; 32] = {
        let mut at = [0; 32];
        let mut block = 0;
        while block < 16 {
            at[place(block)] = (SIZE * block % VECTOR) as i16;
            block += 1;
        }
        at
    };
    const DOUBLE_WORDS: [i32; 16] = {
        let mut at = [0; 16];
        let mut block = 0;
        while block < 16 {
            at[place(block)] = (SIZE * block % VECTOR) as i32;
            block += 1;
        }
        at
    };
    /// The lanes that a vector fills.
    const LANES: [u32; 9] = {
        let mut lanes = [0; 9];
        let mut block = 0;
        while block < 16 {
            lanes[SIZE * block / VECTOR] |= 1 << place(block);
            block += 1;
        }
        lanes
    };
}

/// The first double word (scale and minimum) of `count` blocks of `SIZE` double words. Loads and permutations, because a
/// gather costs more than all the products of its blocks.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `count` blocks, at most 16, must lie at `base`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn double_words<const SIZE: usize>(base: *const u8, count: usize) -> __m512i {
    // SAFETY: the table is one vector; masked lanes are not read, the others lie inside the blocks.
    unsafe {
        let at = _mm512_loadu_epi32(Table::<SIZE, 16>::DOUBLE_WORDS.as_ptr());
        let mut heads = _mm512_setzero_si512();
        let words = count * SIZE;
        for number in 0..SIZE {
            if number * 16 >= words {
                break;
            }
            let there = ((1u32 << (words - number * 16).min(16)) - 1) as u16;
            let part = _mm512_maskz_loadu_epi32(there, base.add(number * 64).cast());
            heads = _mm512_mask_permutexvar_epi32(heads, Table::<SIZE, 16>::LANES[number] as u16, at, part);
        }
        // Absent blocks took some other lane of the last vector.
        _mm512_maskz_mov_epi32(present(count), heads)
    }
}

/// [`double_words`] for the first word (the scale).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn words<const SIZE: usize>(base: *const u8, count: usize) -> __m512 {
    // SAFETY: as in `double_words`.
    unsafe {
        let at = _mm512_loadu_epi16(Table::<SIZE, 32>::WORDS.as_ptr());
        let mut heads = _mm512_setzero_si512();
        let words = count * SIZE;
        for number in 0..9 {
            if number * 32 >= words || Table::<SIZE, 32>::LANES[number] == 0 {
                break;
            }
            let there = ((1u64 << (words - number * 32).min(32)) - 1) as u32;
            let part = _mm512_maskz_loadu_epi16(there, base.add(number * 64).cast());
            heads = _mm512_mask_permutexvar_epi16(heads, Table::<SIZE, 32>::LANES[number], at, part);
        }
        _mm512_maskz_cvtph_ps(present(count), _mm512_castsi512_si256(heads))
    }
}

/// The places of the first `count` of sixteen blocks.
#[inline]
fn present(count: usize) -> u16 {
    const MASKS: [u16; 17] = {
        let mut masks = [0; 17];
        let mut count = 1;
        while count <= 16 {
            masks[count] = masks[count - 1] | 1 << place(count - 1);
            count += 1;
        }
        masks
    };
    MASKS[count.min(16)]
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
            Q4_0 => plain(words::<9>(base, count), zero),
            Q5_0 => plain(words::<11>(base, count), zero),
            Q8_0 => plain(words::<17>(base, count), zero),
            Q4_1 => pair_of_halves(double_words::<5>(base, count)),
            Q5_1 => pair_of_halves(double_words::<6>(base, count)),
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

/// Scale and minimum from double words of two halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pair_of_halves(heads: __m512i) -> Heads {
    let none = _mm512_setzero_si512();
    Heads {
        scale: _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads)),
        minimum: _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(heads))),
        first: none,
        second: none,
    }
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
fn nibbles(bytes: __m512i) -> Quad {
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
        let block = |n: usize| base.add(bytes(K, 1) * (number * 4 + n).min(count - 1));
        match K {
            Q4_0 | Q4_1 | Q5_0 | Q5_1 => {
                let blocks = [block(0), block(1), block(2), block(3)];
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
            Q8_0 => {
                let part = |n: usize| _mm256_loadu_si256(block(n).add(2).cast());
                let ab = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(part(0)), part(1));
                let cd = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(part(2)), part(3));
                let unsigned = _mm512_set1_epi8(-128);
                let first = _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), cd);
                let second = _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), cd);
                (_mm512_xor_si512(first, unsigned), _mm512_xor_si512(second, unsigned))
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

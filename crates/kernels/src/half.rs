//! IEEE half precision in plain integers, and the view of bytes as halves.

use crate::matmul::Level;

/// A half as a float.
#[inline]
pub fn from_half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    if rest >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (rest << 13));
    }
    // The exponent is moved by a multiplication, which also makes subnormals right.
    let scaled = f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(sign | scaled.to_bits())
}

/// The nearest half, ties to even; too large becomes infinite.
#[inline]
pub fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: the addition rounds to the half's last place.
        let shifted = f32::from_bits(magnitude) + f32::from_bits(0x3f00_0000);
        return sign | (shifted.to_bits() - 0x3f00_0000) as u16;
    }
    let rounded = magnitude + 0x0fff + ((magnitude >> 13) & 1);
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

/// The largest half that is finite.
const LARGEST: f32 = 65504.0;

/// Writes the nearest finite half of each value; both are as long as the shorter. Keys and values are kept so: attention
/// gives some a weight of nothing, and nothing times infinite would be no number, in rows that do not see them.
#[expect(unsafe_code, reason = "calls into instructions whose presence was asked for")]
pub fn write_halves(values: &[f32], out: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the machine has the instructions.
        return unsafe { write_halves_f16c(values, out) };
    }
    for (out, value) in out.iter_mut().zip(values) {
        *out = to_half(finite(*value));
    }
}

/// Within what a half can say; also what is no number.
#[expect(clippy::manual_clamp, reason = "clamp would leave what is no number, which vectors do not")]
#[inline]
fn finite(value: f32) -> f32 {
    value.min(LARGEST).max(-LARGEST)
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores")]
#[target_feature(enable = "avx,f16c")]
fn write_halves_f16c(values: &[f32], out: &mut [u16]) {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_set1_ps,
    };
    let mut eights = out.chunks_exact_mut(8).zip(values.chunks_exact(8));
    for (out, values) in &mut eights {
        // SAFETY: both have eight.
        unsafe {
            let values = _mm256_min_ps(_mm256_loadu_ps(values.as_ptr()), _mm256_set1_ps(LARGEST));
            let values = _mm256_max_ps(values, _mm256_set1_ps(-LARGEST));
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    let done = out.len().min(values.len()) / 8 * 8;
    for (out, value) in out[done..].iter_mut().zip(&values[done..]) {
        *out = to_half(finite(*value));
    }
}

/// Makes floats of halves, with the instructions of a level that the machine has.
#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
pub(crate) fn widen(level: Level, halves: &[u16], out: &mut Vec<f32>) {
    out.resize(halves.len(), 0.0);
    #[cfg(target_arch = "x86_64")]
    if matches!(level, Level::Avx512Vnni | Level::Avx2) {
        // SAFETY: both levels have the instructions.
        return unsafe { widen_f16c(halves, out) };
    }
    let _ = level;
    for (out, half) in out.iter_mut().zip(halves) {
        *out = from_half(*half);
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores")]
#[target_feature(enable = "avx,f16c")]
fn widen_f16c(halves: &[u16], out: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    for (out, halves) in out.chunks_exact_mut(8).zip(halves.chunks_exact(8)) {
        // SAFETY: both have eight.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())));
        };
    }
    let done = halves.len() / 8 * 8;
    for (out, half) in out[done..].iter_mut().zip(&halves[done..]) {
        *out = from_half(*half);
    }
}

/// Bytes as halves; they must be aligned to two and even in number, as a map's are.
#[expect(unsafe_code, reason = "a view of plain integers as plain integers")]
pub fn as_halves(bytes: &[u8]) -> &[u16] {
    // SAFETY: every bit pattern is a u16, and `align_to` keeps to aligned, whole ones.
    let (before, halves, after) = unsafe { bytes.align_to::<u16>() };
    assert!(before.is_empty() && after.is_empty(), "the bytes are not whole, aligned halves");
    halves
}

/// [`as_halves`], to write.
#[expect(unsafe_code, reason = "a view of plain integers as plain integers")]
pub fn as_halves_mut(bytes: &mut [u8]) -> &mut [u16] {
    // SAFETY: as in `as_halves`; the borrow is unique.
    let (before, halves, after) = unsafe { bytes.align_to_mut::<u16>() };
    assert!(before.is_empty() && after.is_empty(), "the bytes are not whole, aligned halves");
    halves
}

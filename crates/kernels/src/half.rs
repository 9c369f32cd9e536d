//! IEEE half precision in plain integers, and the view of bytes as halves.

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

/// Writes the nearest half of each value; both are as long as the shorter.
#[expect(unsafe_code, reason = "calls into instructions whose presence was asked for")]
pub fn write_halves(values: &[f32], out: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the machine has the instructions.
        return unsafe { write_halves_f16c(values, out) };
    }
    for (out, value) in out.iter_mut().zip(values) {
        *out = to_half(*value);
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores")]
#[target_feature(enable = "avx,f16c")]
fn write_halves_f16c(values: &[f32], out: &mut [u16]) {
    use std::arch::x86_64::{_MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps};
    let mut eights = out.chunks_exact_mut(8).zip(values.chunks_exact(8));
    for (out, values) in &mut eights {
        // SAFETY: both have eight.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(values.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    let done = out.len().min(values.len()) / 8 * 8;
    for (out, value) in out[done..].iter_mut().zip(&values[done..]) {
        *out = to_half(*value);
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

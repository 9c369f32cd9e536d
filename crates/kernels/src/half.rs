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

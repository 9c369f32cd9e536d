//! The quantised formats as constants, so that each gets machine code of its own.

use crate::blocks::Kind;

pub(crate) const Q4_0: u8 = Kind::Q4_0 as u8;
pub(crate) const Q4_1: u8 = Kind::Q4_1 as u8;
pub(crate) const Q5_0: u8 = Kind::Q5_0 as u8;
pub(crate) const Q5_1: u8 = Kind::Q5_1 as u8;
pub(crate) const Q8_0: u8 = Kind::Q8_0 as u8;
pub(crate) const Q4K: u8 = Kind::Q4K as u8;
pub(crate) const Q5K: u8 = Kind::Q5K as u8;
pub(crate) const Q6K: u8 = Kind::Q6K as u8;

/// Whether the format has a minimum a block.
pub(crate) const fn has_minimum(kind: u8) -> bool {
    matches!(kind, Q4_1 | Q5_1 | Q4K | Q5K)
}

/// The binary logarithm of what was added to the weights to make them unsigned, if anything was.
pub(crate) const fn shift(kind: u8) -> Option<u32> {
    match kind {
        Q4_0 => Some(3),
        Q5_0 => Some(4),
        Q6K => Some(5),
        Q8_0 => Some(7),
        _ => None,
    }
}

/// Calls a function with the constant of a quantised format before its other constants; floats call nothing.
macro_rules! with_kind {
    ($kind:expr, $function:ident [$($constant:tt),*] $arguments:tt) => {
        match $kind {
            $crate::blocks::Kind::Q4_0 => $function::<{ $crate::kinds::Q4_0 } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q4_1 => $function::<{ $crate::kinds::Q4_1 } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q5_0 => $function::<{ $crate::kinds::Q5_0 } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q5_1 => $function::<{ $crate::kinds::Q5_1 } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q8_0 => $function::<{ $crate::kinds::Q8_0 } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q4K => $function::<{ $crate::kinds::Q4K } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q5K => $function::<{ $crate::kinds::Q5K } $(, $constant)*> $arguments,
            $crate::blocks::Kind::Q6K => $function::<{ $crate::kinds::Q6K } $(, $constant)*> $arguments,
            $crate::blocks::Kind::F32 | $crate::blocks::Kind::F16 | $crate::blocks::Kind::Bf16 => {}
        }
    };
}
pub(crate) use with_kind;

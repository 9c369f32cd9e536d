//! AArch64's vectors: every such processor has them. The weights are unpacked by plain code, which the compiler makes
//! vectors of; the products are ours.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::aarch64::*;
use std::ops::Range;

use crate::activations::Activations;
use crate::matmul::{Matrix, Out};
use crate::plain;

/// The `columns` of a matrix by `M` rows of activations from `first` on.
///
/// # Safety
/// `first + M` must not exceed the rows of `x`, which must be rounded for quantised formats and exact for the others; the
/// columns of `out` must be the caller's alone.
pub(crate) unsafe fn rows<const M: usize>(
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    for column in columns {
        let row = matrix.row(column);
        let made = if matrix.reads_floats() {
            plain::exact::<M>(matrix.kind(), row, x, first)
        } else {
            plain::integer::<M>(matrix.kind(), row, x, first, sixteen)
        };
        for (m, value) in made.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { out.put((first + m) * matrix.n() + column, value) };
        }
    }
}

/// The sum of sixteen products.
#[inline(always)]
fn sixteen(a: &[i8; 16], b: &[i8; 16]) -> i32 {
    // SAFETY: both arrays are one vector; NEON is part of the architecture.
    unsafe {
        let (a, b) = (vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr()));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        vaddvq_s32(vpadalq_s16(low, vmull_high_s8(a, b)))
    }
}

//! Many rows of activations: some rows of weights are unpacked once and meet all of them. The same blocks are added in the
//! same order as from the file, so a row of activations gets the same bits.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::cell::RefCell;
use std::ops::Range;

use super::{Part, Sums, each_part};
use crate::activations::Activations;
use crate::kinds::with_kind;
use crate::matmul::{Matrix, Out};

thread_local! {
    /// Unpacked rows; kept by their thread for the next ones.
    static MINE: RefCell<Vec<Part>> = RefCell::default();
}

/// The `columns` by all rows of activations.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `x` must be rounded; the columns of `out` must be the
/// caller's alone. The matrix must be of a quantised format.
pub(crate) unsafe fn panel(matrix: &Matrix<'_>, columns: Range<usize>, x: &Activations, out: &Out) {
    MINE.with_borrow_mut(|parts| {
        parts.clear();
        // SAFETY: the caller's promise.
        unsafe { with_kind!(matrix.kind(), fill_and_multiply[](parts, matrix, columns, x, out)) }
    });
}

/// # Safety
/// As for [`panel`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill_and_multiply<const K: u8>(
    parts: &mut Vec<Part>,
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    out: &Out,
) {
    // SAFETY: the caller's promise; no row of activations beyond the last is looked at.
    unsafe {
        for column in columns.clone() {
            each_part::<K>(matrix, column, &mut |part, _| parts.push(part));
        }
        let target = (matrix.n(), columns.start, out);
        let mut first = 0;
        while first < x.rows() {
            first += match x.rows() - first {
                4.. => multiply::<K, 4>(parts, x, first, target),
                2.. => multiply::<K, 2>(parts, x, first, target),
                _ => multiply::<K, 1>(parts, x, first, target),
            };
        }
    }
}

/// The unpacked rows by `M` rows of activations from `first` on; gives `M`. Products go to rows of so many values, from a
/// column on.
///
/// # Safety
/// As for [`panel`]; `first + M` must not exceed the rows of `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<const K: u8, const M: usize>(
    parts: &[Part],
    x: &Activations,
    first: usize,
    (n, from, out): (usize, usize, &Out),
) -> usize {
    for (number, row) in parts.chunks_exact(x.k() / 32).enumerate() {
        let mut sums = Sums::<M>::none();
        // SAFETY: the caller's promise; a row has as many parts as the activations have blocks.
        unsafe {
            for (at, part) in row.iter().enumerate() {
                sums.add::<K>(part, x, first, at);
            }
            sums.put(n, from + number, first, out);
        }
    }
    M
}

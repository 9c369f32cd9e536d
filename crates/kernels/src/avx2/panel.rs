//! Many rows of activations: some rows of weights are unpacked once and meet all of them. The same blocks are added in the
//! same order as from the file, so a row of activations gets the same bits.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::cell::RefCell;
use std::ops::Range;

use super::file_rows;
use super::four::{FOUR, four};
use super::unpack::Eight;
use crate::activations::Activations;
use crate::kinds::with_kind;
use crate::matmul::{Matrix, Out};

/// Bytes of unpacked rows that stay in the nearest cache beside the activations that they meet.
const NEAR: usize = 16 << 10;

thread_local! {
    /// Unpacked rows; kept by their thread for the next ones.
    static MINE: RefCell<Vec<Eight>> = RefCell::default();
}

/// The `columns` by all rows of activations.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `x` must be rounded; the columns of `out` must be the
/// caller's alone. The matrix must be of a quantised format.
pub(crate) unsafe fn panel(matrix: &Matrix<'_>, columns: Range<usize>, x: &Activations, out: &Out) {
    let row = x.k().div_ceil(256) * size_of::<Eight>();
    let at_a_time = (NEAR / row / FOUR).max(1) * FOUR;
    MINE.with_borrow_mut(|eights| {
        for start in columns.clone().step_by(at_a_time) {
            let columns = start..(start + at_a_time).min(columns.end);
            // SAFETY: the caller's promise.
            unsafe { with_kind!(matrix.kind(), fill_and_multiply[](eights, matrix, columns, x, out)) }
        }
    });
}

/// # Safety
/// As for [`panel`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill_and_multiply<const K: u8>(
    eights: &mut Vec<Eight>,
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    out: &Out,
) {
    let (of_row, pairs) = (x.k() / 256, (x.k() / 32 % 8).div_ceil(2));
    eights.clear();
    // SAFETY: the caller's promise; no row of activations beyond the last is looked at.
    unsafe {
        for column in columns.clone().step_by(FOUR) {
            let rows = file_rows(matrix, column, columns.end);
            for row in 0..FOUR {
                for number in 0..of_row {
                    eights.push(rows.eight::<K>(row, number));
                }
            }
            for number in 0..pairs {
                eights.push(rows.ends::<K>(number));
            }
        }
        let target = (matrix.n(), columns, out);
        let mut first = 0;
        while first < x.rows() {
            first += match x.rows() - first {
                3.. => multiply::<K, 3>(eights, (of_row, pairs), x, first, &target),
                2 => multiply::<K, 2>(eights, (of_row, pairs), x, first, &target),
                _ => multiply::<K, 1>(eights, (of_row, pairs), x, first, &target),
            };
        }
    }
}

/// The unpacked rows, each of so many eights and each four of so many pairs, by `M` rows of activations from `first` on;
/// gives `M`. Products go to some columns of rows of so many values.
///
/// # Safety
/// As for [`panel`]; `first + M` must not exceed the rows of `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<const K: u8, const M: usize>(
    eights: &[Eight],
    (of_row, pairs): (usize, usize),
    x: &Activations,
    first: usize,
    (n, columns, out): &(usize, Range<usize>, &Out),
) -> usize {
    for (number, of_four) in eights.chunks_exact(of_row * FOUR + pairs).enumerate() {
        let column = columns.start + number * FOUR;
        let target = (*n, column, FOUR.min(columns.end - column));
        // SAFETY: the caller's promise; a four has as many eights and pairs as the activations have.
        unsafe {
            four::<K, M>(
                |row, number| *of_four.get_unchecked(row * of_row + number),
                |number| *of_four.get_unchecked(of_row * FOUR + number),
                x,
                first,
                target,
                out,
            );
        }
    }
    M
}

//! AVX2 and FMA, four rows of weights at a time on the blocks as they lie in the file ([`mod@four`], [`mod@one`]); for many rows of
//! activations, on blocks that are unpacked once, a lane for each of these rows ([`mod@panel`]).

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

mod attention;
mod four;
mod one;
mod panel;
mod round;
mod unpack;

use std::arch::x86_64::*;
use std::ops::Range;

use crate::activations::Activations;
use crate::blocks::Kind;
use crate::columns::{Columns, FOUR, beside};
use crate::kinds::{Q6K, with_kind};
use crate::matmul::{Matrix, Out};
pub(crate) use attention::{MANY_QUERIES, Stored, scores, soften, weigh};
use four::{Target, four};
use one::one;
pub(crate) use panel::panel;
pub(crate) use round::{row as round_row, together as round_together};
use unpack::Eight;

/// Whether this machine has what the functions here need.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// The columns of tiles by `M` rows of activations from `first` on. Which columns these are depends on the format and `M`:
/// those of a quantised one by one row lie apart, since memory is what they wait for.
///
/// # Safety
/// The machine must have what [`available`] asks for; `first + M` must not exceed the rows of `x`, which must be rounded
/// for quantised formats and exact for the others; the columns of `out` must be the caller's alone.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn rows<const M: usize>(
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    // SAFETY: the caller's promise; the columns are of the matrix, whose rows are whole blocks of `k`.
    unsafe {
        match matrix.kind() {
            Kind::F32 => float_rows::<0, M>(matrix, tiles, x, first, out),
            Kind::F16 => float_rows::<1, M>(matrix, tiles, x, first, out),
            Kind::Bf16 => float_rows::<2, M>(matrix, tiles, x, first, out),
            kind => with_kind!(kind, quantised_rows[M](matrix, tiles, x, first, out)),
        }
    }
}

/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantised_rows<const K: u8, const M: usize>(
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let rows = file_rows(matrix);
    if M == 1 {
        for columns in Columns::apart(matrix.n(), tiles) {
            let (rows, target) = (rows(columns), Target::new(matrix, columns, out));
            // SAFETY: the caller's promise; the activations have as many blocks as a row.
            unsafe {
                match K {
                    Q6K => four::<K, 1, AHEAD_APART>(&rows, x, first, &target),
                    _ => one::<K>(&rows, x, first, &target),
                }
            }
        }
        return;
    }
    for columns in Columns::of(beside(matrix.n(), tiles)) {
        let (rows, target) = (rows(columns), Target::new(matrix, columns, out));
        // SAFETY: as above.
        unsafe { four::<K, M, AHEAD>(&rows, x, first, &target) };
    }
}

/// So many bytes before they are needed, weights are asked for; measured with `examples/speed.rs` and `engine`'s
/// `examples/measure.rs`.
const AHEAD: usize = 4096;
/// The same where four rows lie apart.
const AHEAD_APART: usize = 1024;

/// Four rows as they lie in the file.
struct FileRows {
    starts: [*const u8; FOUR],
    blocks: usize,
}

/// Gives the rows of columns.
#[inline(always)]
fn file_rows(matrix: &Matrix<'_>) -> impl Fn(Columns) -> FileRows {
    // Asked once: it takes a division.
    let (from, size, blocks) =
        (matrix.bytes().as_ptr(), matrix.kind().row_bytes(matrix.k()), matrix.k() / 32);
    move |columns| {
        // No bound is exceeded, as the whole was checked, and in the place of columns that are not there stands the first.
        FileRows { starts: columns.padded().map(|column| from.wrapping_add(column * size)), blocks }
    }
}

impl FileRows {
    /// The `number`th eight blocks of a row.
    ///
    /// # Safety
    /// The machine must have what [`available`] asks for; there must be as many, of the format `K`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight<const K: u8, const AHEAD: usize>(&self, row: usize, number: usize) -> Eight {
        // SAFETY: the caller's promise.
        unsafe {
            let at = self.starts.get_unchecked(row).add(unpack::bytes(K, number * 8));
            for line in 0..unpack::bytes(K, 8).div_ceil(64) {
                // Rows follow each other, so what comes next is known long before it is needed.
                std::arch::x86_64::_mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast());
            }
            unpack::eight::<K>(at)
        }
    }

    /// The `number`th two blocks of those beyond the eights. Where there is but one, it stands for both: the activations have
    /// zeros for the second.
    ///
    /// # Safety
    /// As for [`Self::eight`].
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn ends<const K: u8>(&self, number: usize) -> Eight {
        let first = self.blocks / 8 * 8 + number * 2;
        let second = (first + 1).min(self.blocks - 1);
        // SAFETY: the caller's promise; both blocks lie in their row.
        unsafe {
            let at = |block: usize| self.starts.map(|start| start.add(unpack::bytes(K, block)));
            unpack::ends::<K>(at(first), at(second))
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_up(values: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Eight floats: `F` is 0 for 32 bits, 1 for halves, 2 for bfloat16.
///
/// # Safety
/// The machine must have what [`available`] asks for; eight values must lie at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight<const F: u8>(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        match F {
            0 => _mm256_loadu_ps(at.cast()),
            1 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
            _ => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                at.cast(),
            )))),
        }
    }
}

/// Rows of floats.
///
/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_rows<const F: u8, const M: usize>(
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    let k = x.k();
    let size = matrix.kind().block().1;
    let whole = k / 8 * 8;
    for column in beside(matrix.n(), tiles) {
        let row = matrix.row(column);
        let mut sums = [_mm256_setzero_ps(); M];
        for at in (0..whole).step_by(8) {
            // SAFETY: `at + 8` does not exceed `k`.
            unsafe {
                let weights = eight::<F>(row.as_ptr().add(at * size));
                for (m, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_loadu_ps(x.exact.as_ptr().add((first + m) * k + at));
                    *sum = _mm256_fmadd_ps(weights, x, *sum);
                }
            }
        }
        let mut rest = [0f32; 8];
        crate::dequantise(matrix.kind(), &row[whole * size..], &mut rest[..k - whole]);
        for (m, sum) in sums.into_iter().enumerate() {
            let x = &x.exact[(first + m) * k + whole..][..k - whole];
            let rest: f32 = rest.iter().zip(x).map(|(w, x)| w * x).sum();
            // SAFETY: the column is the caller's alone.
            unsafe { out.put((first + m) * matrix.n() + column, add_up(sum) + rest) };
        }
    }
}

//! Many rows of activations: four rows of weights are unpacked once and meet eight or sixteen rows of activations at a time, a
//! lane for a row of activations. Nothing is moved between lanes: what [`mod@super::four`] adds up in one lane, block after block,
//! is added up here in the same order, and then what it adds across lanes; so a row of activations gets the same bits.

#![expect(unsafe_code, reason = "vector instructions; each function says what it needs")]

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use super::four::{Target, with};
use super::unpack::Eight;
use super::{AHEAD, FileRows, file_rows};
use crate::activations::{Activations, ROWS, turn};
use crate::columns::{Columns, FOUR};
use crate::kinds::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, with_kind};
use crate::matmul::{Matrix, Out};

/// Rows of activations in a vector.
const LANES: usize = 8;

/// One block of each of four rows, with its values in their order; numbers as in [`Eight`].
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Block {
    weights: [[u8; 32]; FOUR],
    scale: [f32; FOUR],
    other: [f32; FOUR],
}

impl Block {
    const NOTHING: Self = Self { weights: [[0; 32]; FOUR], scale: [0.0; FOUR], other: [0.0; FOUR] };
}

thread_local! {
    /// Unpacked rows; kept by their thread for the next ones.
    static MINE: RefCell<Vec<Block>> = RefCell::default();
}

/// The `columns` by all rows of activations.
///
/// # Safety
/// The machine must have what [`super::available`] asks for; `x` must be rounded, with its rows together; the columns of
/// `out` must be the caller's alone. The matrix must be of a quantised format.
pub(crate) unsafe fn panel(matrix: &Matrix<'_>, columns: Range<usize>, x: &Activations, out: &Out) {
    MINE.with_borrow_mut(|panel| {
        // SAFETY: the caller's promise.
        unsafe { with_kind!(matrix.kind(), fill_and_multiply[](panel, matrix, columns, x, out)) }
    });
}

/// # Safety
/// As for [`panel`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill_and_multiply<const K: u8>(
    panel: &mut Vec<Block>,
    matrix: &Matrix<'_>,
    columns: Range<usize>,
    x: &Activations,
    out: &Out,
) {
    let blocks = x.k() / 32;
    panel.clear();
    panel.resize(columns.len().div_ceil(FOUR) * blocks, Block::NOTHING);
    let rows = file_rows(matrix);
    for (four, columns) in panel.chunks_exact_mut(blocks).zip(Columns::of(columns.clone())) {
        // SAFETY: the caller's promise.
        unsafe { fill::<K>(four, &rows(columns)) };
    }
    for first in (0..x.rows()).step_by(ROWS) {
        for (four, columns) in panel.chunks_exact(blocks).zip(Columns::of(columns.clone())) {
            let target = Target::new(matrix, columns, out);
            // SAFETY: the caller's promise; rows that are missing in a group are there, and are not written.
            unsafe {
                match x.rows() - first {
                    9.. => multiply::<K, 2>(four, x, first, &target),
                    _ => multiply::<K, 1>(four, x, first, &target),
                }
            }
        }
    }
}

/// Unpacks four rows.
///
/// # Safety
/// As for [`panel`]; `four` must have room for as many blocks as a row has.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill<const K: u8>(four: &mut [Block], rows: &FileRows) {
    let blocks = four.len();
    let (eights, beyond) = (blocks / 8, blocks % 8);
    // SAFETY: the caller's promise.
    unsafe {
        for number in 0..eights {
            for row in 0..FOUR {
                let eight = Apart::new(&rows.eight::<K, AHEAD>(row, number));
                for lane in 0..8 {
                    eight.put(lane, &mut four[turn(number * 8 + lane, blocks)], row);
                }
            }
        }
        for number in 0..beyond.div_ceil(2) {
            let ends = Apart::new(&rows.ends::<K>(number));
            let first = eights * 8 + number * 2;
            for block in first..(first + 2).min(blocks) {
                for row in 0..FOUR {
                    ends.put(row + (block - first) * FOUR, &mut four[turn(block, blocks)], row);
                }
            }
        }
    }
}

/// [`Eight`] in memory.
struct Apart {
    /// Each block's 32 values.
    weights: [[u8; 32]; 8],
    scale: [f32; 8],
    other: [f32; 8],
}

impl Apart {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(eight: &Eight) -> Self {
        let mut apart = Self { weights: [[0; 32]; 8], scale: [0.0; 8], other: [0.0; 8] };
        for (pair, [firsts, seconds]) in eight.weights.iter().enumerate() {
            let low = _mm256_permute2x128_si256::<0x20>(*firsts, *seconds);
            let high = _mm256_permute2x128_si256::<0x31>(*firsts, *seconds);
            // SAFETY: 32 bytes each.
            unsafe {
                _mm256_storeu_si256(apart.weights[pair].as_mut_ptr().cast(), low);
                _mm256_storeu_si256(apart.weights[pair + 4].as_mut_ptr().cast(), high);
            }
        }
        // SAFETY: eight floats each.
        unsafe {
            _mm256_storeu_ps(apart.scale.as_mut_ptr(), eight.scale);
            _mm256_storeu_ps(apart.other.as_mut_ptr(), eight.other);
        }
        apart
    }

    #[inline(always)]
    fn put(&self, lane: usize, block: &mut Block, row: usize) {
        block.weights[row] = self.weights[lane];
        block.scale[row] = self.scale[lane];
        block.other[row] = self.other[lane];
    }
}

/// One number for each of `G` times eight rows of activations and of four rows of weights.
type Sums<T, const G: usize> = [[T; G]; FOUR];

/// Four unpacked rows by the rows of activations from `first` on, `G` vectors of them.
///
/// # Safety
/// As for [`panel`]; `first` must be a multiple of [`ROWS`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<const K: u8, const G: usize>(
    four: &[Block],
    x: &Activations,
    first: usize,
    target: &Target<'_>,
) {
    let blocks = four.len();
    let (eights, beyond) = (blocks / 8, blocks % 8);
    let zero = [[_mm256_setzero_ps(); G]; FOUR];
    // SAFETY: the caller's promise; all that is added is `blocks` in their order.
    unsafe {
        let mut next = Next {
            block: four.as_ptr(),
            q: x.q.as_ptr().add(first * x.q_stride()),
            d: x.d.as_ptr().add(first * x.d_stride()),
            s: x.s.as_ptr().add(first * x.d_stride()),
            sums: x.sums.as_ptr().add(first * x.d_stride()),
            firsts: x.firsts.as_ptr().add(first * x.d_stride()),
        };
        let mut halves = [zero; 2];
        for (half, of_ends) in halves.iter_mut().zip([beyond.div_ceil(2), beyond / 2]) {
            let (mut lanes, mut ends) = ([zero; 4], zero);
            for lane in &mut lanes {
                next.add_up::<K, G>(eights, lane);
            }
            next.add_up::<K, G>(of_ends, &mut ends);
            let [a, b, c, d] = &lanes;
            *half = sum(&sum(&sum(a, b), &sum(c, d)), &ends);
        }
        let [low, high] = &halves;
        let all = sum(low, high);
        write(&all, x.rows() - first, first, target);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum<const G: usize>(a: &Sums<__m256, G>, b: &Sums<__m256, G>) -> Sums<__m256, G> {
    let mut all = *a;
    for (all, b) in all.iter_mut().zip(b) {
        for (all, b) in all.iter_mut().zip(b) {
            *all = _mm256_add_ps(*all, *b);
        }
    }
    all
}

/// Writes the products of at most `rows` rows of activations from `first` on.
///
/// # Safety
/// As for [`panel`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn write<const G: usize>(sums: &Sums<__m256, G>, rows: usize, first: usize, target: &Target<'_>) {
    let [a, b, c, d] = sums;
    for (g, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
        let (ab, cd) = (_mm256_unpacklo_ps(*a, *b), _mm256_unpacklo_ps(*c, *d));
        let (ef, gh) = (_mm256_unpackhi_ps(*a, *b), _mm256_unpackhi_ps(*c, *d));
        // Of rows 0 and 4, 1 and 5, 2 and 6, 3 and 7.
        let of_rows = [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
            _mm256_shuffle_ps::<0b01_00_01_00>(ef, gh),
            _mm256_shuffle_ps::<0b11_10_11_10>(ef, gh),
        ];
        for lane in 0..LANES.min(rows.saturating_sub(g * LANES)) {
            let both = of_rows[lane % 4];
            let products =
                if lane < 4 { _mm256_castps256_ps128(both) } else { _mm256_extractf128_ps::<1>(both) };
            // SAFETY: the row is one of `x`, the columns are the caller's alone.
            unsafe { target.put(first + g * LANES + lane, products) };
        }
    }
}

/// The next block of four rows, and what it meets of sixteen rows of activations.
struct Next {
    block: *const Block,
    q: *const i8,
    d: *const f32,
    s: *const f32,
    sums: *const i32,
    firsts: *const i32,
}

impl Next {
    /// Adds up `count` blocks, from nothing, and goes on behind them.
    ///
    /// # Safety
    /// As for [`panel`]; so many blocks must be there.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_up<const K: u8, const G: usize>(&mut self, count: usize, to: &mut Sums<__m256, G>) {
        let mut all = [[_mm256_setzero_ps(); G]; FOUR];
        for _ in 0..count {
            // SAFETY: the caller's promise.
            unsafe {
                let block = &*self.block;
                let [first, second] = totals::<K, G>(block, self.q);
                for row in 0..FOUR {
                    let scale = _mm256_broadcast_ss(&block.scale[row]);
                    let other = _mm256_broadcast_ss(&block.other[row]);
                    for g in 0..G {
                        let whole = |numbers: *const i32| _mm256_load_si256(numbers.add(g * LANES).cast());
                        let corrections = if K == Q6K {
                            let firsts = whole(self.firsts);
                            [firsts, _mm256_sub_epi32(whole(self.sums), firsts)]
                        } else {
                            [_mm256_setzero_si256(); 2]
                        };
                        all[row][g] = with::<K>(
                            all[row][g],
                            (scale, other),
                            [first[row][g], second[row][g]],
                            corrections,
                            _mm256_load_ps(self.d.add(g * LANES)),
                            _mm256_load_ps(self.s.add(g * LANES)),
                        );
                    }
                }
                self.block = self.block.add(1);
                self.q = self.q.add(32 * ROWS);
                for floats in [&mut self.d, &mut self.s] {
                    *floats = floats.add(ROWS);
                }
                for numbers in [&mut self.sums, &mut self.firsts] {
                    *numbers = numbers.add(ROWS);
                }
            }
        }
        *to = all;
    }
}

/// Fours of values whose products, two by two, are added up in sixteen bits before they must become wider: see
/// `add_narrow` and `add_some` in [`mod@super::four`] for how many fit.
const fn fours_that_fit(kind: u8) -> usize {
    match kind {
        Q4_0 | Q4_1 | Q4K => 8,
        Q5_0 | Q5_1 | Q5K => 4,
        Q6K => 2,
        _ => 1,
    }
}

/// The same numbers, made now: else the compiler adds up each row's products together, in trees, and the rows after each other,
/// which takes more registers than there are (11 cycles for eight blocks instead of 7).
#[inline]
#[target_feature(enable = "avx2")]
fn settled(mut numbers: __m256i) -> __m256i {
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) numbers, options(nomem, nostack, preserves_flags));
    }
    numbers
}

/// The whole sums of a block's products, for [`Q6K`] of its first half, then of its second one.
///
/// # Safety
/// As for [`panel`]; what the block meets must lie at `q`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn totals<const K: u8, const G: usize>(block: &Block, q: *const i8) -> [Sums<__m256i, G>; 2] {
    let none = [[_mm256_setzero_si256(); G]; FOUR];
    let one = _mm256_set1_epi16(1);
    let fits = fours_that_fit(K);
    let mut all = [none; 2];
    for from in (0..8).step_by(fits) {
        let mut narrow = none;
        for four in from..from + fits {
            let mut x = [_mm256_setzero_si256(); G];
            for (g, x) in x.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *x = unsafe { _mm256_load_si256(q.add((four * ROWS + g * LANES) * 4).cast()) };
            }
            for (narrow, weights) in narrow.iter_mut().zip(&block.weights) {
                // SAFETY: four bytes of the block's 32.
                let weights = unsafe { weights.as_ptr().add(four * 4).cast::<i32>().read() };
                let weights = _mm256_set1_epi32(weights);
                for (narrow, x) in narrow.iter_mut().zip(x) {
                    let products = if K == Q8_0 {
                        // One side must be unsigned, so the weights' signs change sides.
                        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                    } else {
                        _mm256_maddubs_epi16(weights, x)
                    };
                    let sum = if four == from { products } else { _mm256_add_epi16(*narrow, products) };
                    *narrow = settled(sum);
                }
            }
        }
        let half = usize::from(K == Q6K && from >= 4);
        for (all, narrow) in all[half].iter_mut().zip(narrow) {
            for (all, narrow) in all.iter_mut().zip(narrow) {
                *all = _mm256_add_epi32(*all, _mm256_madd_epi16(narrow, one));
            }
        }
    }
    all
}

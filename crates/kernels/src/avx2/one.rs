//! Four rows of weights by one row of activations, as when an answer is made: what [`mod@super::four`] does, with the same
//! bits, in another order in time. Eight blocks are taken apart and multiplied while the sums of the eight before them are
//! still on their way: one after the other, each step would wait for its own sums, and too few steps fit into what a core
//! looks ahead (docs/performance.md).

use std::arch::x86_64::*;

use super::four::{Target, added, parts, products, with};
use super::unpack::Eight;
use super::{AHEAD_APART, FileRows};
use crate::activations::Activations;
use crate::columns::FOUR;

/// Eight blocks that are multiplied and not yet added up.
#[derive(Clone, Copy)]
struct Begun {
    parts: [__m256i; 4],
    scale: __m256,
    other: __m256,
}

/// Multiplies eight blocks with the activations at `q`; `step` as for [`parts`].
///
/// # Safety
/// As for [`parts`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn begin<const K: u8>(eight: &Eight, q: *const i8, step: usize) -> Begun {
    // SAFETY: the caller's promise.
    Begun { parts: unsafe { parts::<K>(eight, q, step) }, scale: eight.scale, other: eight.other }
}

/// Adds eight blocks to the lanes of a sum.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add<const K: u8>(to: __m256, begun: Begun, d: __m256, s: __m256) -> __m256 {
    let none = _mm256_setzero_si256();
    with::<K>(to, (begun.scale, begun.other), [added::<K>(begun.parts), none], [none; 2], d, s)
}

/// Adds up four rows of weights by the row of activations `first`, and writes the products. Not for
/// [`crate::kinds::Q6K`].
///
/// # Safety
/// As for [`super::four::four`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn one<const K: u8>(rows: &FileRows, x: &Activations, first: usize, target: &Target<'_>) {
    let (eights, beyond) = (x.k() / 256, (x.k() / 32 % 8).div_ceil(2));
    let zero = _mm256_setzero_ps();
    let (mut all, mut rest) = ([zero; FOUR], zero);
    // SAFETY: the caller's promise; a row of `x` has its eights, then its pairs, padded with zeros to a whole one.
    unsafe {
        let q = x.q.as_ptr().add(first * x.q_stride());
        let d = x.d.as_ptr().add(first * x.d_stride());
        let s = x.s.as_ptr().add(first * x.d_stride());
        let lanes = |values: *const f32, number: usize| _mm256_loadu_ps(values.add(number * 8));
        let begin_eight = |row: usize, number: usize| {
            begin::<K>(&rows.eight::<K, AHEAD_APART>(row, number), q.add(number * 256), 64)
        };
        if eights > 0 {
            let mut begun = begin_eight(0, 0);
            for (row, all) in all.iter_mut().enumerate() {
                let mut sum = zero;
                for number in 1..eights {
                    let next = begin_eight(row, number);
                    sum = add::<K>(sum, begun, lanes(d, number - 1), lanes(s, number - 1));
                    begun = next;
                }
                let next = if row + 1 < FOUR { begin_eight(row + 1, 0) } else { begun };
                *all = add::<K>(sum, begun, lanes(d, eights - 1), lanes(s, eights - 1));
                begun = next;
            }
        }
        for number in 0..beyond {
            let at = eights * 8 + number * 2;
            let both = |values: *const f32| {
                _mm256_set_m128(_mm_set1_ps(*values.add(at + 1)), _mm_set1_ps(*values.add(at)))
            };
            let begun = begin::<K>(&rows.ends::<K>(number), q.add(at * 32), 0);
            rest = add::<K>(rest, begun, both(d), both(s));
        }
        target.put(first, products(all, rest));
    }
}

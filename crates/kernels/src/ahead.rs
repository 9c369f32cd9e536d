//! What a thread will read when its next work comes: it asks the memory for it while it waits. Without that, memory rests in
//! every wait, and there are two hundred in a step.

#![expect(unsafe_code, reason = "a hint to the processor, which touches nothing")]

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::columns::{FOUR, TILE};
use crate::matmul::Matrix;

/// Bytes that a thread asks for at most: half of the second cache, which also holds what it works on.
const MOST: usize = 256 << 10;
const LINE: usize = 64;
/// Places that are read side by side.
const PLACES: usize = FOUR;

/// Memory at four places, line after line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    start: *const u8,
    /// Bytes from a place to the next.
    apart: usize,
    /// Bytes from a place's line to its next.
    stride: usize,
    /// Lines of each place.
    lines: usize,
}

impl Places {
    /// Where so many tiles of a matrix lie, from the `tile`th on: `apart` as [`crate::columns::Columns::apart`] has them, else
    /// beside each other.
    pub(crate) fn of(matrix: &Matrix<'_>, tile: usize, tiles: usize, apart: bool) -> Self {
        let row = matrix.kind().row_bytes(matrix.k());
        let bytes = (tiles * TILE * row).min(MOST);
        let (from, apart, stride) = match apart {
            true => (tile * (TILE / FOUR) * row, matrix.n().div_ceil(FOUR) * row, LINE),
            false => (tile * TILE * row, LINE, LINE * PLACES),
        };
        let start = matrix.bytes().as_ptr().wrapping_add(from);
        Self { start, apart, stride, lines: bytes.div_ceil(LINE * PLACES) }
    }
}

/// What one thread has before it. Whoever reads it while it changes asks for the wrong lines, which does no harm.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    start: AtomicPtr<u8>,
    apart: AtomicUsize,
    stride: AtomicUsize,
    lines: AtomicUsize,
    /// Lines of each place that were asked for.
    asked: AtomicUsize,
}

impl Ahead {
    pub(crate) fn set(&self, places: Places) {
        self.start.store(places.start.cast_mut(), Ordering::Relaxed);
        self.apart.store(places.apart, Ordering::Relaxed);
        self.stride.store(places.stride, Ordering::Relaxed);
        self.lines.store(places.lines, Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// Waits for a moment, and asks for the next line of each place.
    #[inline]
    pub(crate) fn ask_and_pause(&self) {
        let line = self.asked.load(Ordering::Relaxed);
        if line < self.lines.load(Ordering::Relaxed) {
            self.asked.store(line + 1, Ordering::Relaxed);
            let at = line * self.stride.load(Ordering::Relaxed);
            let first = self.start.load(Ordering::Relaxed).wrapping_add(at);
            let apart = self.apart.load(Ordering::Relaxed);
            (0..PLACES).for_each(|place| ask_for(first.wrapping_add(place * apart)));
        }
        // It is also the pace: a core forgets what it is asked for faster than memory answers.
        std::hint::spin_loop();
    }
}

#[inline]
fn ask_for(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint. Any address will do: what is not there is not asked for.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Kind;
    use crate::columns::{Columns, beside, tiles};

    /// The lines that are asked for, by their distance from the matrix's beginning.
    fn asked(matrix: &Matrix<'_>, places: Places) -> BTreeSet<usize> {
        let start = places.start as usize - matrix.bytes().as_ptr() as usize;
        let line =
            |line: usize| (0..PLACES).map(move |place| start + line * places.stride + place * places.apart);
        (0..places.lines).flat_map(line).collect()
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_the_tiles_read(quarters in 1usize..40, first in 0usize..10, apart: bool) {
            // Whole tiles of rows of 320 bytes, which are whole lines.
            let (k, n) = (512, quarters * 4 * TILE);
            let bytes = vec![0; Kind::Q4_1.row_bytes(k) * n];
            let matrix = Matrix::new(Kind::Q4_1, &bytes, k, n).unwrap();
            let (first, last) = (first.min(tiles(n) - 1), tiles(n).min(first + 12));
            let places = Places::of(&matrix, first, last - first, apart);
            let columns: Vec<usize> = match apart {
                true => Columns::apart(n, first..last).flat_map(Columns::padded).collect(),
                false => beside(n, first..last).collect(),
            };
            let row = Kind::Q4_1.row_bytes(k);
            let read: BTreeSet<usize> = columns.into_iter().flat_map(|column| (column * row..(column + 1) * row).step_by(LINE)).collect();
            prop_assert_eq!(asked(&matrix, places), read);
        }
    }

    #[test]
    fn each_line_is_asked_for_once_and_no_more_than_fits() {
        let bytes = vec![0; Kind::Q8_0.row_bytes(1024) * 4096];
        let matrix = Matrix::new(Kind::Q8_0, &bytes, 1024, 4096).unwrap();
        let places = Places::of(&matrix, 0, tiles(4096), true);
        assert_eq!(places.lines * PLACES * LINE, MOST);
        let ahead = Ahead::default();
        ahead.ask_and_pause();
        assert_eq!(ahead.asked.load(Ordering::Relaxed), 0, "nothing is before it");
        ahead.set(places);
        (0..places.lines + 7).for_each(|_| ahead.ask_and_pause());
        assert_eq!(ahead.asked.load(Ordering::Relaxed), places.lines);
    }
}

//! Which rows of weights, and so which columns of the result, a thread takes at a time.

use std::ops::Range;

/// Rows of weights of a tile.
pub(crate) const TILE: usize = 16;
/// Rows of weights that meet activations together.
pub(crate) const FOUR: usize = 4;

/// Tiles of a matrix of `n` rows.
pub(crate) fn tiles(n: usize) -> usize {
    n.div_ceil(TILE)
}

/// The columns of a tile that lie beside each other.
pub(crate) fn beside(n: usize, tile: usize) -> Range<usize> {
    tile * TILE..((tile + 1) * TILE).min(n)
}

/// Up to four columns, `step` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) count: usize,
}

impl Columns {
    /// The fours of a range.
    pub(crate) fn of(range: Range<usize>) -> impl Iterator<Item = Self> {
        let end = range.end;
        range.step_by(FOUR).map(move |first| Self { first, step: 1, count: FOUR.min(end - first) })
    }

    /// The fours of a tile of columns that lie apart: each has one from every quarter of the `n` columns. Who takes tile
    /// after tile then reads at four places of memory, which answers faster than at one (docs/performance.md).
    pub(crate) fn apart(n: usize, tile: usize) -> impl Iterator<Item = Self> {
        let step = n.div_ceil(FOUR);
        let each = TILE / FOUR;
        (tile * each..((tile + 1) * each).min(step)).map(move |first| Self {
            first,
            step,
            count: (n - first).div_ceil(step),
        })
    }

    /// The columns; in the place of those that are not there stands the first.
    pub(crate) fn padded(self) -> [usize; FOUR] {
        std::array::from_fn(|at| self.first + if at < self.count { at * self.step } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn each(columns: Columns) -> impl Iterator<Item = usize> {
        (0..columns.count).map(move |at| columns.first + at * columns.step)
    }

    proptest! {
        #[test]
        fn tiles_have_every_column_once_beside_each_other_or_apart(n in 1usize..400) {
            let mut near: Vec<usize> = (0..tiles(n)).flat_map(|tile| Columns::of(beside(n, tile))).flat_map(each).collect();
            let mut far: Vec<usize> = (0..tiles(n)).flat_map(|tile| Columns::apart(n, tile)).flat_map(each).collect();
            near.sort_unstable();
            far.sort_unstable();
            prop_assert_eq!(&near, &(0..n).collect::<Vec<_>>());
            prop_assert_eq!(&far, &near);
        }

        #[test]
        fn what_stands_for_a_column_that_is_not_there_is(n in 1usize..400, tile in 0usize..25) {
            for columns in Columns::apart(n, tile) {
                prop_assert!(columns.padded().iter().all(|column| each(columns).any(|there| there == *column)));
            }
        }
    }
}

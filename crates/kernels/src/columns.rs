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

/// The columns of tiles that lie beside each other.
pub(crate) fn beside(n: usize, tiles: Range<usize>) -> Range<usize> {
    tiles.start * TILE..(tiles.end * TILE).min(n)
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

    /// The fours of tiles of columns that lie apart: each has one from every quarter of the `n` columns. Who takes tile
    /// after tile then reads at four places of memory, which answers faster than at one (docs/performance.md).
    pub(crate) fn apart(n: usize, tiles: Range<usize>) -> impl Iterator<Item = Self> {
        let step = n.div_ceil(FOUR);
        let each = TILE / FOUR;
        (tiles.start * each..(tiles.end * each).min(step)).map(move |first| Self {
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
        fn tiles_have_every_column_once_beside_each_other_or_apart(n in 1usize..400, cut in 0usize..25) {
            let cut = cut.min(tiles(n));
            let halves = || [0..cut, cut..tiles(n)].into_iter();
            let mut near: Vec<usize> =
                halves().flat_map(|tiles| Columns::of(beside(n, tiles))).flat_map(each).collect();
            let mut far: Vec<usize> = halves().flat_map(|tiles| Columns::apart(n, tiles)).flat_map(each).collect();
            near.sort_unstable();
            far.sort_unstable();
            prop_assert_eq!(&near, &(0..n).collect::<Vec<_>>());
            prop_assert_eq!(&far, &near);
        }

        #[test]
        fn what_stands_for_a_column_that_is_not_there_is(n in 1usize..400, tile in 0usize..25) {
            for columns in Columns::apart(n, tile..tile + 1) {
                prop_assert!(columns.padded().iter().all(|column| each(columns).any(|there| there == *column)));
            }
        }
    }
}

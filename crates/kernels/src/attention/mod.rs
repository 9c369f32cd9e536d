//! Attention of many positions over the keys and values before them, in pages of halves. Queries that share keys (the heads
//! of a group, and the rows of a prompt) go over a page together, with a softmax of its own for each page; the pages are put
//! together in their order. So a row's bits depend neither on the rows beside it nor on how threads share the pages. Source:
//! Milakov and Gimelshein, 2018.

mod softmax;
mod view;

use std::cell::RefCell;
use std::ops::Range;

use crate::matmul::Level;
use crate::pool::{Cut, Pool};
pub use softmax::exp;
#[cfg(test)]
pub(crate) use softmax::exp_by;
pub(crate) use softmax::{Soft, soften};
use view::View;

/// Keys lie in blocks of so many positions: first the first number of each position, then the second, and so on. So a vector
/// holds one number of many positions, and scores need no sums across its lanes.
pub const KEY_BLOCK: usize = 64;
/// Queries that go over a page together.
const TOGETHER: usize = 24;
/// From so many tiles a thread on, threads share tiles and not their pages.
const FEW_ITEMS: usize = 4;
/// Products below which waking other threads costs more than it saves.
const SMALL: usize = 8 << 10;

/// Keys and values of one key-value head in one page.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Keys, in blocks of [`KEY_BLOCK`] positions: for each dimension one half a position.
    pub keys: &'a [u16],
    /// Values, position after position.
    pub values: &'a [u16],
}

/// How a layer looks.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Which instructions compute.
    pub level: Level,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, which divide those of queries.
    pub kv_heads: usize,
    /// Width of a head.
    pub width: usize,
    /// Positions of a page, a multiple of [`KEY_BLOCK`].
    pub page: usize,
    /// Positions that are seen, the row's own included; all if there is no number.
    pub window: Option<usize>,
    /// Whether a row sees what is before it alone; else every row of a stretch sees as much as if it stood at the
    /// stretch's position.
    pub causal: bool,
    /// What scores are multiplied with.
    pub scale: f32,
}

/// Rows of one sequence, one position after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first row.
    pub row: usize,
    /// How many.
    pub rows: usize,
    /// The position of the first; the last that is seen by all, where attention is not causal.
    pub position: usize,
    /// Whose they are.
    pub sequence: usize,
}

/// Memory of one call, kept for the next.
#[derive(Debug, Default)]
pub struct Partials(Vec<f32>);

impl Partials {
    /// Makes room for rows that see so many positions, so that no page of a growing context needs more. What is not yet
    /// written to takes no memory.
    pub fn reserve(&mut self, look: &Attention, threads: usize, positions: usize) {
        let items = threads * FEW_ITEMS;
        let (slot, pages) = (look.slot(), positions.div_ceil(look.page));
        self.0.reserve_exact((items * pages * slot).saturating_sub(self.0.len()));
    }
}

/// Where keys and values are: by sequence, key-value head and number of the page.
pub type Pages<'a, 'b> = &'b (dyn Fn(usize, usize, usize) -> Page<'a> + Sync);

/// A thread's memory, kept for its next tile.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    part: Vec<f32>,
    total: Vec<f32>,
    part_soft: Vec<Soft>,
    total_soft: Vec<Soft>,
    wide: Vec<f32>,
}

thread_local! {
    static MINE: RefCell<Scratch> = RefCell::default();
}

impl Attention {
    /// Computes all rows: `queries` and `out` have `heads * width` values a row. The stretches follow each other and are all
    /// the rows that there are.
    pub fn run(
        &self,
        pool: &mut Pool,
        partials: &mut Partials,
        stretches: &[Stretch],
        queries: &[f32],
        pages: Pages<'_, '_>,
        out: &mut [f32],
    ) {
        let look = Self { level: self.level.sound(), ..*self };
        look.check(stretches, queries, out);
        let per_tile = look.per_tile();
        let tiles = stretches.iter().map(|stretch| stretch.rows.div_ceil(per_tile)).sum::<usize>();
        let items = tiles * look.kv_heads;
        let longest = stretches.iter().map(|stretch| stretch.position + stretch.rows).max().unwrap_or(0);
        let products: usize = stretches
            .iter()
            .map(|stretch| stretch.rows * (stretch.position + stretch.rows) * look.heads * look.width)
            .sum();
        let cut = Cut::new(out);
        let finish = |heads: Range<usize>, tile: Stretch, mine: &mut Scratch| {
            for (at, made) in mine.total.chunks_exact(look.width).enumerate() {
                let (row, head) = (at / heads.len(), at % heads.len());
                let number = (tile.row + row) * look.heads + heads.start + head;
                // SAFETY: the stretches do not overlap, as `check` saw; so each row's head is in one item, which is one
                // thread's.
                #[expect(unsafe_code, reason = "threads write disjoint pieces of one slice")]
                unsafe { cut.piece(number, look.width) }.copy_from_slice(made);
            }
        };
        let some = |item: usize, heads: Range<usize>| {
            MINE.with_borrow_mut(|mine| {
                let tile = look.tile(stretches, per_tile, item / look.kv_heads);
                let mut view = View::new(&look, mine, tile, queries, heads.clone());
                view.begin();
                for number in view.pages() {
                    view.page(pages(tile.sequence, item % look.kv_heads, number), number);
                    view.merge();
                }
                view.end();
                finish(heads, tile, mine);
            });
        };
        let whole = |item: usize| some(item, look.sharing(item));
        let (threads, group) = (pool.threads(), look.group());
        let (each, rest) = (items / threads, items % threads);
        if threads < 2 || products < SMALL {
            (0..items).for_each(whole);
        } else if longest <= look.page && items < threads * FEW_ITEMS && rest > 0 && group >= threads {
            // What would leave a thread without work is shared by its queries: each of them is a matter of its own.
            pool.run(threads * (each + rest), &|part| {
                let (thread, number) = (part / (each + rest), part % (each + rest));
                if number < each {
                    return whole(thread * each + number);
                }
                let item = threads * each + number - each;
                let Range { start, .. } = look.sharing(item);
                some(item, start + group * thread / threads..start + group * (thread + 1) / threads);
            });
        } else if items >= threads * FEW_ITEMS || longest <= look.page {
            pool.run(items, &whole);
        } else {
            look.by_pages(pool, partials, (stretches, per_tile, items), queries, pages, &finish);
        }
    }

    /// Few rows that see many pages: threads share the pages too.
    fn by_pages(
        &self,
        pool: &mut Pool,
        partials: &mut Partials,
        (stretches, per_tile, items): (&[Stretch], usize, usize),
        queries: &[f32],
        pages: Pages<'_, '_>,
        finish: &dyn Fn(Range<usize>, Stretch, &mut Scratch),
    ) {
        let most_pages = stretches
            .iter()
            .map(|stretch| (stretch.position + stretch.rows).div_ceil(self.page))
            .max()
            .unwrap_or(0);
        let slot = self.slot();
        partials.0.resize(items * most_pages * slot, 0.0);
        let cut = Cut::new(&mut partials.0);
        pool.run(items * most_pages, &|part| {
            let (item, number) = (part / most_pages, part % most_pages);
            MINE.with_borrow_mut(|mine| {
                let tile = self.tile(stretches, per_tile, item / self.kv_heads);
                let mut view = View::new(self, mine, tile, queries, self.sharing(item));
                if view.pages().contains(&number) {
                    view.page(pages(tile.sequence, item % self.kv_heads, number), number);
                    // SAFETY: each slot is one part's, and each part is one thread's.
                    #[expect(unsafe_code, reason = "threads write disjoint pieces of one slice")]
                    view.put_away(unsafe { cut.piece(part, slot) });
                }
            });
        });
        for item in 0..items {
            MINE.with_borrow_mut(|mine| {
                let tile = self.tile(stretches, per_tile, item / self.kv_heads);
                let mut view = View::new(self, mine, tile, queries, self.sharing(item));
                view.begin();
                for number in view.pages() {
                    view.take_back(&partials.0[(item * most_pages + number) * slot..][..slot]);
                    view.merge();
                }
                view.end();
                finish(self.sharing(item), tile, mine);
            });
        }
    }

    /// Rows of a tile.
    fn per_tile(&self) -> usize {
        (TOGETHER / self.group()).max(1)
    }

    /// Floats that one tile keeps of one page.
    fn slot(&self) -> usize {
        self.per_tile() * self.group() * (self.width + 2)
    }

    /// The heads of an item, which share their keys.
    fn sharing(&self, item: usize) -> Range<usize> {
        let first = item % self.kv_heads * self.group();
        first..first + self.group()
    }

    /// Heads that share keys.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self, stretches: &[Stretch], queries: &[f32], out: &[f32]) {
        let rows = stretches.iter().fold(0, |end, stretch| {
            assert_eq!(stretch.row, end, "the rows do not follow each other");
            end + stretch.rows
        });
        assert!(
            self.page.is_multiple_of(KEY_BLOCK) && self.heads.is_multiple_of(self.kv_heads),
            "the page is not whole blocks, or the heads are not whole groups"
        );
        assert!(
            queries.len() == rows * self.heads * self.width && out.len() == queries.len(),
            "the queries or the result have another size"
        );
    }

    /// The `number`th tile of at most `per_tile` rows.
    fn tile(&self, stretches: &[Stretch], per_tile: usize, mut number: usize) -> Stretch {
        for stretch in stretches {
            let here = stretch.rows.div_ceil(per_tile);
            if number < here {
                let at = number * per_tile;
                return Stretch {
                    row: stretch.row + at,
                    rows: per_tile.min(stretch.rows - at),
                    position: stretch.position + if self.causal { at } else { 0 },
                    sequence: stretch.sequence,
                };
            }
            number -= here;
        }
        Stretch { row: 0, rows: 0, position: 0, sequence: 0 }
    }
}

//! Keys and values of one sequence, as halves in pages of 256 positions. A page is mapped from the system and given back
//! when it goes, so that private bytes really fall; blocks of 64 positions that are not touched cost nothing.

use kernels::{KEY_BLOCK, Page, as_halves, as_halves_mut, write_halves};
use memmap2::MmapMut;

use crate::chat::PAGE;
use crate::error::Error;

/// The memory of one sequence.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pages: Vec<MmapMut>,
    length: usize,
    /// Positions that were ever filled in the pages that are there: what was cut off within a page stays resident.
    touched: usize,
}

/// How a page is laid out: layer, head, keys before values, position; keys in blocks, as the kernels want them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl Layout {
    /// Bytes of one position.
    pub(super) fn position_bytes(&self) -> usize {
        self.layers * self.heads * self.width * 4
    }

    /// Where the keys of a layer's head begin in a page; its values follow.
    fn start(&self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * 2 * PAGE * self.width
    }
}

impl Cache {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Makes room for `more` positions.
    pub(super) fn grow(&mut self, layout: &Layout, more: usize) -> Result<(), Error> {
        let wanted = (self.length + more).div_ceil(PAGE);
        while self.pages.len() < wanted {
            self.pages.push(MmapMut::map_anon(layout.position_bytes() * PAGE).map_err(Error::Memory)?);
        }
        Ok(())
    }

    /// The positions up to `length` are filled.
    pub(super) fn advance(&mut self, length: usize) {
        self.length = length;
        self.touched = self.touched.max(length);
    }

    /// Forgets the positions from `keep` on.
    pub(super) fn truncate(&mut self, keep: usize) {
        self.length = self.length.min(keep);
        self.pages.truncate(self.length.div_ceil(PAGE));
        self.touched = self.touched.min(self.pages.len() * PAGE);
    }

    /// A copy of the first `keep` positions.
    pub(super) fn branch(&self, layout: &Layout, keep: usize) -> Result<Self, Error> {
        let mut copy = Self::default();
        let keep = keep.min(self.length);
        copy.grow(layout, keep)?;
        for (number, (to, from)) in copy.pages.iter_mut().zip(&self.pages).enumerate() {
            // Blocks that are not copied are not touched.
            let positions = (keep - number * PAGE).min(PAGE).next_multiple_of(KEY_BLOCK);
            let (to, from) = (as_halves_mut(to), as_halves(from));
            let (stretch, filled) = (PAGE * layout.width, positions * layout.width);
            for (to, from) in to.chunks_exact_mut(stretch).zip(from.chunks_exact(stretch)) {
                to[..filled].copy_from_slice(&from[..filled]);
            }
        }
        copy.advance(keep);
        Ok(copy)
    }

    /// Bytes that are held: of blocks in which a position was filled.
    pub(super) fn held_bytes(&self, layout: &Layout) -> u64 {
        (self.touched.next_multiple_of(KEY_BLOCK) * layout.position_bytes()) as u64
    }

    /// Writes keys and values of all heads at one position of one layer.
    pub(super) fn write(
        &mut self,
        layout: &Layout,
        layer: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let (page, at) = (position / PAGE, position % PAGE);
        let page = as_halves_mut(&mut self.pages[page]);
        let heads = keys.chunks_exact(layout.width).zip(values.chunks_exact(layout.width));
        for (head, (keys, values)) in heads.enumerate() {
            let (to_keys, to_values) = page[layout.start(layer, head)..][..2 * PAGE * layout.width]
                .split_at_mut(PAGE * layout.width);
            write_halves(values, &mut to_values[at * layout.width..][..layout.width]);
            let block = at / KEY_BLOCK * KEY_BLOCK * layout.width;
            let block = &mut to_keys[block..][..KEY_BLOCK * layout.width];
            let mut halves = [0; 32];
            for (keys, lanes) in keys.chunks(halves.len()).zip(block.chunks_mut(halves.len() * KEY_BLOCK)) {
                write_halves(keys, &mut halves);
                for (half, lane) in halves.iter().zip(lanes.chunks_exact_mut(KEY_BLOCK)) {
                    lane[at % KEY_BLOCK] = *half;
                }
            }
        }
    }

    /// One page of one layer's head.
    pub(super) fn page(&self, layout: &Layout, layer: usize, head: usize, number: usize) -> Page<'_> {
        let start = layout.start(layer, head);
        let size = PAGE * layout.width;
        let halves = &as_halves(&self.pages[number])[start..start + 2 * size];
        let (keys, values) = halves.split_at(size);
        Page { keys, values }
    }
}

//! Keys and values of one sequence, as halves in pages of 256 positions. A page is mapped from the system and given back
//! when it goes, so that private bytes really fall; untouched parts of it cost nothing.

use kernels::{Page, as_halves, as_halves_mut, write_halves};
use memmap2::MmapMut;

use crate::chat::PAGE;
use crate::error::Error;

/// The memory of one sequence.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pages: Vec<MmapMut>,
    length: usize,
}

/// How a page is laid out: layer, head, keys before values, position.
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
    }

    /// Forgets the positions from `keep` on.
    pub(super) fn truncate(&mut self, keep: usize) {
        self.length = self.length.min(keep);
        self.pages.truncate(self.length.div_ceil(PAGE));
    }

    /// Bytes that are filled, and so held.
    pub(super) fn held_bytes(&self, layout: &Layout) -> u64 {
        (self.length * layout.position_bytes()) as u64
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
            let start = layout.start(layer, head) + at * layout.width;
            for (values, start) in [(keys, start), (values, start + PAGE * layout.width)] {
                write_halves(values, &mut page[start..start + layout.width]);
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

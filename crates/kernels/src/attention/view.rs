//! The queries of one tile of rows and one key-value head: over one page, and over all pages put together.

use std::ops::Range;

use super::softmax::{Soft, exp, soften};
use super::{Attention, KEY_BLOCK, Page, Scratch, Stretch};
use crate::half::widen;
use crate::matmul::Level;

/// One tile's queries on their way.
pub(super) struct View<'a> {
    look: &'a Attention,
    mine: &'a mut Scratch,
    tile: Stretch,
    /// Queries of a row: all that share the keys, or some of them.
    group: usize,
}

impl<'a> View<'a> {
    /// Gathers the queries of the tile: those of these heads, which share their keys.
    pub(super) fn new(
        look: &'a Attention,
        mine: &'a mut Scratch,
        tile: Stretch,
        queries: &[f32],
        heads: Range<usize>,
    ) -> Self {
        let (group, row) = (heads.len(), look.heads * look.width);
        mine.queries.clear();
        for number in tile.row..tile.row + tile.rows {
            let of_row = &queries[number * row..][..row];
            mine.queries.extend_from_slice(&of_row[heads.start * look.width..heads.end * look.width]);
        }
        let count = tile.rows * group;
        mine.part.resize(count * look.width, 0.0);
        mine.scores.resize(count * look.page, 0.0);
        mine.part_soft.resize(count, Soft::NOTHING);
        Self { look, mine, tile, group }
    }

    /// The positions that a query sees.
    fn seen(&self, query: usize) -> Range<usize> {
        let row = if self.look.causal { query / self.group } else { 0 };
        let length = self.tile.position + row + 1;
        self.look.window.map_or(0, |window| length.saturating_sub(window))..length
    }

    /// The pages that any of the queries sees.
    pub(super) fn pages(&self) -> Range<usize> {
        if self.tile.rows == 0 {
            return 0..0;
        }
        let last = self.tile.rows * self.group - 1;
        self.seen(0).start / self.look.page..self.seen(last).end.div_ceil(self.look.page)
    }

    /// Looks at the `number`th page alone.
    pub(super) fn page(&mut self, page: Page<'_>, number: usize) {
        let (look, width, size) = (*self.look, self.look.width, self.look.page);
        let count = self.mine.part_soft.len();
        let start = number * size;
        let low = self.seen(0).start.saturating_sub(start) / KEY_BLOCK * KEY_BLOCK;
        let high = (self.seen(count - 1).end - start).min(size);
        assert!(
            page.keys.len() >= high.next_multiple_of(KEY_BLOCK) * width && page.values.len() >= high * width,
            "the page is too short"
        );
        for block in (low..high).step_by(KEY_BLOCK) {
            self.scores(&page.keys[block * width..][..KEY_BLOCK * width], block);
        }
        for query in 0..count {
            let seen = self.seen(query);
            let from = seen.start.saturating_sub(start).clamp(low, high);
            let to = seen.end.saturating_sub(start).clamp(from, high);
            let scores = &mut self.mine.scores[query * size..][..size];
            scores[low..from].fill(0.0);
            scores[to..high].fill(0.0);
            self.mine.part_soft[query] = match from < to {
                true => softened(look.level, &mut scores[from..to], look.scale),
                false => Soft::NOTHING,
            };
        }
        self.mine.part.fill(0.0);
        for block in (low..high).step_by(KEY_BLOCK) {
            let positions = block..(block + KEY_BLOCK).min(high);
            self.weigh(&page.values[block * width..positions.end * width], positions);
        }
    }

    /// The scores of all queries at a block of positions, the first of them at `at` in the page.
    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn scores(&mut self, keys: &[u16], at: usize) {
        let (width, stride) = (self.look.width, self.look.page);
        let Scratch { queries, scores, wide, .. } = &mut *self.mine;
        #[cfg(target_arch = "x86_64")]
        if self.look.level == Level::Avx512Vnni {
            // SAFETY: the level is sound; the keys are a whole block; each query has a row of `stride` scores.
            return unsafe { crate::avx512::scores(queries, width, keys, &mut scores[at..], stride) };
        }
        #[cfg(target_arch = "x86_64")]
        if self.look.level == Level::Avx2 {
            let keys = stored(keys, queries.len() / width, wide);
            // SAFETY: as above.
            return unsafe { crate::avx2::scores(queries, width, keys, &mut scores[at..], stride) };
        }
        widen(self.look.level, keys, wide);
        let rows = queries.chunks_exact(width).zip(scores.chunks_exact_mut(stride));
        for (query, scores) in rows {
            let Some(scores) = scores[at..].first_chunk_mut::<KEY_BLOCK>() else { continue };
            plain_scores(query, wide, scores);
        }
    }

    /// Adds the values at some positions of a page, each by its weight.
    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn weigh(&mut self, values: &[u16], positions: Range<usize>) {
        let (width, stride) = (self.look.width, self.look.page);
        let Scratch { scores, part, wide, .. } = &mut *self.mine;
        #[cfg(target_arch = "x86_64")]
        if self.look.level == Level::Avx512Vnni && width.is_multiple_of(16) {
            let weights = &scores[positions.start..];
            // SAFETY: the level is sound; each query has a row of `stride` weights; the values are there.
            return unsafe { crate::avx512::weigh(weights, stride, positions.len(), values, width, part) };
        }
        #[cfg(target_arch = "x86_64")]
        if self.look.level == Level::Avx2 && width.is_multiple_of(8) {
            let values = stored(values, part.len() / width, wide);
            let weights = &scores[positions.start..];
            // SAFETY: as above.
            return unsafe { crate::avx2::weigh(weights, stride, positions.len(), values, width, part) };
        }
        widen(self.look.level, values, wide);
        for (weights, out) in scores.chunks_exact(stride).zip(part.chunks_exact_mut(width)) {
            let weights = &weights[positions.clone()];
            plain_weigh(weights, wide, out);
        }
    }

    /// Nothing seen yet.
    pub(super) fn begin(&mut self) {
        let (count, size) = (self.mine.part_soft.len(), self.mine.part.len());
        self.mine.total.clear();
        self.mine.total.resize(size, 0.0);
        self.mine.total_soft.clear();
        self.mine.total_soft.resize(count, Soft::NOTHING);
    }

    /// Adds the page that was looked at last.
    pub(super) fn merge(&mut self) {
        let (width, scale) = (self.look.width, self.look.scale);
        let Scratch { part, total, part_soft, total_soft, .. } = &mut *self.mine;
        let rows = total.chunks_exact_mut(width).zip(part.chunks_exact(width));
        for ((total, part), (sum, more)) in rows.zip(total_soft.iter_mut().zip(part_soft)) {
            if more.sum == 0.0 {
                continue;
            }
            let highest = if more.highest > sum.highest { more.highest } else { sum.highest };
            let before = exp((sum.highest - highest) * scale);
            let now = exp((more.highest - highest) * scale);
            *sum = Soft { highest, sum: sum.sum * before + more.sum * now };
            for (total, part) in total.iter_mut().zip(part) {
                *total = *total * before + part * now;
            }
        }
    }

    /// Divides by the sums.
    pub(super) fn end(&mut self) {
        let width = self.look.width;
        for (total, soft) in self.mine.total.chunks_exact_mut(width).zip(&self.mine.total_soft) {
            let inverse = 1.0 / soft.sum;
            total.iter_mut().for_each(|total| *total *= inverse);
        }
    }

    /// Keeps the page that was looked at last, for another thread.
    pub(super) fn put_away(&self, slot: &mut [f32]) {
        let size = self.mine.part.len();
        slot[..size].copy_from_slice(&self.mine.part);
        for (to, soft) in slot[size..].chunks_exact_mut(2).zip(&self.mine.part_soft) {
            to.copy_from_slice(&[soft.highest, soft.sum]);
        }
    }

    /// What [`Self::put_away`] kept.
    pub(super) fn take_back(&mut self, slot: &[f32]) {
        let size = self.mine.part.len();
        self.mine.part.copy_from_slice(&slot[..size]);
        for (from, soft) in slot[size..].chunks_exact(2).zip(&mut self.mine.part_soft) {
            *soft = Soft { highest: from[0], sum: from[1] };
        }
    }
}

/// Keys or values for so many queries; `wide` is where many have theirs as floats.
#[cfg(target_arch = "x86_64")]
fn stored<'a>(halves: &'a [u16], queries: usize, wide: &'a mut Vec<f32>) -> crate::avx2::Stored<'a> {
    if queries < crate::avx2::MANY_QUERIES {
        return crate::avx2::Stored::Halves(halves);
    }
    widen(Level::Avx2, halves, wide);
    crate::avx2::Stored::Floats(wide)
}

#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn softened(level: Level, scores: &mut [f32], scale: f32) -> Soft {
    #[cfg(target_arch = "x86_64")]
    match level {
        // SAFETY: the level is sound.
        Level::Avx512Vnni => return unsafe { crate::avx512::soften(scores, scale) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { crate::avx2::soften(scores, scale) },
        _ => {}
    }
    let _ = level;
    soften::<false>(scores, scale)
}

/// The scores of one query at a block of widened keys.
#[inline(always)]
fn plain_scores(query: &[f32], keys: &[f32], scores: &mut [f32; KEY_BLOCK]) {
    *scores = [0.0; KEY_BLOCK];
    for (q, keys) in query.iter().zip(keys.chunks_exact(KEY_BLOCK)) {
        for (score, key) in scores.iter_mut().zip(keys) {
            *score += q * key;
        }
    }
}

/// Adds widened values, each position's by its weight.
#[inline(always)]
fn plain_weigh(weights: &[f32], values: &[f32], out: &mut [f32]) {
    for (weight, values) in weights.iter().zip(values.chunks_exact(out.len())) {
        for (out, value) in out.iter_mut().zip(values) {
            *out += weight * value;
        }
    }
}

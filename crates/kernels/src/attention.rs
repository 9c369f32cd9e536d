//! Attention of one position over the keys and values before it, in pages of halves. The heads that share a key read it
//! once.

use crate::half::from_half;
use crate::matmul::Level;

/// Keys and values of one key-value head in one page: position after position, `width` halves each.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Keys.
    pub keys: &'a [u16],
    /// Values.
    pub values: &'a [u16],
}

/// One position's view.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Which instructions compute.
    pub level: Level,
    /// Width of a head.
    pub width: usize,
    /// Positions that are seen, its own included.
    pub length: usize,
    /// Positions of a page.
    pub page: usize,
}

impl Attention {
    /// Computes the heads of one group: `queries` and `out` have `width` values a head. `scores` is scratch.
    pub fn run<'a>(
        &self,
        queries: &[f32],
        pages: impl Fn(usize) -> Page<'a>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let view = Self { level: self.level.sound(), ..*self };
        view.compute(queries, pages, scores, out);
    }

    fn compute<'a>(
        &self,
        queries: &[f32],
        pages: impl Fn(usize) -> Page<'a>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let heads = queries.len() / self.width;
        scores.clear();
        scores.resize(heads * self.length, 0.0);
        for from in (0..self.length).step_by(self.page) {
            let seen = (self.length - from).min(self.page);
            let keys = pages(from / self.page).keys;
            for (query, scores) in queries.chunks_exact(self.width).zip(scores.chunks_exact_mut(self.length))
            {
                self.scores(query, keys, &mut scores[from..from + seen]);
            }
        }
        for scores in scores.chunks_exact_mut(self.length) {
            self.softmax(scores);
        }
        out.fill(0.0);
        debug_assert_eq!(out.len(), heads * self.width);
        for from in (0..self.length).step_by(self.page) {
            let seen = (self.length - from).min(self.page);
            let values = pages(from / self.page).values;
            for (out, scores) in out.chunks_exact_mut(self.width).zip(scores.chunks_exact(self.length)) {
                self.weigh(&scores[from..from + seen], values, out);
            }
        }
    }

    fn wide(&self) -> bool {
        self.level == Level::Avx512Vnni && self.width.is_multiple_of(16)
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn scores(&self, query: &[f32], keys: &[u16], out: &mut [f32]) {
        assert!(keys.len() >= out.len() * self.width && query.len() == self.width, "the page is too short");
        #[cfg(target_arch = "x86_64")]
        if self.wide() {
            // SAFETY: `run` made the level sound; the lengths were checked.
            unsafe { crate::avx512::scores(query, keys, self.width, out) };
            return;
        }
        for (out, key) in out.iter_mut().zip(keys.chunks_exact(self.width)) {
            *out = query.iter().zip(key).map(|(q, k)| q * from_half(*k)).sum();
        }
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn softmax(&self, scores: &mut [f32]) {
        let scale = 1.0 / (self.width as f32).sqrt();
        #[cfg(target_arch = "x86_64")]
        if self.wide() {
            // SAFETY: `run` made the level sound.
            unsafe { crate::avx512::normalise(scores, scale) };
            return;
        }
        normalise(scores, scale);
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn weigh(&self, weights: &[f32], values: &[u16], out: &mut [f32]) {
        assert!(
            values.len() >= weights.len() * self.width && out.len() == self.width,
            "the page is too short"
        );
        #[cfg(target_arch = "x86_64")]
        if self.wide() {
            // SAFETY: `run` made the level sound; the lengths were checked.
            unsafe { crate::avx512::weigh(weights, values, self.width, out) };
            return;
        }
        for (weight, value) in weights.iter().zip(values.chunks_exact(self.width)) {
            for (out, v) in out.iter_mut().zip(value) {
                *out += weight * from_half(*v);
            }
        }
    }
}

/// Softmax of `scale` times the scores.
#[inline(always)]
pub(crate) fn normalise(scores: &mut [f32], scale: f32) {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    let mut lanes = [0f32; 16];
    for part in scores.chunks_mut(16) {
        for (score, lane) in part.iter_mut().zip(&mut lanes) {
            *score = exp((*score - highest) * scale);
            *lane += *score;
        }
    }
    let inverse = 1.0 / lanes.iter().sum::<f32>();
    for score in scores {
        *score *= inverse;
    }
}

/// e to the x, within four parts in ten million, in a form that the compiler makes vectors of. x = n ln 2 + r: 2^n goes
/// into the exponent, e^r is a polynomial. Source of the coefficients: Moshier's Cephes, `expf`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    (p * r * r + r + 1.0) * f32::from_bits((((n as i32) + 127) << 23).cast_unsigned())
}

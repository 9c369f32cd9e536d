//! Attention of one position over the keys and values before it, in pages of halves. The heads that share a key read it
//! together, page by page, with a softmax that is corrected when a later page has a higher score; so no scores are kept
//! but those of one page. Source: Milakov and Gimelshein, 2018.

use crate::half::from_half;
use crate::matmul::Level;

/// The most positions that a page may have.
pub const MOST_POSITIONS: usize = 256;
/// Heads that go over a page together.
const HEADS: usize = 16;

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
    /// The first position that is seen; those before lie outside the window.
    pub from: usize,
    /// Where the positions that are seen end; its own is the last.
    pub length: usize,
    /// Positions of a page, at most [`MOST_POSITIONS`].
    pub page: usize,
    /// What scores are multiplied with.
    pub scale: f32,
}

/// A head's softmax so far.
#[derive(Clone, Copy)]
struct Soft {
    highest: f32,
    sum: f32,
}

impl Attention {
    /// Computes the heads of one group: `queries` and `out` have `width` values a head.
    pub fn run<'a>(&self, queries: &[f32], pages: impl Fn(usize) -> Page<'a>, out: &mut [f32]) {
        let view = Self { level: self.level.sound(), ..*self };
        assert!(
            self.page <= MOST_POSITIONS && queries.len() == out.len(),
            "the page or the result has another size"
        );
        let heads = queries.chunks(HEADS * self.width).zip(out.chunks_mut(HEADS * self.width));
        for (queries, out) in heads {
            view.heads(queries, &pages, out);
        }
    }

    fn heads<'a>(&self, queries: &[f32], pages: &impl Fn(usize) -> Page<'a>, out: &mut [f32]) {
        let mut soft = [Soft { highest: f32::NEG_INFINITY, sum: 0.0 }; HEADS];
        let mut buffer = [0f32; MOST_POSITIONS];
        out.fill(0.0);
        for number in self.from / self.page..self.length.div_ceil(self.page) {
            let start = number * self.page;
            let first = self.from.saturating_sub(start);
            let scores = &mut buffer[..(self.length - start).min(self.page) - first];
            let page = pages(number);
            let (keys, values) = (&page.keys[first * self.width..], &page.values[first * self.width..]);
            let heads = queries.chunks_exact(self.width).zip(out.chunks_exact_mut(self.width));
            for ((query, out), soft) in heads.zip(&mut soft) {
                self.scores(query, keys, scores);
                let highest = highest(scores).max(soft.highest);
                if highest > soft.highest {
                    let correction = exp((soft.highest - highest) * self.scale);
                    soft.sum *= correction;
                    out.iter_mut().for_each(|out| *out *= correction);
                    soft.highest = highest;
                }
                soft.sum += self.exponents(scores, highest);
                self.weigh(scores, values, out);
            }
        }
        for (out, soft) in out.chunks_exact_mut(self.width).zip(&soft) {
            let inverse = 1.0 / soft.sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }

    fn wide(&self, lanes: usize) -> bool {
        self.width.is_multiple_of(lanes)
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn scores(&self, query: &[f32], keys: &[u16], out: &mut [f32]) {
        assert!(keys.len() >= out.len() * self.width && query.len() == self.width, "the page is too short");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `run` made the level sound; the lengths were checked.
        unsafe {
            match self.level {
                Level::Avx512Vnni if self.wide(16) => {
                    return crate::avx512::scores(query, keys, self.width, out);
                }
                Level::Avx512Vnni | Level::Avx2 if self.wide(8) => {
                    return crate::avx2::scores(query, keys, self.width, out);
                }
                _ => {}
            }
        }
        for (out, key) in out.iter_mut().zip(keys.chunks_exact(self.width)) {
            *out = query.iter().zip(key).map(|(q, k)| q * from_half(*k)).sum();
        }
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn exponents(&self, scores: &mut [f32], highest: f32) -> f32 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `run` made the level sound.
        unsafe {
            match self.level {
                Level::Avx512Vnni => return crate::avx512::exponents(scores, highest, self.scale),
                Level::Avx2 => return crate::avx2::exponents(scores, highest, self.scale),
                _ => {}
            }
        }
        exponents(scores, highest, self.scale)
    }

    #[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
    fn weigh(&self, weights: &[f32], values: &[u16], out: &mut [f32]) {
        assert!(
            values.len() >= weights.len() * self.width && out.len() == self.width,
            "the page is too short"
        );
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `run` made the level sound; the lengths were checked.
        unsafe {
            match self.level {
                Level::Avx512Vnni if self.wide(16) => {
                    return crate::avx512::weigh(weights, values, self.width, out);
                }
                Level::Avx512Vnni | Level::Avx2 if self.wide(8) => {
                    return crate::avx2::weigh(weights, values, self.width, out);
                }
                _ => {}
            }
        }
        for (weight, value) in weights.iter().zip(values.chunks_exact(self.width)) {
            for (out, v) in out.iter_mut().zip(value) {
                *out += weight * from_half(*v);
            }
        }
    }
}

fn highest(scores: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for part in scores.chunks(16) {
        for (lane, score) in lanes.iter_mut().zip(part) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    lanes.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// Makes of each score e to the (score - highest) * scale; gives their sum.
#[inline(always)]
pub(crate) fn exponents(scores: &mut [f32], highest: f32, scale: f32) -> f32 {
    let mut lanes = [0f32; 16];
    for part in scores.chunks_mut(16) {
        for (score, lane) in part.iter_mut().zip(&mut lanes) {
            *score = exp((*score - highest) * scale);
            *lane += *score;
        }
    }
    lanes.iter().sum()
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

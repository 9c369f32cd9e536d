//! The softmax of one query over one page, and the exponential that it is made of.

/// What a query has seen of the positions so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soft {
    /// The highest score.
    pub(crate) highest: f32,
    /// The sum of e to the (score - highest).
    pub(crate) sum: f32,
}

impl Soft {
    /// Nothing seen.
    pub(crate) const NOTHING: Self = Self { highest: f32::NEG_INFINITY, sum: 0.0 };
}

/// Makes weights of scores, e to the (score - highest) * scale; `FUSED` as in [`exp_by`].
#[inline(always)]
pub(crate) fn soften<const FUSED: bool>(scores: &mut [f32], scale: f32) -> Soft {
    let highest = highest(scores);
    let weigh = |part: &mut [f32; 16]| {
        for score in part {
            *score = exp_by::<FUSED>((*score - highest) * scale);
        }
    };
    let add = |lanes: &mut [f32; 16], part: &[f32; 16]| {
        for (lane, weight) in lanes.iter_mut().zip(part) {
            *lane += weight;
        }
    };
    let mut lanes = [0f32; 16];
    // Parts of a known length become vectors; a loop over parts that may be shorter does not.
    let (whole, rest) = scores.as_chunks_mut::<16>();
    for part in whole {
        weigh(part);
        add(&mut lanes, part);
    }
    if !rest.is_empty() {
        let mut part = [highest; 16];
        part[..rest.len()].copy_from_slice(rest);
        weigh(&mut part);
        part[rest.len()..].fill(0.0);
        add(&mut lanes, &part);
        rest.copy_from_slice(&part[..rest.len()]);
    }
    Soft { highest, sum: lanes.iter().sum() }
}

#[inline(always)]
fn highest(scores: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (whole, rest) = scores.as_chunks::<16>();
    for part in whole {
        for (lane, score) in lanes.iter_mut().zip(part) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    for (lane, score) in lanes.iter_mut().zip(rest) {
        *lane = if *score > *lane { *score } else { *lane };
    }
    lanes.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// e to the x, within four parts in ten million, in a form that the compiler makes vectors of.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_by::<false>(x)
}

/// [`exp`]. `FUSED`: products and sums in one instruction, for who has it: without, it is a call of a function each time.
/// x = n ln 2 + r: 2^n goes into the exponent, e^r is a polynomial. Source of the coefficients: Moshier's Cephes, `expf`.
#[inline(always)]
pub(crate) fn exp_by<const FUSED: bool>(x: f32) -> f32 {
    let sum = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the last bits.
    let whole = sum(x, std::f32::consts::LOG2_E, 12_582_912.0);
    let n = whole - 12_582_912.0;
    let r = sum(n, 2.121_944_4e-4, sum(n, -0.693_359_4, x));
    let p = sum(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = sum(p, r, 8.333_452e-3);
    let p = sum(p, r, 4.166_579_6e-2);
    let p = sum(p, r, 1.666_666_5e-1);
    let p = sum(p, r, 0.5);
    // One comes last: beside it, r would lose its last bits.
    (sum(p * r, r, r) + 1.0) * f32::from_bits(whole.to_bits().wrapping_sub(0x4b40_0000 - 127) << 23)
}

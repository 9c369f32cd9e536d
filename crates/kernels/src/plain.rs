//! Products without special instructions: what every machine can do, the frame in which NEON makes its products, and, with
//! nothing rounded, what all levels are measured against.

use crate::activations::{Activations, Layout};
use crate::blocks::{Block, Kind, dequantise};

/// One row of weights by `M` rows of activations.
pub(crate) fn dot<const M: usize>(kind: Kind, row: &[u8], x: &Activations, first: usize) -> [f32; M] {
    if x.rounded && kind.block().0 > 1 {
        integer(kind, row, x, first, |weights, q| {
            let mut sum = 0;
            for (w, q) in weights.iter().zip(q) {
                sum += i32::from(*w) * i32::from(*q);
            }
            sum
        })
    } else {
        exact(kind, row, x, first)
    }
}

/// Integer products of half a block at a time, made by `sixteen`.
#[inline(always)]
pub(crate) fn integer<const M: usize>(
    kind: Kind,
    row: &[u8],
    x: &Activations,
    first: usize,
    sixteen: impl Fn(&[i8; 16], &[i8; 16]) -> i32,
) -> [f32; M] {
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let mut sums = [0f32; M];
    for number in 0..x.k() / 32 {
        let block = Block::read(kind, row, number);
        let (low, high) = Layout::Plain.halves(number);
        for (m, sum) in sums.iter_mut().enumerate() {
            let q = &x.q[(first + m) * q_stride..][..q_stride];
            let (Some((q_low, _)), Some((q_high, _))) =
                (q[low..].split_first_chunk::<16>(), q[high..].split_first_chunk::<16>())
            else {
                continue;
            };
            let low = block.scales[0] * sixteen(&block.q[0], q_low) as f32;
            let high = block.scales[1] * sixteen(&block.q[1], q_high) as f32;
            let at = (first + m) * d_stride + number;
            *sum += x.d[at] * (low + high) + block.minimum * x.s[at];
        }
    }
    sums
}

/// Floats: each stretch of the row is made plain once.
#[inline(always)]
pub(crate) fn exact<const M: usize>(kind: Kind, row: &[u8], x: &Activations, first: usize) -> [f32; M] {
    const STRETCH: usize = 256;
    let k = x.k();
    let (values, bytes) = kind.block();
    let mut plain = [0f32; STRETCH];
    let mut lanes = [[0f32; 16]; M];
    for from in (0..k).step_by(STRETCH) {
        let length = STRETCH.min(k - from);
        dequantise(kind, &row[from / values * bytes..(from + length) / values * bytes], &mut plain[..length]);
        plain[length..].fill(0.0);
        for (m, lanes) in lanes.iter_mut().enumerate() {
            let x = &x.exact[(first + m) * k + from..][..length];
            for (w, x) in plain.chunks_exact(16).zip(x.chunks(16)) {
                for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                    *lane += w * x;
                }
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

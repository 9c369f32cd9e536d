//! The block formats and what they mean, one value after another. Every fast path is tested against these. Source: ggml's
//! `dequantize_row_*`.

use crate::half::{from_half, to_half};
use crate::pool::Pool;

/// A block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the field")]
pub enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Values and bytes of a block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a row of `k` values.
    pub const fn row_bytes(self, k: usize) -> usize {
        let (values, bytes) = self.block();
        k / values * bytes
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    from_half(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Writes the values of a row; `row` holds whole blocks, as many as `out` needs.
pub fn dequantise(kind: Kind, row: &[u8], out: &mut [f32]) {
    let (values, bytes) = kind.block();
    assert_eq!(row.len() / bytes * values, out.len(), "the row has another length");
    match kind {
        Kind::F32 => {
            for (value, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Kind::F16 => {
            for (value, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                *value = from_half(u16::from_le_bytes(*bytes));
            }
        }
        Kind::Bf16 => {
            for (value, bytes) in out.iter_mut().zip(row.as_chunks().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => dequantise_blocks(kind, row, out),
    }
}

fn dequantise_blocks(kind: Kind, row: &[u8], out: &mut [f32]) {
    let (values, bytes) = kind.block();
    for (block, out) in row.chunks_exact(bytes).zip(out.chunks_exact_mut(values)) {
        match kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => {}
            Kind::Q8_0 => {
                let d = half_at(block, 0);
                for (value, byte) in out.iter_mut().zip(&block[2..]) {
                    *value = d * f32::from(byte.cast_signed());
                }
            }
            Kind::Q4_0 => nibbles(&block[2..], out, half_at(block, 0), -8.0, 0.0, None),
            Kind::Q4_1 => nibbles(&block[4..], out, half_at(block, 0), 0.0, half_at(block, 2), None),
            Kind::Q5_0 => nibbles(&block[6..], out, half_at(block, 0), -16.0, 0.0, Some(&block[2..6])),
            Kind::Q5_1 => {
                nibbles(&block[8..], out, half_at(block, 0), 0.0, half_at(block, 2), Some(&block[4..8]));
            }
            Kind::Q4K | Kind::Q5K => super_block(kind, block, out),
            Kind::Q6K => six_bits(block, out),
        }
    }
}

/// Values of any format, in whole blocks of 32, as `Q8_0`: a block's largest becomes 127.
pub fn quantise(pool: &mut Pool, kind: Kind, row: &[u8]) -> Vec<u8> {
    /// Values that are looked at together.
    const PIECE: usize = 1024;
    let (of_block, block_bytes) = kind.block();
    let count = row.len() / block_bytes * of_block;
    assert!(count.is_multiple_of(32), "the values are not whole blocks");
    let mut out = vec![0; Kind::Q8_0.row_bytes(count)];
    pool.each_mut(&mut out, Kind::Q8_0.row_bytes(PIECE), 16, &|number, out| {
        let mut values = [0f32; PIECE];
        let values = &mut values[..out.len() / 34 * 32];
        dequantise(kind, &row[number * kind.row_bytes(PIECE)..][..kind.row_bytes(values.len())], values);
        for (values, out) in values.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<34>().0) {
            quantise_block(values, out);
        }
    });
    out
}

fn quantise_block(values: &[f32; 32], out: &mut [u8; 34]) {
    let highest = values.iter().fold(0f32, |a, b| if b.abs() > a { b.abs() } else { a });
    let d = to_half(highest / 127.0);
    let scale = from_half(d);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    out[..2].copy_from_slice(&d.to_le_bytes());
    for (x, q) in values.iter().zip(&mut out[2..]) {
        // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the last bits.
        *q = ((x * inverse).clamp(-127.0, 127.0) + 12_582_912.0).to_bits() as u8;
    }
}

/// Sixteen bytes of nibbles: first the low ones, then the high ones; a fifth bit each if there is one.
fn nibbles(q: &[u8], out: &mut [f32], d: f32, offset: f32, m: f32, fifth: Option<&[u8]>) {
    let high = fifth.map_or(0, |bits| u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]));
    for (at, value) in out.iter_mut().enumerate() {
        let nibble = if at < 16 { q[at] & 15 } else { q[at - 16] >> 4 };
        let bit = ((high >> at) & 1) as u8;
        *value = d * (f32::from(nibble | bit << 4) + offset) + m;
    }
}

/// Scale and minimum of the `j`th of eight sub-blocks, six bits each in twelve bytes.
fn scale_and_min(j: usize, packed: &[u8]) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// All eight scales and minima of a super-block.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn scales_and_minima(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let word = |at: usize| u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]]);
    let [a, b, c] = [word(0), word(4), word(8)];
    let join = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    (
        join(a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4),
        join(b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4),
    )
}

fn super_block(kind: Kind, block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let scales = &block[4..16];
    let (fifth, q) =
        if kind == Kind::Q5K { block[16..].split_at(32) } else { (&block[16..16], &block[16..]) };
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(j, scales);
        for (at, value) in out.iter_mut().enumerate() {
            let byte = q[j / 2 * 32 + at];
            let nibble = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
            let bit = fifth.get(at).map_or(0, |bits| (bits >> j) & 1);
            *value = d * scale * f32::from(nibble | bit << 4) - dmin * min;
        }
    }
}

fn six_bits(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let low = &block[half * 64..];
        let high = &block[128 + half * 32..];
        let scales = &block[192 + half * 8..];
        for (at, value) in out.iter_mut().enumerate() {
            let (quarter, l) = (at / 32, at % 32);
            let byte = low[l + 32 * (quarter % 2)];
            let nibble = if quarter < 2 { byte & 15 } else { byte >> 4 };
            let bits = (high[l] >> (2 * quarter)) & 3;
            let q = i16::from(nibble | bits << 4) - 32;
            let scale = scales[l / 16 + 2 * quarter].cast_signed();
            *value = d * f32::from(scale) * f32::from(q);
        }
    }
}

/// Thirty-two values as integers: `scale * q + minimum`, with a scale for each half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) q: [[i8; 16]; 2],
    pub(crate) scales: [f32; 2],
    pub(crate) minimum: f32,
}

impl Block {
    /// The `number`th 32 values of a row of a quantised format.
    #[inline(always)]
    pub(crate) fn read(kind: Kind, row: &[u8], number: usize) -> Self {
        let (values, bytes) = kind.block();
        let block = &row[number * 32 / values * bytes..][..bytes];
        let mut q = [[0i8; 16]; 2];
        let (d, mut minimum) = (half_at(block, 0), 0.0);
        match kind {
            Kind::Q8_0 => {
                for (to, from) in q.iter_mut().flatten().zip(&block[2..]) {
                    *to = from.cast_signed();
                }
            }
            Kind::Q4_0 => nibbles_of(&block[2..], 8, 0, &mut q),
            Kind::Q5_0 => nibbles_of(&block[6..], 16, bits_at(block, 2), &mut q),
            Kind::Q4_1 | Kind::Q5_1 => {
                minimum = half_at(block, 2);
                let fifth = if kind == Kind::Q5_1 { bits_at(block, 4) } else { 0 };
                nibbles_of(&block[bytes - 16..], 0, fifth, &mut q);
            }
            Kind::Q4K | Kind::Q5K => return Self::of_super_block(kind, block, number % 8),
            Kind::Q6K => return Self::of_six_bits(block, number % 8),
            Kind::F32 | Kind::F16 | Kind::Bf16 => {}
        }
        Self { q, scales: [d; 2], minimum }
    }

    #[inline(always)]
    fn of_super_block(kind: Kind, block: &[u8], j: usize) -> Self {
        let (scale, min) = scale_and_min(j, &block[4..16]);
        let start = if kind == Kind::Q5K { 48 } else { 16 };
        let bytes = &block[start + j / 2 * 32..][..32];
        let mut q = [[0i8; 16]; 2];
        for (at, to) in q.iter_mut().flatten().enumerate() {
            let nibble = bytes[at] >> (j % 2 * 4) & 15;
            let bit = if kind == Kind::Q5K { block[16 + at] >> j & 1 } else { 0 };
            *to = (nibble | bit << 4).cast_signed();
        }
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        Self { q, scales: [d * scale; 2], minimum: -dmin * min }
    }

    #[inline(always)]
    fn of_six_bits(block: &[u8], j: usize) -> Self {
        let (half, quarter) = (j / 4, j % 4);
        let low = &block[half * 64 + quarter % 2 * 32..][..32];
        let high = &block[128 + half * 32..][..32];
        let mut q = [[0i8; 16]; 2];
        for (at, to) in q.iter_mut().flatten().enumerate() {
            let nibble = low[at] >> (quarter / 2 * 4) & 15;
            let bits = high[at] >> (2 * quarter) & 3;
            *to = (nibble | bits << 4).cast_signed() - 32;
        }
        let d = half_at(block, 208);
        let scale = |n: usize| d * f32::from(block[192 + 2 * j + n].cast_signed());
        Self { q, scales: [scale(0), scale(1)], minimum: 0.0 }
    }
}

fn bits_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Nibbles with a fifth bit from `fifth`, moved down by `offset`.
#[inline(always)]
fn nibbles_of(bytes: &[u8], offset: i8, fifth: u32, q: &mut [[i8; 16]; 2]) {
    for at in 0..16 {
        let bit = |n: usize| ((fifth >> n & 1) as u8) << 4;
        q[0][at] = (bytes[at] & 15 | bit(at)).cast_signed() - offset;
        q[1][at] = (bytes[at] >> 4 | bit(at + 16)).cast_signed() - offset;
    }
}

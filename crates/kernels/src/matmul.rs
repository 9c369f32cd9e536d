//! Matrices of blocks by rows of activations. One row of weights is unpacked once for up to eight rows of activations.

use crate::activations::{Activations, halves};
use crate::blocks::{Kind, dequantise};
use crate::half::from_half;
use crate::pool::Pool;

/// Rows of weights that a thread takes at a time.
const TILE: usize = 16;
/// Rows of activations that one unpacked row of weights serves.
const ROWS: usize = 8;

/// Which instructions compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// Plain code, compiled for AVX2 and FMA.
    Avx2,
    /// Plain code.
    Portable,
    /// Plain floats with nothing rounded: what the others are measured against.
    Reference,
}

/// The best that this machine has.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if crate::avx512::available() {
            return Level::Avx512Vnni;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

impl Level {
    /// This one if the machine has it, else what it has: a wish alone must never run what is not there.
    pub(crate) fn sound(self) -> Self {
        let best = level();
        match (self, best) {
            (Self::Avx512Vnni, Self::Avx512Vnni) | (Self::Portable | Self::Reference, _) => self,
            (Self::Avx2, Self::Avx512Vnni | Self::Avx2) => self,
            _ => best,
        }
    }

    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
            Self::Reference => "reference",
        }
    }
}

/// A matrix that lies in somebody else's memory: `n` rows of `k` values.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    kind: Kind,
    bytes: &'a [u8],
    k: usize,
    n: usize,
}

impl<'a> Matrix<'a> {
    /// `None` if the bytes are not `n` rows of `k` values.
    pub fn new(kind: Kind, bytes: &'a [u8], k: usize, n: usize) -> Option<Self> {
        let fits = k > 0
            && k.is_multiple_of(kind.block().0)
            && kind.row_bytes(k).checked_mul(n) == Some(bytes.len());
        fits.then_some(Self { kind, bytes, k, n })
    }

    /// Rows.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The bytes of a row.
    pub fn row(&self, number: usize) -> &'a [u8] {
        let size = self.kind.row_bytes(self.k);
        &self.bytes[number * size..(number + 1) * size]
    }

    /// The values of a row.
    pub fn dequantise_row(&self, number: usize, out: &mut [f32]) {
        dequantise(self.kind, self.row(number), out);
    }
}

/// A matrix and where its products go: one row of `n` for each row of activations.
#[derive(Debug)]
pub struct Job<'a> {
    /// What multiplies.
    pub matrix: Matrix<'a>,
    /// Where the products go.
    pub out: &'a mut [f32],
}

/// A place that several threads write to, each its own columns.
struct Out(*mut f32);

#[expect(unsafe_code, reason = "threads write disjoint columns of one slice")]
// SAFETY: `matmul` gives each tile of rows to one thread, and a tile's columns belong to it alone.
unsafe impl Sync for Out {}

/// Multiplies every row of `x` with every row of each matrix. All matrices have rows as long as those of `x`.
pub fn matmul(pool: &mut Pool, level: Level, x: &Activations, jobs: &mut [Job<'_>]) {
    let level = level.sound();
    let rows = x.rows();
    let mut tiles = Vec::new();
    let mut outs = Vec::new();
    for (number, job) in jobs.iter_mut().enumerate() {
        assert_eq!(job.matrix.k, x.k(), "the rows differ in length");
        assert_eq!(job.out.len(), rows * job.matrix.n, "the result has another size");
        outs.push((job.matrix, Out(job.out.as_mut_ptr())));
        tiles.extend((0..job.matrix.n).step_by(TILE).map(|from| (number, from)));
    }
    let outs = &outs[..];
    let tiles = &tiles[..];
    // A barrier costs a microsecond, a tile less: a few tiles at a time.
    let share = (tiles.len() / (pool.threads() * 8)).clamp(1, 16);
    pool.run(tiles.len().div_ceil(share), &|item| {
        for (number, from) in &tiles[item * share..((item + 1) * share).min(tiles.len())] {
            let (matrix, out) = &outs[*number];
            tile(level, matrix, x, *from..(*from + TILE).min(matrix.n), out);
        }
    });
}

fn tile(level: Level, matrix: &Matrix<'_>, x: &Activations, columns: std::ops::Range<usize>, out: &Out) {
    let mut first = 0;
    let mut scratch = Vec::new();
    while first < x.rows() {
        let left = x.rows() - first;
        let take = [ROWS, 4, 2].into_iter().find(|n| *n <= left).unwrap_or(1);
        for column in columns.clone() {
            match take {
                ROWS => put(
                    out,
                    matrix.n,
                    column,
                    first,
                    &dot::<ROWS>(level, matrix, column, x, first, &mut scratch),
                ),
                4 => put(
                    out,
                    matrix.n,
                    column,
                    first,
                    &dot::<4>(level, matrix, column, x, first, &mut scratch),
                ),
                2 => put(
                    out,
                    matrix.n,
                    column,
                    first,
                    &dot::<2>(level, matrix, column, x, first, &mut scratch),
                ),
                _ => put(
                    out,
                    matrix.n,
                    column,
                    first,
                    &dot::<1>(level, matrix, column, x, first, &mut scratch),
                ),
            }
        }
        first += take;
    }
}

#[expect(unsafe_code, reason = "threads write disjoint columns of one slice")]
fn put(out: &Out, n: usize, column: usize, first: usize, values: &[f32]) {
    for (m, value) in values.iter().enumerate() {
        // SAFETY: `column < n` and `first + m` is a row, so the place lies in the slice whose size `matmul` checked; no
        // other thread has this column.
        unsafe { *out.0.add((first + m) * n + column) = *value };
    }
}

#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn dot<const M: usize>(
    level: Level,
    matrix: &Matrix<'_>,
    column: usize,
    x: &Activations,
    first: usize,
    scratch: &mut Vec<f32>,
) -> [f32; M] {
    let row = matrix.row(column);
    let integers = x.rounded && matches!(matrix.kind, Kind::Q4_1 | Kind::Q8_0);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `level` says that the machine has the instructions (`matmul` made sure of that with `sound`); the
    // row is whole blocks of `k`, and the caller keeps `first + M` within the rows.
    unsafe {
        match (level, integers, matrix.kind) {
            (Level::Avx512Vnni, true, Kind::Q8_0) => return crate::avx512::dot::<M, true>(row, x, first),
            (Level::Avx512Vnni, true, _) => return crate::avx512::dot::<M, false>(row, x, first),
            (Level::Avx512Vnni | Level::Avx2, false, _) => {
                return exact_avx2(matrix.kind, row, x, first, scratch);
            }
            (Level::Avx2, true, _) => return integer_avx2(matrix.kind, row, x, first),
            (Level::Portable | Level::Reference, ..) => {}
        }
    }
    if integers && level != Level::Reference {
        integer(matrix.kind, row, x, first)
    } else {
        exact(matrix.kind, row, x, first, scratch)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn integer_avx2<const M: usize>(kind: Kind, row: &[u8], x: &Activations, first: usize) -> [f32; M] {
    integer(kind, row, x, first)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exact_avx2<const M: usize>(
    kind: Kind,
    row: &[u8],
    x: &Activations,
    first: usize,
    scratch: &mut Vec<f32>,
) -> [f32; M] {
    exact(kind, row, x, first, scratch)
}

/// Integer products of one block at a time.
#[inline(always)]
fn integer<const M: usize>(kind: Kind, row: &[u8], x: &Activations, first: usize) -> [f32; M] {
    let (q_stride, d_stride) = (x.q_stride(), x.d_stride());
    let mut sums = [0f32; M];
    for (number, block) in row.chunks_exact(kind.block().1).enumerate() {
        let d = from_half(u16::from_le_bytes([block[0], block[1]]));
        let mut weights = [0i16; 32];
        let minimum = if kind == Kind::Q4_1 {
            for (at, byte) in block[4..20].iter().enumerate() {
                weights[at] = i16::from(byte & 15);
                weights[at + 16] = i16::from(byte >> 4);
            }
            from_half(u16::from_le_bytes([block[2], block[3]]))
        } else {
            for (weight, byte) in weights.iter_mut().zip(&block[2..34]) {
                *weight = i16::from(byte.cast_signed());
            }
            0.0
        };
        let (low, high) = halves(number);
        for (m, sum) in sums.iter_mut().enumerate() {
            let q = &x.q[(first + m) * q_stride..][..q_stride];
            let (low, high): (&[i8], &[i8]) = (&q[low..low + 16], &q[high..high + 16]);
            let mut product = 0i32;
            for at in 0..16 {
                product += i32::from(weights[at]) * i32::from(low[at]);
                product += i32::from(weights[at + 16]) * i32::from(high[at]);
            }
            let at = (first + m) * d_stride + number;
            *sum += d * x.d[at] * product as f32 + minimum * x.s[at];
        }
    }
    sums
}

/// Floats: the row is made plain once.
#[inline(always)]
fn exact<const M: usize>(
    kind: Kind,
    row: &[u8],
    x: &Activations,
    first: usize,
    scratch: &mut Vec<f32>,
) -> [f32; M] {
    let k = x.k();
    scratch.resize(k, 0.0);
    dequantise(kind, row, scratch);
    let mut out = [0f32; M];
    for (m, out) in out.iter_mut().enumerate() {
        let x = &x.exact[(first + m) * k..][..k];
        let mut lanes = [0f32; 16];
        let whole = k / 16 * 16;
        for (w, x) in scratch[..whole].chunks_exact(16).zip(x[..whole].chunks_exact(16)) {
            for at in 0..16 {
                lanes[at] += w[at] * x[at];
            }
        }
        let rest: f32 = scratch[whole..].iter().zip(&x[whole..]).map(|(w, x)| w * x).sum();
        *out = lanes.iter().sum::<f32>() + rest;
    }
    out
}

//! Matrices of blocks by rows of activations. Few rows of activations meet one row of weights at a time, many meet a
//! panel of unpacked ones.

use std::ops::Range;

use crate::activations::{Activations, Layout};
use crate::ahead::Places;
use crate::blocks::{Kind, dequantise};
use crate::columns::{beside, tiles};
use crate::plain;
use crate::pool::Pool;

/// Matrices of one call.
const MOST_JOBS: usize = 4;

/// Which instructions compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// AVX2 and FMA.
    Avx2,
    /// AArch64's vectors.
    Neon,
    /// Plain code.
    #[default]
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
        if crate::avx2::available() {
            return Level::Avx2;
        }
    }
    if cfg!(target_arch = "aarch64") { Level::Neon } else { Level::Portable }
}

/// Whether long prompts go through tiles (AMX), which multiply sixteen rows by sixteen columns at once. The first to ask
/// tries them, and on Linux asks the system for them: a process that shuts itself in does so before.
pub fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::avx512::has_tiles();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Level {
    /// This one if the machine has it, else what it has: a wish alone must never run what is not there.
    pub(crate) fn sound(self) -> Self {
        let best = level();
        match (self, best) {
            (Self::Portable | Self::Reference, _) | (Self::Avx2, Self::Avx512Vnni) => self,
            _ => best,
        }
    }

    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
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

    /// Values of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The format.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// All rows.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
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

    /// Whether its products are made of activations that are not rounded.
    pub fn reads_floats(&self) -> bool {
        self.kind.block().0 == 1
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
#[derive(Clone, Copy)]
pub(crate) struct Out(*mut f32);

#[expect(unsafe_code, reason = "threads write disjoint columns of one slice")]
// SAFETY: `matmul` gives each tile of rows to one thread, and a tile's columns belong to it alone.
unsafe impl Sync for Out {}

#[expect(unsafe_code, reason = "threads write disjoint columns of one slice")]
impl Out {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self(out.as_mut_ptr())
    }

    /// A place in the result.
    ///
    /// # Safety
    /// It must lie in the slice whose size `matmul` checked.
    #[inline]
    pub(crate) unsafe fn at(&self, at: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at) }
    }

    /// Writes one value.
    ///
    /// # Safety
    /// As for [`Self::at`]; the column must be the caller's alone.
    #[inline]
    pub(crate) unsafe fn put(&self, at: usize, value: f32) {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at).write(value) };
    }
}

/// Multiplies every row of `x` with every row of each matrix, of which there are at most four, with the instructions that
/// `x` was made for. All matrices have rows as long as those of `x`. Allocates nothing once its threads have made panels of
/// the largest size.
pub fn matmul(pool: &mut Pool, x: &Activations, jobs: &mut [Job<'_>]) {
    assert!(jobs.len() <= MOST_JOBS, "too many matrices in one call");
    let mut outs: [Option<(Matrix<'_>, Out)>; MOST_JOBS] = [None; MOST_JOBS];
    let shares = Shares::of(pool, jobs.iter().map(|job| &job.matrix));
    for (place, job) in outs.iter_mut().zip(jobs) {
        assert_eq!(job.matrix.k, x.k(), "the rows differ in length");
        assert_eq!(job.out.len(), x.rows() * job.matrix.n, "the result has another size");
        assert!(
            !(job.matrix.reads_floats() && x.exact.is_empty() && x.rows() > 0),
            "the activations were not kept as they are"
        );
        *place = Some((job.matrix, Out::new(job.out)));
    }
    pool.run(shares.items(), &|item| {
        let mut left = shares.tiles(item..item + 1);
        while let Some(((matrix, out), tile)) =
            locate(outs.iter().flatten(), |(matrix, _)| matrix, left.start)
            && !left.is_empty()
        {
            let here = left.len().min(tiles(matrix.n) - tile);
            multiply(matrix, x, tile..tile + here, out);
            left.start += here;
        }
    });
}

/// Says which matrices meet `x`, or as many rows as it has, in the call after the next one: threads ask for what they will read
/// first while they wait. With AVX2 alone; for others it was not measured.
pub fn expect(pool: &mut Pool, x: &Activations, matrices: &[Matrix<'_>]) {
    if x.level() != Level::Avx2 {
        return;
    }
    let shares = Shares::of(pool, matrices.iter());
    for thread in 0..pool.threads() {
        let own = shares.tiles(pool.own(shares.items(), thread));
        if let Some((matrix, tile)) = locate(matrices.iter(), |matrix| matrix, own.start) {
            let apart = x.rows() == 1 && !matrix.reads_floats();
            pool.expect(thread, Places::of(matrix, tile, own.len().min(tiles(matrix.n) - tile), apart));
        }
    }
}

/// How the tiles of all matrices of a call are shared out.
struct Shares {
    all: usize,
    /// Tiles of an item.
    each: usize,
}

impl Shares {
    fn of<'a>(pool: &Pool, matrices: impl Iterator<Item = &'a Matrix<'a>>) -> Self {
        let all = matrices.map(|matrix| tiles(matrix.n)).sum();
        // A barrier costs a microsecond, a tile less: a few tiles at a time.
        Self { all, each: (all / (pool.threads() * 8)).clamp(1, 16) }
    }

    fn items(&self) -> usize {
        self.all.div_ceil(self.each)
    }

    fn tiles(&self, items: Range<usize>) -> Range<usize> {
        (items.start * self.each).min(self.all)..(items.end * self.each).min(self.all)
    }
}

/// Whose a tile of a call is, and the number that it has there.
#[inline]
fn locate<'a, T>(
    mut all: impl Iterator<Item = &'a T>,
    matrix: impl Fn(&T) -> &Matrix<'_>,
    mut tile: usize,
) -> Option<(&'a T, usize)> {
    all.find_map(|one| {
        let here = tiles(matrix(one).n);
        let found = (tile < here).then_some((one, tile));
        tile = tile.saturating_sub(here);
        found
    })
}

fn multiply(matrix: &Matrix<'_>, x: &Activations, tiles: Range<usize>, out: &Out) {
    let level = x.level();
    if x.rows() == 1 {
        return rows::<1>(level, matrix, tiles, x, 0, out);
    }
    for tile in tiles {
        multiply_many(matrix, x, tile, out);
    }
}

#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn multiply_many(matrix: &Matrix<'_>, x: &Activations, tile: usize, out: &Out) {
    let level = x.level();
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512Vnni && x.layout() != Layout::Quads && !matrix.reads_floats() {
        // SAFETY: `x` carries a level that this machine has; it is rounded, because quantised rows are whole blocks; the
        // columns of this tile are this thread's alone.
        let columns = beside(matrix.n, tile..tile + 1);
        return unsafe { crate::avx512::panel(matrix, columns.start, columns.end, x, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx2 && matches!(x.layout(), Layout::Together(_)) && !matrix.reads_floats() {
        // SAFETY: as above.
        return unsafe { crate::avx2::panel(matrix, beside(matrix.n, tile..tile + 1), x, out) };
    }
    let mut first = 0;
    while first < x.rows() {
        let take = match x.rows() - first {
            4.. => {
                rows::<4>(level, matrix, tile..tile + 1, x, first, out);
                4
            }
            2.. => {
                rows::<2>(level, matrix, tile..tile + 1, x, first, out);
                2
            }
            _ => {
                rows::<1>(level, matrix, tile..tile + 1, x, first, out);
                1
            }
        };
        first += take;
    }
}

/// The columns of tiles by `M` rows of activations.
#[expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]
fn rows<const M: usize>(
    level: Level,
    matrix: &Matrix<'_>,
    tiles: Range<usize>,
    x: &Activations,
    first: usize,
    out: &Out,
) {
    // SAFETY, all three: `x` carries a level that this machine has, `matmul` checked the sizes; the columns are this thread's alone.
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: see above.
        Level::Avx512Vnni => unsafe {
            crate::avx512::rows::<M>(matrix, beside(matrix.n, tiles), x, first, out);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: see above.
        Level::Avx2 => unsafe { crate::avx2::rows::<M>(matrix, tiles, x, first, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: see above.
        Level::Neon => unsafe { crate::neon::rows::<M>(matrix, beside(matrix.n, tiles), x, first, out) },
        _ => {
            for column in beside(matrix.n, tiles) {
                let made = plain::dot::<M>(matrix.kind, matrix.row(column), x, first);
                for (m, value) in made.into_iter().enumerate() {
                    // SAFETY: see above.
                    unsafe { out.put((first + m) * matrix.n + column, value) };
                }
            }
        }
    }
}

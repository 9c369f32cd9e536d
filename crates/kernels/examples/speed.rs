//! How fast the kernels read weights: `speed [LEVEL] [THREADS] [K]` prints, for each format, the time of one pass over 64 MB of
//! rows of K (576 or 768) values with one row of activations, from memory and from a cache, and the time a row with 4 and
//! with 256.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for developers"
)]

use std::time::Instant;

use kernels::{Activations, Job, Kind, Level, Matrix, Pool, matmul};

const BYTES: usize = 64 << 20;

fn main() {
    let level = match std::env::args().nth(1).as_deref() {
        Some("avx2") => Level::Avx2,
        Some("portable") => Level::Portable,
        _ => kernels::level(),
    };
    let threads = std::env::args().nth(2).map_or(1, |text| text.parse().unwrap());
    let asked: Option<usize> = std::env::args().nth(3).map(|text| text.parse().unwrap());
    println!("{}, tiles {}, threads {threads}; milliseconds", level.name(), kernels::has_tiles());
    let mut pool = Pool::new(threads);
    let titles = ["64 MB by one row", "the same from a cache", "a row of four", "a row of 256"];
    println!("{:6} {:>22} {:>22} {:>22} {:>22}", "", titles[0], titles[1], titles[2], titles[3]);
    for kind in Kind::ALL {
        let k = asked.unwrap_or(if kind.block().0 == 256 { 768 } else { 576 });
        if !k.is_multiple_of(kind.block().0) {
            continue;
        }
        let n = BYTES / kind.row_bytes(k);
        let bytes = vec![0x11u8; kind.row_bytes(k) * n];
        let one = best(&mut pool, 15, level, kind, &bytes, (k, n), 1);
        // A slice is enough where every weight is used 256 times.
        let part = n / 256;
        let many = best(&mut pool, 40, level, kind, &bytes[..kind.row_bytes(k) * part], (k, part), 256);
        // What stays in the nearer caches shows the arithmetic alone.
        let near = &bytes[..kind.row_bytes(k) * part];
        let [near, four] =
            [1, 4].map(|rows| best(&mut pool, 400, level, kind, near, (k, part), rows) * 256.0 / rows as f64);
        println!("{:6} {one:>22.2} {near:>22.2} {four:>22.2} {many:>22.3}", format!("{kind:?}"));
    }
}

fn best(
    pool: &mut Pool,
    rounds: u32,
    level: Level,
    kind: Kind,
    bytes: &[u8],
    (k, n): (usize, usize),
    rows: usize,
) -> f64 {
    let x: Vec<f32> = (0..rows * k).map(|at| (at % 13) as f32 - 6.0).collect();
    let matrix = Matrix::new(kind, bytes, k, n).unwrap();
    let mut activations = Activations::default();
    activations.fill(pool, level, &x, k, matrix.reads_floats());
    let mut out = vec![0.0; rows * n];
    let once = |_| {
        let start = Instant::now();
        matmul(pool, &activations, &mut [Job { matrix, out: &mut out }]);
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..rounds).map(once).fold(f64::INFINITY, f64::min)
}

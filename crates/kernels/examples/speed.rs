//! How fast the kernels read weights: `speed [LEVEL]` prints, for each format, the time of one pass over 64 MB of rows of
//! 576 (or 768) values with one row of activations, and the time a row with 256.
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
    println!("{}, one thread; milliseconds", level.name());
    println!("{:6} {:>22} {:>22}", "", "64 MB by one row", "a row, of 256 (per 64 MB)");
    for kind in Kind::ALL {
        let k = if kind.block().0 == 256 { 768 } else { 576 };
        let n = BYTES / kind.row_bytes(k);
        let bytes = vec![0x11u8; kind.row_bytes(k) * n];
        let one = best(7, level, kind, &bytes, k, n, 1);
        // A slice is enough where every weight is used 256 times.
        let part = n / 16;
        let many = best(3, level, kind, &bytes[..kind.row_bytes(k) * part], k, part, 256);
        println!("{:6} {one:>22.2} {:>22.3}", format!("{kind:?}"), many / 256.0 * 16.0);
    }
}

fn best(rounds: u32, level: Level, kind: Kind, bytes: &[u8], k: usize, n: usize, rows: usize) -> f64 {
    let mut pool = Pool::new(1);
    let x: Vec<f32> = (0..rows * k).map(|at| (at % 13) as f32 - 6.0).collect();
    let matrix = Matrix::new(kind, bytes, k, n).unwrap();
    let mut activations = Activations::default();
    activations.fill(&mut pool, level, &x, k, matrix.reads_floats());
    let mut out = vec![0.0; rows * n];
    let once = |_| {
        let start = Instant::now();
        matmul(&mut pool, level, &activations, &mut [Job { matrix, out: &mut out }]);
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..rounds).map(once).fold(f64::INFINITY, f64::min)
}

//! Every path against plain arithmetic on the values that the blocks stand for.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

/// What this machine can run.
fn levels() -> Vec<Level> {
    match level() {
        Level::Avx512Vnni => vec![Level::Avx512Vnni, Level::Avx2, Level::Portable, Level::Reference],
        Level::Avx2 => vec![Level::Avx2, Level::Portable, Level::Reference],
        _ => vec![Level::Portable, Level::Reference],
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Rows of random blocks whose scales are small, as a model's are.
fn matrix(kind: Kind, k: usize, n: usize, random: &mut Random) -> Vec<u8> {
    let (_, size) = kind.block();
    let mut bytes: Vec<u8> = (0..kind.row_bytes(k) * n).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(size) {
        let halves: &[usize] = match kind {
            Kind::F32 => {
                block.copy_from_slice(&random.float().to_le_bytes());
                &[]
            }
            Kind::Bf16 => {
                block.copy_from_slice(&random.float().to_bits().to_le_bytes()[2..]);
                &[]
            }
            Kind::F16 | Kind::Q4_0 | Kind::Q5_0 | Kind::Q8_0 => &[0],
            Kind::Q4_1 | Kind::Q5_1 | Kind::Q4K | Kind::Q5K => &[0, 2],
            Kind::Q6K => &[208],
        };
        for at in halves {
            block[*at..at + 2].copy_from_slice(&to_half(random.float() * 0.05).to_le_bytes());
        }
    }
    bytes
}

fn plain(kind: Kind, bytes: &[u8], k: usize, n: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut row = vec![0.0; k];
    let (mut out, mut size) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(k) {
        for number in 0..n {
            dequantise(kind, &bytes[number * kind.row_bytes(k)..][..kind.row_bytes(k)], &mut row);
            let highest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
            out.push(row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32);
            // Rounding an activation moves it by at most its block's largest / 254.
            size.push(row.iter().map(|w| w.abs()).sum::<f32>() * highest / 254.0);
        }
    }
    (out, size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kernel_agrees_with_plain_arithmetic_whatever_the_batch_and_the_threads(
        kind in prop::sample::select(&Kind::ALL[..]),
        blocks in 1usize..40,
        n in 1usize..40,
        rows in 1usize..24,
        threads in 1usize..4,
        seed in 1u64..u64::MAX,
    ) {
        let mut random = Random(seed);
        let k = if kind.block().0 == 256 { 256 * (1 + blocks % 3) } else { 32 * blocks };
        let bytes = matrix(kind, k, n, &mut random);
        let x: Vec<f32> = (0..rows * k).map(|_| random.float()).collect();
        let (expected, slack) = plain(kind, &bytes, k, n, &x);
        let matrix = Matrix::new(kind, &bytes, k, n).unwrap();
        // All levels round activations alike, so among each other they differ by the order of their sums alone.
        let mut rounded: Option<Vec<f32>> = None;
        for level in levels() {
            let mut out = vec![0.0; rows * n];
            let mut activations = Activations::default();
            activations.fill(&mut Pool::new(threads), level, &x, k, matrix.reads_floats());
            matmul(&mut Pool::new(threads), level, &activations, &mut [Job { matrix, out: &mut out }]);
            for ((made, expected), slack) in out.iter().zip(&expected).zip(&slack) {
                let slack = slack + 1e-4 * (1.0 + expected.abs());
                prop_assert!((made - expected).abs() <= slack, "{level:?} {kind:?}: {made} for {expected}, slack {slack}");
            }
            if level != Level::Reference {
                for ((made, first), slack) in out.iter().zip(rounded.get_or_insert_with(|| out.clone())).zip(&slack) {
                    let slack = 2e-5 * (254.0 * slack + first.abs()) + 1e-6;
                    prop_assert!((made - *first).abs() <= slack, "{level:?} {kind:?}: {made} for {first}, slack {slack}");
                }
            }
            // A row alone gives the same bits as the row in its batch.
            let alone = rows / 2;
            let mut single = vec![0.0; n];
            activations.fill(&mut Pool::new(1), level, &x[alone * k..][..k], k, matrix.reads_floats());
            matmul(&mut Pool::new(1), level, &activations, &mut [Job { matrix, out: &mut single }]);
            prop_assert_eq!(&single[..], &out[alone * n..][..n]);
        }
    }

    #[test]
    fn attention_agrees_with_plain_arithmetic(
        length in 1usize..70, heads in 1usize..20, width in prop::sample::select(vec![16usize, 64, 24, 10]),
        window in 1usize..80, seed in 1u64..u64::MAX,
    ) {
        const PAGE: usize = 32;
        let mut random = Random(seed);
        let mut halves = |n: usize| (0..n).map(|_| to_half(random.float())).collect::<Vec<u16>>();
        let pages: Vec<(Vec<u16>, Vec<u16>)> =
            (0..length.div_ceil(PAGE)).map(|_| (halves(PAGE * width), halves(PAGE * width))).collect();
        let queries: Vec<f32> = halves(heads * width).into_iter().map(|q| 4.0 * from_half(q)).collect();
        let at = |values: &[u16], position: usize| -> Vec<f64> {
            values[position % PAGE * width..][..width].iter().map(|h| f64::from(from_half(*h))).collect()
        };
        let from = length.saturating_sub(window);
        let mut expected = Vec::new();
        for query in queries.chunks_exact(width) {
            let weight = |position: usize| {
                let key = at(&pages[position / PAGE].0, position);
                let score: f64 = query.iter().zip(&key).map(|(q, k)| f64::from(*q) * k).sum();
                (score / (width as f64).sqrt()).exp()
            };
            let total: f64 = (from..length).map(weight).sum();
            for lane in 0..width {
                let sum: f64 = (from..length).map(|p| weight(p) * at(&pages[p / PAGE].1, p)[lane]).sum();
                expected.push((sum / total) as f32);
            }
        }
        for level in levels() {
            let mut out = vec![0.0; heads * width];
            let scale = 1.0 / (width as f32).sqrt();
            let view = Attention { level, width, from, length, page: PAGE, scale };
            view.run(&queries, |n| Page { keys: &pages[n].0, values: &pages[n].1 }, &mut out);
            for (made, expected) in out.iter().zip(&expected) {
                prop_assert!((made - expected).abs() < 1e-4, "{level:?}: {made} for {expected}");
            }
        }
    }

    #[test]
    fn many_halves_are_the_halves_of_each(values in prop::collection::vec(-70000f32..70000.0, 0..40)) {
        let mut out = vec![0; values.len()];
        write_halves(&values, &mut out);
        prop_assert_eq!(out, values.into_iter().map(to_half).collect::<Vec<u16>>());
    }

    #[test]
    fn a_half_comes_back_and_a_float_becomes_the_nearest_half(bits in any::<u16>(), value in -70000f32..70000.0) {
        let float = from_half(bits);
        if !float.is_nan() {
            prop_assert_eq!(to_half(float), bits);
        }
        let half = from_half(to_half(value));
        if half.is_finite() {
            prop_assert!((half - value).abs() <= value.abs() / 2048.0 + 3e-8, "{} for {}", half, value);
        }
    }
}

proptest! {
    #[test]
    fn exp_is_exp(x in -80f32..80.0) {
        let expected = f64::from(x).exp();
        prop_assert!((f64::from(exp(x)) - expected).abs() <= expected * 4e-7, "{} for {}", exp(x), expected);
    }
}

#[test]
fn every_item_is_done_once_by_every_number_of_threads() {
    for threads in 1..5 {
        let mut pool = Pool::new(threads);
        for items in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
            pool.run(items, &|number| {
                counts[number].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        let mut values = vec![0usize; 103];
        pool.each_mut(&mut values, 10, 3, &|number, piece| {
            piece.iter_mut().for_each(|value| *value = number);
        });
        assert!(values.iter().enumerate().all(|(at, value)| *value == at / 10));
    }
}

#[test]
fn a_pool_with_a_limit_computes_with_no_more_threads_than_that() {
    let mut pool = Pool::new(4);
    for limit in [4, 2, 1, 3, 9, 0] {
        pool.limit(limit);
        assert_eq!(pool.threads(), limit.clamp(1, 4));
        let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
        for _ in 0..20 {
            pool.run(200, &|_| {
                seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
                std::hint::black_box((0..500).sum::<u32>());
            });
        }
        assert!((1..=pool.threads()).contains(&seen.lock().unwrap().len()));
    }
}

#[test]
fn a_panic_in_a_helper_reaches_the_caller_and_the_pool_goes_on() {
    let mut pool = Pool::new(2);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(64, &|n| assert!(n != 40, "on purpose"));
    }));
    assert!(caught.is_err());
}

#[test]
fn bytes_that_are_not_whole_rows_are_no_matrix() {
    assert!(Matrix::new(Kind::Q4_1, &[0; 40], 64, 1).is_some());
    assert!(Matrix::new(Kind::Q4_1, &[0; 39], 64, 1).is_none());
    assert!(Matrix::new(Kind::Q4_1, &[0; 40], 48, 1).is_none());
    assert!(Matrix::new(Kind::Q4_1, &[], 0, 1).is_none());
}

#[test]
fn matrices_of_a_models_size_agree_on_all_levels() {
    let mut random = Random(77);
    for (kind, k, sizes) in [
        (Kind::Q4_1, 576, [576, 192, 192]),
        (Kind::Q4_1, 1536, [576, 32, 1]),
        (Kind::Q8_0, 576, [3000, 16, 17]),
        (Kind::Q4K, 1536, [576, 32, 1]),
        (Kind::Q6K, 1536, [576, 32, 1]),
    ] {
        let x: Vec<f32> =
            (0..100 * k).map(|n| random.float() * if n % 97 == 0 { 50.0 } else { 1.0 }).collect();
        let all = sizes.map(|n| matrix(kind, k, n, &mut random));
        let mut first: Option<Vec<f32>> = None;
        for level in levels() {
            let mut pool = Pool::new(2);
            let mut activations = Activations::default();
            activations.fill(&mut pool, level, &x, k, false);
            let mut outs = sizes.map(|n| vec![0.0; 100 * n]);
            {
                let [a, b, c] = &mut outs;
                let job =
                    |at: usize, out| Job { matrix: Matrix::new(kind, &all[at], k, sizes[at]).unwrap(), out };
                matmul(&mut pool, level, &activations, &mut [job(0, a), job(1, b), job(2, c)]);
            }
            let outs = outs.concat();
            let first = first.get_or_insert_with(|| outs.clone());
            let distance: f64 = outs.iter().zip(&*first).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let size: f64 = first.iter().map(|b| f64::from(*b).powi(2)).sum();
            // Rounding to eight bits costs a hundredth; another order of sums costs next to nothing.
            let most = if level == Level::Reference { 2e-2 } else { 1e-5 };
            let apart = (distance / size).sqrt();
            assert!(apart < most, "{level:?} {kind:?} {k}: {apart}");
        }
    }
}

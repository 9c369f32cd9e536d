//! Every path against plain arithmetic on the values that the blocks stand for.

use proptest::prelude::*;

use super::*;

/// What this machine can run.
pub(crate) fn levels() -> Vec<Level> {
    match level() {
        Level::Avx512Vnni => vec![Level::Avx512Vnni, Level::Avx2, Level::Portable, Level::Reference],
        Level::Avx2 => vec![Level::Avx2, Level::Portable, Level::Reference],
        Level::Neon => vec![Level::Neon, Level::Portable, Level::Reference],
        _ => vec![Level::Portable, Level::Reference],
    }
}

/// `cargo xtask emulate` says which: an emulator that lacks the instructions would pass all other tests with fewer levels.
#[test]
fn this_machine_has_the_level_that_it_is_said_to_have() {
    let said = std::env::var("INNKEEPER_LEVEL").unwrap_or_default();
    assert!(level().name().starts_with(&said), "{} is not {said}", level().name());
    assert_eq!(levels()[0], level());
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

/// Positions of a page in these tests.
const PAGE: usize = 2 * KEY_BLOCK;

/// Keys and values of some positions, as pages and as they are.
struct Cache {
    pages: Vec<(Vec<u16>, Vec<u16>)>,
    /// For each key-value head and position, the key and the value.
    plain: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
    groups: usize,
}

impl Cache {
    fn random(length: usize, groups: usize, width: usize, random: &mut Random) -> Self {
        let count = length.div_ceil(PAGE);
        // What is not filled is as bad as it can be: nobody may look at it.
        let nothing = to_half(f32::NAN);
        let mut pages = vec![(vec![nothing; PAGE * width], vec![nothing; PAGE * width]); count * groups];
        let mut plain = vec![Vec::new(); groups];
        for (head, plain) in plain.iter_mut().enumerate() {
            for position in 0..length {
                let mut half = || (0..width).map(|_| to_half(random.float())).collect::<Vec<u16>>();
                let (key, value) = (half(), half());
                let (page, at) = (&mut pages[position / PAGE * groups + head], position % PAGE);
                for (number, key) in key.iter().enumerate() {
                    page.0[at / KEY_BLOCK * KEY_BLOCK * width + number * KEY_BLOCK + at % KEY_BLOCK] = *key;
                }
                page.1[at * width..][..width].copy_from_slice(&value);
                let floats = |halves: Vec<u16>| halves.into_iter().map(from_half).collect::<Vec<f32>>();
                plain.push((floats(key), floats(value)));
            }
        }
        Self { pages, plain, groups }
    }

    fn page(&self, head: usize, number: usize) -> Page<'_> {
        let (keys, values) = &self.pages[number * self.groups + head];
        Page { keys, values }
    }

    fn plain(&self, look: &Attention, before: usize, queries: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for (number, query) in queries.chunks_exact(look.width).enumerate() {
            let (row, head) = (number / look.heads, number % look.heads / (look.heads / look.kv_heads));
            let length = before + if look.causal { row + 1 } else { 1 };
            let seen = &self.plain[head][length.saturating_sub(look.window.unwrap_or(length))..length];
            let weight = |key: &[f32]| {
                let score: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                (score * f64::from(look.scale)).exp()
            };
            let total: f64 = seen.iter().map(|(key, _)| weight(key)).sum();
            for lane in 0..look.width {
                let sum: f64 = seen.iter().map(|(key, value)| weight(key) * f64::from(value[lane])).sum();
                out.push((sum / total) as f32);
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kernel_agrees_with_plain_arithmetic_whatever_the_batch_and_the_threads(
        kind in prop::sample::select(&Kind::ALL[..]),
        blocks in 1usize..40,
        n in 1usize..40,
        rows in 1usize..40,
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
            matmul(&mut Pool::new(threads), &activations, &mut [Job { matrix, out: &mut out }]);
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
            matmul(&mut Pool::new(1), &activations, &mut [Job { matrix, out: &mut single }]);
            prop_assert_eq!(&single[..], &out[alone * n..][..n]);
        }
    }

    #[test]
    fn every_level_rounds_activations_to_the_same_bits_few_and_many(
        blocks in 1usize..40,
        rows in 1usize..40,
        nothing in 0usize..40,
        seed in 1u64..u64::MAX,
    ) {
        let mut random = Random(seed);
        let k = 32 * blocks;
        let mut x: Vec<f32> = (0..rows * k).map(|_| random.float() * 9.0).collect();
        x[nothing % blocks * 32..][..32].fill(0.0);
        let residue = |level: Level, x: &[f32]| {
            let (mut activations, mut out) = (Activations::default(), Vec::new());
            activations.fill(&mut Pool::new(2), level, x, k, false);
            activations.residue(x, &mut out);
            out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let expected = residue(Level::Portable, &x);
        for level in levels().into_iter().filter(|level| *level != Level::Reference) {
            prop_assert_eq!(&residue(level, &x), &expected);
            for (x, expected) in x.chunks(k).zip(expected.chunks(k)) {
                prop_assert_eq!(&residue(level, x), expected);
            }
        }
    }

    #[test]
    fn attention_agrees_with_plain_arithmetic_whatever_the_neighbours_and_the_threads(
        before in 0usize..300, rows in 1usize..30, groups in 1usize..3, group in 1usize..9,
        width in prop::sample::select(vec![16usize, 64, 24, 10, 112]),
        window in prop::option::of(1usize..200), causal in any::<bool>(), threads in 1usize..4, seed in 1u64..u64::MAX,
    ) {
        let mut random = Random(seed);
        let heads = groups * group;
        let look = Attention { level: level(), heads, kv_heads: groups, width, page: PAGE, window, causal, scale: 1.0 / (width as f32).sqrt() };
        let cache = Cache::random(before + rows, groups, width, &mut random);
        let queries: Vec<f32> = (0..rows * heads * width).map(|_| 4.0 * random.float()).collect();
        let expected = cache.plain(&look, before, &queries);
        let stretch = |row, rows, position| Stretch { row, rows, position: if causal { position } else { before }, sequence: 0 };
        for level in levels() {
            let look = Attention { level, ..look };
            let run = |threads: usize, stretches: &[Stretch], queries: &[f32]| {
                let mut out = vec![0.0; queries.len()];
                look.run(&mut Pool::new(threads), &mut Partials::default(), stretches, queries, &|_, head, n| cache.page(head, n), &mut out);
                out
            };
            let made = run(threads, &[stretch(0, rows, before)], &queries);
            for (made, expected) in made.iter().zip(&expected) {
                prop_assert!((made - expected).abs() < 1e-4, "{level:?}: {made} for {expected}");
            }
            // The same bits in two pieces, and alone.
            let cut = rows / 2;
            if cut > 0 {
                let two = [stretch(0, cut, before), stretch(cut, rows - cut, before + cut)];
                prop_assert_eq!(&run(1, &two, &queries), &made);
            }
            let alone = run(threads, &[stretch(0, 1, before + cut)], &queries[cut * heads * width..][..heads * width]);
            prop_assert_eq!(&alone[..], &made[cut * heads * width..][..heads * width]);
        }
    }

    #[test]
    fn rounded_weights_are_near_what_they_were(blocks in 1usize..120, threads in 1usize..4, seed in 1u64..u64::MAX) {
        let mut random = Random(seed);
        let values: Vec<f32> = (0..blocks * 32).map(|_| 3.0 * random.float()).collect();
        let plain: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = quantise(&mut Pool::new(threads), Kind::F32, &plain);
        let mut back = vec![0.0; values.len()];
        dequantise(Kind::Q8_0, &bytes, &mut back);
        for (block, back) in values.chunks(32).zip(back.chunks(32)) {
            let highest = block.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (value, back) in block.iter().zip(back) {
                prop_assert!((value - back).abs() <= highest * 0.0045, "{} for {}", back, value);
            }
        }
    }

    #[test]
    fn many_halves_are_the_halves_of_each_and_finite(mut values in prop::collection::vec(-70000f32..70000.0, 0..40)) {
        values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30]);
        let mut out = vec![0; values.len()];
        write_halves(&values, &mut out);
        for (half, value) in out.into_iter().zip(values) {
            prop_assert!(from_half(half).is_finite());
            prop_assert!(value.is_nan() || half == to_half(value.clamp(-65504.0, 65504.0)));
        }
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
        for made in [exp(x), attention::exp_by::<true>(x)] {
            prop_assert!((f64::from(made) - expected).abs() <= expected * 4e-7, "{made} for {expected}");
        }
    }
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
                matmul(&mut pool, &activations, &mut [job(0, a), job(1, b), job(2, c)]);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_that_end_in_two_blocks_give_the_same_bits_beside_seven_others_alone_and_in_a_panel(
        kind in prop::sample::select(vec![Kind::Q4_0, Kind::Q4_1, Kind::Q5_0, Kind::Q5_1, Kind::Q8_0]),
        sixteens in 1usize..4,
        n in 8usize..40,
        rows in 1usize..6,
        seed in 1u64..u64::MAX,
    ) {
        let mut random = Random(seed);
        let k = 32 * (sixteens * 16 + 2);
        let bytes = matrix(kind, k, n, &mut random);
        let x: Vec<f32> = (0..8 * k).map(|_| random.float()).collect();
        let product = |bytes: &[u8], rows: usize| {
            let n = bytes.len() / kind.row_bytes(k);
            let mut out = vec![0.0; rows * n];
            let mut activations = Activations::default();
            activations.fill(&mut Pool::new(1), level(), &x[..rows * k], k, false);
            let matrix = Matrix::new(kind, bytes, k, n).unwrap();
            matmul(&mut Pool::new(1), &activations, &mut [Job { matrix, out: &mut out }]);
            out
        };
        let (expected, slack) = plain(kind, &bytes, k, n, &x[..rows * k]);
        let together = product(&bytes, rows);
        for ((made, expected), slack) in together.iter().zip(&expected).zip(&slack) {
            prop_assert!((made - expected).abs() <= slack + 1e-4 * (1.0 + expected.abs()), "{kind:?}: {made} for {expected}");
        }
        for (number, row) in bytes.chunks_exact(kind.row_bytes(k)).enumerate() {
            let alone = product(row, rows);
            for (m, value) in alone.into_iter().enumerate() {
                prop_assert_eq!(value.to_bits(), together[m * n + number].to_bits());
            }
        }
        prop_assert_eq!(&product(&bytes, 8)[..rows * n], &together[..]);
    }
}

#[test]
fn every_column_of_large_and_small_matrices_is_made_once_and_alike_by_any_number_of_threads() {
    let (k, counts, mut random) = (576, [3000, 16, 17, 1], Random(7));
    let x: Vec<f32> = (0..k).map(|_| random.float()).collect();
    let weights = counts.map(|n| matrix(Kind::Q4_1, k, n, &mut random));
    let matrices = [0, 1, 2, 3].map(|at| Matrix::new(Kind::Q4_1, &weights[at], k, counts[at]).unwrap());
    for level in levels() {
        let made = |threads: usize| {
            let mut pool = Pool::new(threads);
            let mut activations = Activations::default();
            activations.fill(&mut pool, level, &x, k, false);
            let mut outs = counts.map(|n| vec![f32::NAN; n]);
            let mut jobs: Vec<Job<'_>> =
                matrices.iter().zip(&mut outs).map(|(matrix, out)| Job { matrix: *matrix, out }).collect();
            expect(&mut pool, &activations, &matrices);
            matmul(&mut pool, &activations, &mut jobs);
            outs.map(|out| out.into_iter().map(f32::to_bits).collect::<Vec<u32>>())
        };
        let alone = made(1);
        for threads in 2..5 {
            assert!(made(threads) == alone, "{level:?} with {threads} threads");
        }
        for ((matrix, bytes), made) in matrices.iter().zip(&weights).zip(&alone) {
            let (right, size) = plain(Kind::Q4_1, bytes, k, matrix.n(), &x);
            for ((made, right), size) in made.iter().zip(right).zip(size) {
                let made = f32::from_bits(*made);
                assert!((made - right).abs() <= size + 1e-3, "{level:?}: {made} for {right}");
            }
        }
    }
}

#[test]
fn a_head_that_is_left_over_is_shared_by_its_queries_without_a_change_of_a_bit() {
    let mut random = Random(11);
    for (heads, kv_heads, threads) in [(9, 3, 2), (9, 3, 3), (15, 5, 3), (12, 1, 4), (4, 2, 3)] {
        let (width, before) = (64, PAGE - 2);
        let cache = Cache::random(before + 1, kv_heads, width, &mut random);
        let queries: Vec<f32> = (0..heads * width).map(|_| random.float()).collect();
        for level in levels() {
            let look = Attention {
                level,
                heads,
                kv_heads,
                width,
                page: PAGE,
                window: None,
                causal: true,
                scale: 0.125,
            };
            let made = |threads: usize| {
                let (mut pool, mut partials) = (Pool::new(threads), Partials::default());
                let stretches = [Stretch { row: 0, rows: 1, position: before, sequence: 0 }];
                let mut out = vec![f32::NAN; queries.len()];
                let pages = |_: usize, head: usize, number: usize| cache.page(head, number);
                look.run(&mut pool, &mut partials, &stretches, &queries, &pages, &mut out);
                out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            let alone = made(1);
            assert!(alone.iter().all(|bits| f32::from_bits(*bits).is_finite()), "a query without a result");
            assert!(made(threads) == alone, "{level:?}, {heads} heads, {threads} threads");
        }
    }
}

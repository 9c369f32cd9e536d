//! Chooses the next token from the logits, on a slice: penalties, then temperature, the k likeliest, then top-p and
//! min-p among them. At temperature 0 the likeliest is taken, of equals the first. Knows no model and no text.

use link::Sampling;

use crate::error::Error;

/// Without `top_k` this many of the likeliest are looked at; beyond them nothing measurable is left.
const MOST_CANDIDATES: usize = 1024;
/// The repetition penalties look so far back.
const PENALTY_WINDOW: usize = 256;
/// Logits of which the highest is kept; so whole groups are passed over.
const GROUP: usize = 16;
/// Candidates that are put in order before more of them are needed.
const FEW: usize = 32;

/// Chooses tokens for one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    order: Sampling,
    random: Random,
    candidates: Vec<(f32, u32)>,
    /// The highest logit of each group, and the same again, in another order.
    highest: Vec<f32>,
    sorted: Vec<f32>,
    seen: Vec<(u32, u32)>,
}

/// SplitMix64, so that the same seed gives the same answer on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Refuses values that make no sense.
pub(crate) fn check(order: &Sampling) -> Result<(), Error> {
    let rules: [(&'static str, f32, bool, &'static str); 6] = [
        ("temperature", order.temperature, (0.0..=100.0).contains(&order.temperature), "from 0 to 100"),
        ("top_p", order.top_p, (0.0..=1.0).contains(&order.top_p), "from 0 to 1"),
        ("min_p", order.min_p, (0.0..=1.0).contains(&order.min_p), "from 0 to 1"),
        (
            "repeat_penalty",
            order.repeat_penalty,
            order.repeat_penalty > 0.0 && order.repeat_penalty <= 10.0,
            "above 0 and at most 10",
        ),
        (
            "frequency_penalty",
            order.frequency_penalty,
            order.frequency_penalty.abs() <= 10.0,
            "from -10 to 10",
        ),
        ("presence_penalty", order.presence_penalty, order.presence_penalty.abs() <= 10.0, "from -10 to 10"),
    ];
    match rules.into_iter().find(|rule| !rule.2) {
        None => Ok(()),
        Some((name, value, _, wanted)) => Err(Error::Sampling { name, value, wanted }),
    }
}

impl Sampler {
    /// For one request; `order` has passed [`check`].
    pub(crate) fn new(order: &Sampling) -> Self {
        let mut order = order.clone();
        order.stop = Vec::new();
        Self {
            random: Random(order.seed),
            order,
            candidates: Vec::new(),
            highest: Vec::new(),
            sorted: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// The next token. `history` is prompt and answer so far, `answer_from` where the answer begins. The logits are
    /// changed in place. Without a finite logit there is no token.
    pub(crate) fn choose(&mut self, logits: &mut [f32], history: &[u32], answer_from: usize) -> Option<u32> {
        self.penalise(logits, history, answer_from);
        highest_of_groups(logits, &mut self.highest);
        let best = likeliest_by(logits, &self.highest)?;
        if self.order.temperature <= 0.0 {
            return Some(best);
        }
        self.collect(logits);
        let highest = logits[best as usize];
        // Relative likelihoods: the likeliest has 1.
        for candidate in &mut self.candidates {
            candidate.0 = ((candidate.0 - highest) / self.order.temperature).exp();
        }
        let kept_mass = self.keep();
        let mut point = self.random.next() * kept_mass;
        for at in 0..self.candidates.len() {
            self.put_in_order(at);
            point -= f64::from(self.candidates[at].0);
            if point < 0.0 {
                return Some(self.candidates[at].1);
            }
        }
        self.candidates.last().map(|candidate| candidate.1)
    }

    /// Keeps what top-p and min-p leave of the candidates; gives their mass.
    fn keep(&mut self) -> f64 {
        let total: f64 = self.candidates.iter().map(|candidate| f64::from(candidate.0)).sum();
        let Sampling { top_p, min_p, .. } = self.order;
        if top_p >= 1.0 && min_p <= 0.0 {
            return total;
        }
        let (mut mass, mut kept) = (0.0, 0);
        while kept < self.candidates.len() {
            self.put_in_order(kept);
            if kept > 0 && (mass >= f64::from(top_p) * total || self.candidates[kept].0 < min_p) {
                break;
            }
            mass += f64::from(self.candidates[kept].0);
            kept += 1;
        }
        self.candidates.truncate(kept);
        mass
    }

    /// Sees to it that the candidate at `at` is where it belongs, in falling order, of equals the first. The answer is mostly
    /// among the first few, so the rest is put in order only when it is come to.
    fn put_in_order(&mut self, at: usize) {
        if !at.is_multiple_of(FEW) {
            return;
        }
        let rest = &mut self.candidates[at..];
        if rest.len() > FEW {
            rest.select_nth_unstable_by(FEW - 1, falling);
        }
        let few = rest.len().min(FEW);
        rest[..few].sort_unstable_by(falling);
    }

    /// The likeliest tokens, in no order.
    fn collect(&mut self, logits: &[f32]) {
        let most = match self.order.top_k as usize {
            0 => MOST_CANDIDATES,
            k => k,
        }
        .min(logits.len());
        // As many groups as candidates are wanted have a logit of at least this: so none below it is wanted.
        let mut least = f32::NEG_INFINITY;
        if most < self.highest.len() {
            self.sorted.clone_from(&self.highest);
            least = *self.sorted.select_nth_unstable_by(most - 1, |a, b| b.total_cmp(a)).1;
        }
        self.candidates.clear();
        for (number, (group, highest)) in logits.chunks(GROUP).zip(&self.highest).enumerate() {
            if *highest >= least {
                let wanted = |x: &f32| x.is_finite() && *x >= least;
                let first = (number * GROUP) as u32;
                let of_group = (first..).zip(group).filter(|(_, x)| wanted(x)).map(|(id, x)| (*x, id));
                self.candidates.extend(of_group);
            }
        }
        if self.candidates.len() > most {
            self.candidates.select_nth_unstable_by(most - 1, falling);
            self.candidates.truncate(most);
        }
    }

    fn penalise(&mut self, logits: &mut [f32], history: &[u32], answer_from: usize) {
        let order = &self.order;
        if order.repeat_penalty != 1.0 {
            self.seen.clear();
            let window = &history[history.len().saturating_sub(PENALTY_WINDOW)..];
            count(window, &mut self.seen);
            for (id, _) in &self.seen {
                if let Some(x) = logits.get_mut(*id as usize) {
                    *x = if *x > 0.0 { *x / order.repeat_penalty } else { *x * order.repeat_penalty };
                }
            }
        }
        if order.frequency_penalty != 0.0 || order.presence_penalty != 0.0 {
            self.seen.clear();
            count(history.get(answer_from..).unwrap_or_default(), &mut self.seen);
            for (id, times) in &self.seen {
                if let Some(x) = logits.get_mut(*id as usize) {
                    *x -= order.frequency_penalty * *times as f32 + order.presence_penalty;
                }
            }
        }
    }
}

fn count(tokens: &[u32], seen: &mut Vec<(u32, u32)>) {
    seen.extend(tokens.iter().map(|id| (*id, 1)));
    seen.sort_unstable();
    seen.dedup_by(|b, a| {
        let same = a.0 == b.0;
        if same {
            a.1 += b.1;
        }
        same
    });
}

/// The likelier first, of equals the one that comes first in the vocabulary.
fn falling(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    // The sum makes one zero of both: a total order tells them apart.
    (b.0 + 0.0).total_cmp(&(a.0 + 0.0)).then(a.1.cmp(&b.1))
}

/// The highest finite logit of each group; minus infinity if it has none.
fn highest_of_groups(logits: &[f32], out: &mut Vec<f32>) {
    /// What vectors of any machine hold.
    const LANES: usize = 4;
    out.clear();
    let (groups, rest) = logits.as_chunks::<GROUP>();
    out.extend(groups.iter().map(|group| {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for part in group.as_chunks::<LANES>().0 {
            for (lane, x) in lanes.iter_mut().zip(part) {
                // What is no number is never higher.
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }));
    if !rest.is_empty() {
        out.push(rest.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }
    for (number, highest) in out.iter_mut().enumerate().filter(|(_, highest)| **highest == f32::INFINITY) {
        let group = logits[number * GROUP..].iter().take(GROUP);
        *highest = group.copied().filter(|x| x.is_finite()).fold(f32::NEG_INFINITY, f32::max);
    }
}

/// The index of the highest finite logit, of equals the first, by the groups' highest.
fn likeliest_by(logits: &[f32], highest: &[f32]) -> Option<u32> {
    let best = highest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if best == f32::NEG_INFINITY {
        return None;
    }
    let group = highest.iter().position(|highest| *highest == best)? * GROUP;
    logits[group..].iter().position(|x| *x == best).map(|at| (group + at) as u32)
}

/// The index of the highest finite logit, of equals the first.
#[cfg(test)]
pub(crate) fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut highest = Vec::new();
    highest_of_groups(logits, &mut highest);
    likeliest_by(logits, &highest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(temperature: f32) -> Sampling {
        Sampling { temperature, seed: 7, ..Sampling::greedy() }
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-20f32..20.0, 1..300)
    }

    proptest! {
        #[test]
        fn at_temperature_zero_the_likeliest_comes(logits in logits()) {
            let chosen = Sampler::new(&order(0.0)).choose(&mut logits.clone(), &[], 0).unwrap();
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            prop_assert_eq!(logits[chosen as usize], highest);
        }

        #[test]
        fn the_same_seed_gives_the_same_tokens(logits in logits(), seed in any::<u64>()) {
            let wish = Sampling { seed, ..order(1.0) };
            let run = || {
                let mut sampler = Sampler::new(&wish);
                (0..8).map(|_| sampler.choose(&mut logits.clone(), &[], 0)).collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }

        #[test]
        fn top_k_keeps_to_the_k_likeliest(logits in logits(), k in 1u32..20, seed in any::<u64>()) {
            let wish = Sampling { seed, top_k: k, ..order(2.0) };
            let chosen = Sampler::new(&wish).choose(&mut logits.clone(), &[], 0).unwrap();
            let better = logits.iter().filter(|x| **x > logits[chosen as usize]).count();
            prop_assert!(better < k as usize);
        }

        #[test]
        fn min_p_keeps_out_the_unlikely(logits in logits(), min_p in 0.01f32..1.0, seed in any::<u64>()) {
            let wish = Sampling { seed, min_p, ..order(1.0) };
            let chosen = Sampler::new(&wish).choose(&mut logits.clone(), &[], 0).unwrap();
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            prop_assert!((logits[chosen as usize] - highest).exp() >= min_p * 0.999);
        }

        #[test]
        fn top_p_keeps_to_the_smallest_set_that_reaches_it(logits in logits(), top_p in 0.01f32..0.99, seed in any::<u64>()) {
            let wish = Sampling { seed, top_p, ..order(1.0) };
            let chosen = Sampler::new(&wish).choose(&mut logits.clone(), &[], 0).unwrap();
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let weight = |x: f32| f64::from((x - highest).exp());
            let total: f64 = logits.iter().map(|x| weight(*x)).sum();
            let likelier: f64 = logits.iter().filter(|x| **x > logits[chosen as usize]).map(|x| weight(*x)).sum();
            prop_assert!(likelier <= f64::from(top_p) * total + 1e-6);
        }
    }

    /// The same choice in the plainest way: everything in order, then the limits one after the other.
    fn plainly(wish: &Sampling, logits: &[f32], random: &mut Random) -> Option<u32> {
        let mut all: Vec<(f32, u32)> =
            logits.iter().zip(0..).filter(|(x, _)| x.is_finite()).map(|(x, id)| (*x, id)).collect();
        all.sort_by(falling);
        let best = *all.first()?;
        if wish.temperature <= 0.0 {
            return Some(best.1);
        }
        all.truncate(if wish.top_k == 0 { MOST_CANDIDATES } else { wish.top_k as usize });
        let weight = |x: f32| f64::from(((x - best.0) / wish.temperature).exp());
        let total: f64 = all.iter().map(|(x, _)| weight(*x)).sum();
        let (mut mass, mut kept) = (0.0, 0);
        while kept < all.len() {
            let enough = wish.top_p < 1.0 && mass >= f64::from(wish.top_p) * total;
            if kept > 0 && (enough || weight(all[kept].0) < f64::from(wish.min_p)) {
                break;
            }
            mass += weight(all[kept].0);
            kept += 1;
        }
        let mut point = random.next() * mass;
        let chosen = all[..kept].iter().find(|(x, _)| {
            point -= weight(*x);
            point < 0.0
        });
        chosen.or(all[..kept].last()).map(|(_, id)| *id)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_choice_is_that_of_everything_in_order(
            seed in any::<u64>(), spread in 0.1f32..30.0, count in 1usize..60_000, temperature in 0f32..3.0,
            top_k in prop::sample::select(&[0u32, 0, 1, 40, 1500, 40_000][..]),
            top_p in prop::sample::select(&[1f32, 0.95, 0.3][..]), min_p in prop::sample::select(&[0f32, 0.05][..]),
        ) {
            let mut random = Random(seed);
            // Rounded, so that many are equal; a few are no numbers.
            let mut logits: Vec<f32> = (0..count).map(|_| {
                let sum: f64 = (0..4).map(|_| random.next() - 0.5).sum();
                match random.next() {
                    0.0..0.001 => f32::NAN,
                    0.001..0.002 => f32::INFINITY,
                    0.002..0.003 => f32::NEG_INFINITY,
                    _ => (sum as f32 * spread * 16.0).round() / 16.0,
                }
            }).collect();
            let wish = Sampling { seed, top_k, top_p, min_p, ..order(temperature) };
            let (mut sampler, mut random) = (Sampler::new(&wish), Random(seed));
            for _ in 0..8 {
                let expected = plainly(&wish, &logits, &mut random);
                prop_assert_eq!(sampler.choose(&mut logits, &[], 0), expected);
            }
        }
    }

    #[test]
    fn zeros_of_either_sign_are_equals() {
        let wish = Sampling { top_k: 1, ..order(1.0) };
        assert_eq!(Sampler::new(&wish).choose(&mut [-1.0, -0.0, 0.0], &[], 0), Some(1));
        assert_eq!(Sampler::new(&order(0.0)).choose(&mut [-1.0, -0.0, 0.0], &[], 0), Some(1));
    }

    #[test]
    fn likely_tokens_come_about_as_often_as_they_should() {
        let mut sampler = Sampler::new(&order(1.0));
        let logits = [0.7f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            counts[sampler.choose(&mut logits.clone(), &[], 0).unwrap() as usize] += 1;
        }
        for (count, share) in counts.into_iter().zip([0.7, 0.2, 0.1]) {
            assert!((f64::from(count) / 20_000.0 - share).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn penalties_push_repeated_tokens_back() {
        let wish = Sampling { repeat_penalty: 2.0, ..order(0.0) };
        assert_eq!(Sampler::new(&wish).choose(&mut [3.0, 2.0], &[0], 1), Some(1));
        let wish = Sampling { frequency_penalty: 0.6, ..order(0.0) };
        assert_eq!(Sampler::new(&wish).choose(&mut [3.0, 2.0], &[0, 0], 0), Some(1));
        // OpenAI's count what was answered, not what was asked.
        assert_eq!(Sampler::new(&wish).choose(&mut [3.0, 2.0], &[0, 0], 2), Some(0));
        let wish = Sampling { presence_penalty: 1.5, ..order(0.0) };
        assert_eq!(Sampler::new(&wish).choose(&mut [3.0, 2.0], &[0], 0), Some(1));
    }

    #[test]
    fn a_repeated_token_is_pushed_back_on_either_side_of_zero_and_only_if_it_came_lately() {
        let wish = Sampling { repeat_penalty: 2.0, ..order(0.0) };
        let mut logits = [-1.0, -1.5, 4.0];
        assert_eq!(Sampler::new(&wish).choose(&mut logits, &[0, 2, 2, 9], 4), Some(2));
        assert_eq!(
            logits,
            [-2.0, -1.5, 2.0],
            "once each, however often it came; what is no token is passed over"
        );
        let mut long_ago = vec![0];
        long_ago.resize(1 + PENALTY_WINDOW, 1);
        let mut logits = [3.0, 2.0];
        assert_eq!(Sampler::new(&wish).choose(&mut logits, &long_ago, 0), Some(0));
        assert_eq!(logits, [3.0, 1.0]);
    }

    #[test]
    fn logits_without_a_finite_one_give_no_token() {
        for temperature in [0.0, 1.0] {
            assert_eq!(
                Sampler::new(&order(temperature)).choose(&mut [f32::NAN, f32::NEG_INFINITY], &[], 0),
                None
            );
        }
        assert_eq!(Sampler::new(&order(1.0)).choose(&mut [f32::NAN, 1.0], &[], 0), Some(1));
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        for (wish, name) in [
            (Sampling { temperature: f32::NAN, ..order(0.0) }, "temperature"),
            (Sampling { top_p: 1.5, ..order(0.0) }, "top_p"),
            (Sampling { repeat_penalty: 0.0, ..order(0.0) }, "repeat_penalty"),
        ] {
            assert!(check(&wish).unwrap_err().to_string().starts_with(name));
        }
    }
}

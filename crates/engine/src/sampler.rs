//! Chooses the next token from the logits, on a slice: penalties, then temperature, the k likeliest, then top-p and
//! min-p among them. At temperature 0 the likeliest is taken, of equals the first. Knows no model and no text.

use link::Sampling;

use crate::error::Error;

/// Without `top_k` this many of the likeliest are looked at; beyond them nothing measurable is left.
const MOST_CANDIDATES: usize = 1024;
/// The repetition penalties look so far back.
const PENALTY_WINDOW: usize = 256;

/// Chooses tokens for one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    order: Sampling,
    random: Random,
    candidates: Vec<(f32, u32)>,
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
        Self { random: Random(order.seed), order, candidates: Vec::new(), seen: Vec::new() }
    }

    /// The next token. `history` is prompt and answer so far, `answer_from` where the answer begins. The logits are
    /// changed in place. Without a finite logit there is no token.
    pub(crate) fn choose(&mut self, logits: &mut [f32], history: &[u32], answer_from: usize) -> Option<u32> {
        self.penalise(logits, history, answer_from);
        let best = likeliest(logits)?;
        if self.order.temperature <= 0.0 {
            return Some(best);
        }
        self.collect(logits);
        let highest = logits[best as usize];
        // Relative likelihoods: the likeliest has 1.
        for candidate in &mut self.candidates {
            candidate.0 = ((candidate.0 - highest) / self.order.temperature).exp();
        }
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
        let mut kept_mass = 0.0;
        let mut kept = 0;
        for candidate in &self.candidates {
            let enough = kept_mass >= f64::from(self.order.top_p) * total;
            if kept > 0 && (enough || candidate.0 < self.order.min_p) {
                break;
            }
            kept_mass += f64::from(candidate.0);
            kept += 1;
        }
        let mut point = self.random.next() * kept_mass;
        for candidate in &self.candidates[..kept] {
            point -= f64::from(candidate.0);
            if point < 0.0 {
                return Some(candidate.1);
            }
        }
        self.candidates[..kept].last().map(|c| c.1)
    }

    /// The likeliest tokens, in falling order, of equals the first.
    fn collect(&mut self, logits: &[f32]) {
        let most = match self.order.top_k as usize {
            0 => MOST_CANDIDATES,
            k => k,
        }
        .min(logits.len());
        self.candidates.clear();
        self.candidates
            .extend(logits.iter().enumerate().filter(|(_, x)| x.is_finite()).map(|(id, x)| (*x, id as u32)));
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if self.candidates.len() > most {
            self.candidates.select_nth_unstable_by(most - 1, order);
            self.candidates.truncate(most);
        }
        self.candidates.sort_unstable_by(order);
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

/// The index of the highest finite logit, of equals the first.
pub(crate) fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(f32, u32)> = None;
    for (id, x) in logits.iter().enumerate() {
        if x.is_finite() && best.is_none_or(|(highest, _)| *x > highest) {
            best = Some((*x, id as u32));
        }
    }
    best.map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(temperature: f32) -> Sampling {
        Sampling {
            temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 7,
            max_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
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

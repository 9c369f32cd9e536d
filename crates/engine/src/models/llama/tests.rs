//! The decoder against llama.cpp's logits, fed with llama.cpp's own tokens, and against itself under other batches.

use std::collections::BTreeMap;
use std::fs::File;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::sampler::likeliest;

/// Where the oracle's two best logits are closer than this, either token is right: each side rounds activations to eight
/// bits, llama.cpp their scales to halves too. Measured: one sum in another order flips roundings and so moves the
/// distance of two logits by up to 0.65, with the plain floats in the middle.
const EPSILON: f32 = 0.8;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt_ids: Vec<u32>,
    tokens: Vec<u32>,
    gaps: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Golden>(include_str!("../../../tests/golden/greedy.json")).unwrap().cases
}

fn smollm2(threads: u32, context: u32) -> Llama {
    let folder = std::env::var("INNKEEPER_TEST_MODELS").expect(
        "INNKEEPER_TEST_MODELS is not set: `cargo xtask test` fetches the default models and sets it",
    );
    let weights = Arc::new(Weights::open(&[File::open(format!("{folder}/smollm2.gguf")).unwrap()]).unwrap());
    let config = LlamaConfig::read(&weights).unwrap();
    assert!(serves(&weights, &config));
    Llama::load(weights, config, context, threads, &mut |_, _| {}).unwrap()
}

/// One step; the logits by the work's number.
pub(super) fn step(model: &mut Llama, work: &[(Slot, &[u32])]) -> BTreeMap<usize, Vec<f32>> {
    let work: Vec<Work<'_>> =
        work.iter().map(|(slot, tokens)| Work { slot: *slot, tokens, wants_logits: true }).collect();
    let mut out = BTreeMap::new();
    model.run(&work, &mut |number, logits| drop(out.insert(number, logits.to_vec()))).unwrap();
    out
}

#[test]
fn every_sure_token_of_every_golden_answer_is_the_likeliest_here_too() {
    let mut model = smollm2(2, 1024);
    let cases = cases();
    let mut logits: Vec<Vec<f32>> = Vec::new();
    let mut slots = Vec::new();
    for case in &cases {
        let slot = model.open();
        slots.push(slot);
        let first = step(&mut model, &[(slot, &case.prompt_ids)]).remove(&0).unwrap();
        logits.push(first);
    }
    let (mut compared, mut wrong) = (0, Vec::new());
    for at in 0..64 {
        let mut going = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let Some(token) = case.tokens.get(at) else { continue };
            if case.gaps[at] >= EPSILON {
                compared += 1;
                let made = likeliest(&logits[number]).unwrap();
                if made != *token {
                    wrong.push((number, at, case.gaps[at]));
                }
            }
            if at + 1 < case.tokens.len() {
                going.push((number, std::slice::from_ref(token)));
            }
        }
        let work: Vec<(Slot, &[u32])> =
            going.iter().map(|(number, token)| (slots[*number], *token)).collect();
        for (which, made) in step(&mut model, &work) {
            logits[going[which].0] = made;
        }
    }
    assert!(compared > 2000, "only {compared} tokens were compared");
    assert!(wrong.is_empty(), "of {compared} tokens these differ: {wrong:?}");
}

/// How far two rows of logits are apart: the mean distance, once what all have in common is taken off.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let shift = a.iter().zip(b).map(|(a, b)| a - b).sum::<f32>() / a.len() as f32;
    a.iter().zip(b).map(|(a, b)| (a - b - shift).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn every_level_of_instructions_is_near_the_plain_floats() {
    let run = |level: Level| {
        let mut model = smollm2(2, 512);
        model.level = level;
        let slot = model.open();
        let prompts = cases();
        step(&mut model, &[(slot, &prompts[0].prompt_ids)]).remove(&0).unwrap()
    };
    let reference = run(Level::Reference);
    for level in [kernels::level(), Level::Avx2, Level::Portable] {
        let made = run(level);
        let apart = distance(&made, &reference);
        assert!(apart < 0.3, "{level:?} is {apart} away");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_row_is_the_same_to_the_last_bit_whatever_the_chunks_the_neighbours_and_the_threads(
        cuts in proptest::collection::vec(1usize..40, 4),
        threads in 1u32..4,
        neighbour in proptest::collection::vec(0u32..49_152, 1..30),
        keep in 1usize..20,
    ) {
        let prompt = &cases()[0].prompt_ids;
        let mut plain = smollm2(1, 512);
        let slot = plain.open();
        let expected = step(&mut plain, &[(slot, prompt)]).remove(&0).unwrap();

        let mut mixed = smollm2(threads, 512);
        let (first, second) = (mixed.open(), mixed.open());
        // Filled, cut back and filled again, in pieces, beside another sequence.
        step(&mut mixed, &[(first, &prompt[..keep]), (second, &neighbour)]);
        prop_assert_eq!(mixed.truncate(first, keep / 2), keep / 2);
        let mut at = keep / 2;
        let mut last = None;
        for cut in cuts.into_iter().chain([prompt.len()]) {
            let end = (at + cut).min(prompt.len());
            if at < end {
                last = step(&mut mixed, &[(second, &neighbour[..1]), (first, &prompt[at..end])]).remove(&1);
                at = end;
            }
        }
        prop_assert_eq!(last.unwrap(), expected);
    }
}

#[test]
fn a_closed_sequence_holds_nothing_and_its_slot_is_used_again() {
    let mut model = smollm2(1, 512);
    let slot = model.open();
    step(&mut model, &[(slot, &[1, 2, 3])]);
    assert_eq!(model.held_bytes(slot), 3 * position_bytes(&model.config));
    model.close(slot);
    assert_eq!(model.held_bytes(slot), 0);
    assert_eq!(model.open(), slot);
}

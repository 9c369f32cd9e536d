//! Each family against llama.cpp's logits of the same tiny random weights (`tests/golden/stock.py`), and what the scheduler
//! is promised of a decoder.

mod files;

use std::collections::BTreeMap;
use std::sync::Arc;

use link::{FileRole, Generate, Load, Prompt, Sampling};
use worker::port::{Engine, Loader, Made, ModelFile};

use super::*;
use crate::allocations;
use crate::loader::ModelLoader;
use crate::models::config::LlamaConfig;
use crate::models::llama::{Llama, families};
use crate::models::{Decoder, Design, Work};
use crate::sampler::likeliest;
use files::{CONTEXT, Case, Golden, Key, Values, case, golden, stock};

/// The logits after each work.
fn step(decoder: &mut dyn Decoder, works: &[(Slot, &[u32])]) -> Vec<Vec<f32>> {
    let work: Vec<_> =
        works.iter().map(|(slot, tokens)| Work { slot: *slot, tokens, wants_logits: true }).collect();
    let mut made = vec![Vec::new(); works.len()];
    decoder.run(&work, &mut |which, logits| made[which] = logits.to_vec()).unwrap();
    made
}

fn run(decoder: &mut dyn Decoder, slot: Slot, tokens: &[u32]) -> Vec<f32> {
    step(decoder, &[(slot, tokens)]).remove(0)
}

fn tokens() -> Vec<u32> {
    (0..96u32).map(|n| (7 * n * n + 3 * n + 1) % 40).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_stock_family_gives_llama_cpps_logits_at_every_asked_position() {
    let Golden { asked, cases } = golden();
    let tokens = tokens();
    for case in cases {
        let mut decoder = case.decoder();
        // Twice, so that a model which has been used counts, too.
        for _ in 0..2 {
            let slot = decoder.open();
            let mut from = 0;
            for (asked, expected) in asked.iter().zip(&case.logits) {
                let made = run(decoder.as_mut(), slot, &tokens[from..=*asked]);
                from = asked + 1;
                let apart = apart(&made, expected);
                assert!(apart < 0.02, "{} at {asked}: {apart} apart", case.name);
            }
            decoder.close(slot);
        }
    }
}

#[test]
fn two_sequences_in_turns_say_what_each_says_alone() {
    let tokens = tokens();
    for case in golden().cases {
        let alone: Vec<Vec<f32>> = [&tokens[..40], &tokens[50..77]]
            .iter()
            .map(|text| {
                let mut decoder = case.decoder();
                let slot = decoder.open();
                run(decoder.as_mut(), slot, text)
            })
            .collect();
        let mut decoder = case.decoder();
        let (first, second) = (decoder.open(), decoder.open());
        step(decoder.as_mut(), &[(first, &tokens[..9]), (second, &tokens[50..51])]);
        step(decoder.as_mut(), &[(second, &tokens[51..52]), (first, &tokens[9..39])]);
        let made = step(decoder.as_mut(), &[(first, &tokens[39..40]), (second, &tokens[52..77])]);
        for (made, alone) in made.iter().zip(&alone) {
            assert!(apart(made, alone) < 1e-3, "{}: {}", case.name, apart(made, alone));
        }
    }
}

#[test]
fn what_is_cut_or_branched_goes_on_as_if_read_afresh() {
    let tokens = tokens();
    for case in golden().cases {
        let mut decoder = case.decoder();
        let fresh = decoder.open();
        let expected = run(decoder.as_mut(), fresh, &tokens[..41]);
        decoder.close(fresh);
        let slot = decoder.open();
        run(decoder.as_mut(), slot, &tokens[..40]);
        // Kept to its end, cut in the middle, and cut down to nothing: what stays is told, and the rest is read again.
        let (branch, copied) = decoder.branch(slot, 40);
        let made = run(decoder.as_mut(), branch, &tokens[copied..41]);
        assert!(apart(&made, &expected) < 1e-3, "{}, branched at {copied}", case.name);
        for keep in [41, 30, 1, 0] {
            let kept = decoder.truncate(branch, keep);
            assert!(kept <= keep);
            if kept < 41 {
                let made = run(decoder.as_mut(), branch, &tokens[kept..41]);
                assert!(apart(&made, &expected) < 1e-3, "{}, cut at {kept}", case.name);
            }
        }
        // The one that was branched from stayed as it was.
        let made = run(decoder.as_mut(), slot, &tokens[40..41]);
        assert!(apart(&made, &expected) < 1e-3, "{}, after its branch", case.name);
    }
}

#[test]
fn a_sequence_holds_bytes_by_its_length_until_it_is_closed_and_never_grows_beyond_the_context() {
    let tokens = tokens();
    for case in golden().cases {
        let mut decoder = case.decoder();
        let config = stock(&case.weights()).unwrap();
        let slot = decoder.open();
        assert_eq!(decoder.held_bytes(slot), 0, "{}", case.name);
        run(decoder.as_mut(), slot, &tokens[..90]);
        let held = decoder.held_bytes(slot);
        let exact = 90 * config.position_bytes();
        assert!((exact..=exact * 11 / 10 + 8192).contains(&held), "{}: {held}, of {exact}", case.name);
        let work = [Work { slot, tokens: &tokens.repeat(2), wants_logits: true }];
        let refused = decoder.run(&work, &mut |_, _| panic!("beyond the context")).unwrap_err();
        assert!(matches!(refused, Error::ContextExceeded { tokens: 282, .. }), "{refused}");
        decoder.close(slot);
        assert_eq!((decoder.open(), decoder.held_bytes(slot)), (slot, 0));
    }
}

#[test]
fn what_a_model_takes_is_said_before_the_load_and_what_a_sequence_takes_comes_back() {
    let tokens = tokens();
    for case in golden().cases {
        let weights = case.weights();
        let config = stock(&weights).unwrap();
        let (expected, copies) = (config.private_bytes(&weights) as i64, config.family.copies());
        let before = allocations::bytes();
        let mut decoder = load(weights, config, CONTEXT, &mut |_, _| {}).unwrap();
        let taken = allocations::bytes() - before;
        let off = (taken - expected).abs();
        assert!(off < expected * 15 / 100, "{}: {taken} bytes, {expected} expected", case.name);
        // The first sequence leaves what candle keeps for all of them.
        for round in 0..3 {
            let (slot, before) = (decoder.open(), allocations::bytes());
            run(decoder.as_mut(), slot, &tokens);
            let (held, grown) = (decoder.held_bytes(slot) as i64, allocations::bytes() - before);
            // What is written in place is allocated for up to 512 positions at once, and taken as it fills.
            let most = if copies == Copies::Empty { held * 512 / 96 } else { held };
            decoder.close(slot);
            let left = allocations::bytes() - before;
            // Forgotten is down to two positions where candle cannot forget all.
            if round > 0 {
                let allowed = held * 9 / 10..=most * 6 / 5 + 8192;
                assert!(allowed.contains(&grown), "{}: {grown}, not {held}", case.name);
                assert!(left.abs() < 8192, "{}: {left} bytes left", case.name);
            }
        }
    }
}

#[test]
fn every_stock_family_is_loaded_and_answers_two_at_once_as_one_after_the_other() {
    let letters: Vec<String> = (b'A'..b'A' + 40).map(|byte| char::from(byte).to_string()).collect();
    let generate = |id: u64, text: &str| Generate {
        id,
        session: format!("{id}"),
        prompt: Prompt::Text(text.to_owned()),
        sampling: Sampling { max_tokens: Some(12), ignore_eos: true, ..Sampling::greedy() },
        credits: 64,
    };
    for case in golden().cases {
        let file = case
            .file()
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.tokens", &letters)
            .texts::<&str>("tokenizer.ggml.merges", &[]);
        let mut on_disk = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut on_disk, &file.build()).unwrap();
        let role = FileRole::Gguf { part: 0 };
        let files = || vec![ModelFile { role, file: on_disk.try_clone().unwrap() }];
        let facts = ModelLoader.inspect(files()).unwrap();
        let family = case.name.split(' ').next().unwrap();
        assert_eq!((facts.family.as_str(), facts.context), (family, CONTEXT));
        let order = Load { model: String::new(), files: vec![role], context: Some(200), threads: 1 };
        let (mut model, ready) = ModelLoader.load(files(), &order, &mut |_, _, _| {}).unwrap();
        let code = if family == "phi2" { "phi" } else { family };
        assert_eq!((ready.served_by.as_str(), ready.context), (&*format!("candle quantized_{code}"), 200));
        let mut answers = BTreeMap::<u64, String>::new();
        for ids in [&[1, 2][..], &[3], &[4]] {
            for id in ids {
                model
                    .admit(generate(*id, if id % 2 == 1 { "THEQUICKBROWNFOX" } else { "ALAZYDOG" }))
                    .unwrap();
            }
            while model.step(&mut |made| match made {
                Made::Token { id, text } | Made::Done { id, text, .. } => {
                    answers.entry(id).or_default().push_str(&text);
                }
                Made::Failed { refusal, .. } => panic!("{}", refusal.message),
                Made::Held { .. } => {}
            }) {}
        }
        assert_eq!(answers[&1].len(), 12, "{}", case.name);
        assert_eq!([&answers[&1], &answers[&2]], [&answers[&3], &answers[&4]], "{}", case.name);
    }
}

#[test]
fn a_token_that_candle_cannot_look_up_is_an_error_and_the_next_sequence_is_whole() {
    let tokens = tokens();
    for case in golden().cases {
        let mut decoder = case.decoder();
        let slot = decoder.open();
        let expected = run(decoder.as_mut(), slot, &tokens[..30]);
        decoder.close(slot);
        let slot = decoder.open();
        let work = [Work { slot, tokens: &[1, 2, 4000], wants_logits: true }];
        let error = decoder.run(&work, &mut |_, _| panic!("no such token")).unwrap_err();
        assert!(matches!(error, Error::Compute(_)), "{error}");
        decoder.close(slot);
        let slot = decoder.open();
        assert!(apart(&run(decoder.as_mut(), slot, &tokens[..30]), &expected) < 1e-3, "{}", case.name);
    }
}

#[test]
fn a_step_that_is_left_in_the_middle_leaves_the_sequence_as_it_was() {
    let tokens = tokens();
    let mut decoder = case("lfm2").decoder();
    let slot = decoder.open();
    let expected = run(decoder.as_mut(), slot, &tokens[..60]);
    decoder.truncate(slot, 0);
    run(decoder.as_mut(), slot, &tokens[..10]);
    let work = [Work { slot, tokens: &tokens[10..60], wants_logits: true }];
    let asked = std::cell::Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 20
    };
    let left = decoder.run_while(&work, &go_on, &mut |_, _| panic!("it was left"));
    assert!(matches!(left, Err(Error::Interrupted)));
    assert!(apart(&run(decoder.as_mut(), slot, &tokens[10..60]), &expected) < 1e-3);
}

#[test]
fn what_candle_would_compute_otherwise_is_refused_by_name() {
    let refused = |case: Case| stock(&case.weights()).unwrap_err().to_string();
    for (name, key, value, words) in [
        ("phi3", "phi3.rope.freq_base", Key::Float(250_000.0), "base 250000"),
        ("phi3", "phi3.rope.dimension_count", Key::Count(12), "12 rotated numbers of 16"),
        ("phi3", "phi3.rope.scaling.attn_factor", Key::Float(1.19), "factor"),
        ("phi2", "phi2.attention.head_count_kv", Key::Count(2), "fewer heads of keys"),
        ("glm4", "glm4.rope.dimension_count", Key::Count(16), "16 rotated numbers of 16"),
        ("glm4", "glm4.rope.dimension_sections", Key::List(vec![8, 12, 12, 0]), "several dimensions"),
        ("lfm2", "lfm2.rope.scaling.type", Key::Text("linear".to_owned()), "scaled positions"),
    ] {
        let sentence = refused(case(name).with(key, value));
        assert!(sentence.contains(words) && sentence.contains(name), "{sentence}");
    }
    let mut factors = case("phi3");
    factors.tensors.push(("rope_factors_long.weight".to_owned(), vec![8], Values::Floats(0.1), 1.0));
    assert!(refused(factors).contains("phi3 with the tensor rope_factors_long.weight"));
    let mut tied = case("phi3");
    tied.tensors.retain(|tensor| tensor.0 != "output.weight");
    assert!(refused(tied).contains("output.weight"));
}

#[test]
fn headers_that_candle_would_divide_by_or_allocate_for_are_refused() {
    let refused = |case: Case| stock(&case.weights()).unwrap_err();
    for (name, key, value) in [
        ("phi3", "phi3.attention.head_count", Key::Count(0)),
        ("phi3", "phi3.attention.head_count_kv", Key::Count(3)),
        ("phi3", "phi3.attention.head_count_kv", Key::List(vec![0; 4])),
        ("phi2", "phi2.embedding_length", Key::Count(65)),
        ("phi2", "phi2.block_count", Key::Count(5)),
        ("phi2", "phi2.block_count", Key::Count(u32::MAX)),
        ("phi2", "phi2.feed_forward_length", Key::Count(1 << 17)),
        ("glm4", "glm4.attention.key_length", Key::Count(1 << 30)),
        ("glm4", "glm4.rope.dimension_count", Key::Count(7)),
        ("glm4", "glm4.rope.freq_base", Key::Float(0.0)),
        ("lfm2", "lfm2.attention.head_count_kv", Key::List(vec![0, 2])),
        ("lfm2", "lfm2.attention.head_count_kv", Key::List(vec![2; 4])),
        ("lfm2", "lfm2.shortconv.l_cache", Key::Count(0)),
        ("lfm2", "lfm2.shortconv.l_cache", Key::Count(u32::MAX)),
    ] {
        let error = refused(case(name).with(key, value));
        assert!(matches!(error, Error::Gguf(_) | Error::Family(_)), "{error}");
    }
    // However long the header says that it may be, tables are made for no more than is given.
    let long = case("glm4").with("glm4.context_length", Key::Count(1 << 24));
    assert_eq!(stock(&long.weights()).unwrap().context, 8192);
    let windowed = case("phi3").with("phi3.attention.sliding_window", Key::Count(100));
    assert_eq!(stock(&windowed.weights()).unwrap().context, 100);
}

#[test]
fn a_header_that_was_tampered_with_is_refused_or_served_and_never_ends_the_process() {
    let mut random = fixtures::Random::new(23);
    let mut served = 0;
    for case in golden().cases {
        let (whole, spans) = case.file().build_with_map();
        let fields: Vec<_> = spans
            .iter()
            .filter(|span| span.field != fixtures::Field::Weights && !span.at.is_empty())
            .collect();
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(2) {
                let field = fields[random.below(fields.len())].at.clone();
                let at = field.start + random.below(field.len());
                let any = random.any() as u8;
                bytes[at] = random.of(&[0, 1, 2, 3, 8, 64, 255, any]);
            }
            let mut on_disk = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut on_disk, &bytes).unwrap();
            let Ok(weights) = Weights::open(&[on_disk]) else { continue };
            let Ok(Design::Stock(config)) = Design::read(&weights) else { continue };
            let weights = Arc::new(weights);
            let Ok(mut decoder) = load(weights, config, CONTEXT, &mut |_, _| {}) else { continue };
            let slot = decoder.open();
            let work = [Work { slot, tokens: &[1, 2, 3], wants_logits: true }];
            served += usize::from(decoder.run(&work, &mut |_, _| {}).is_ok());
            decoder.close(slot);
        }
    }
    assert!(served > 40, "{served}");
}

#[test]
fn candles_models_of_families_of_ours_say_what_our_own_decoder_says() {
    for name in ["llama", "qwen2"] {
        let weights = families::weights(name);
        let config = LlamaConfig::read(&weights).unwrap();
        let design = StockConfig::of_own(&weights, &config).unwrap();
        let mut stock = load(Arc::clone(&weights), design, CONTEXT, &mut |_, _| {}).unwrap();
        let mut own = Llama::load(Arc::clone(&weights), config.clone(), CONTEXT, 1, &mut |_, _| {}).unwrap();
        let text: Vec<u32> = (0..40).map(|n| n * 7 % config.vocabulary).collect();
        for _ in 0..2 {
            let (slot, other) = (stock.open(), own.open());
            for tokens in [&text[..8], &text[8..9], &text[9..40]] {
                let (made, expected) = (run(stock.as_mut(), slot, tokens), run(&mut own, other, tokens));
                assert_eq!(likeliest(&made), likeliest(&expected));
                let size = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
                assert!(apart(&made, &expected) < 0.01 * size, "{name}");
            }
        }
    }
}

#[test]
fn candles_llama_is_cut_and_branched_only_as_a_whole() {
    let weights = families::weights("llama");
    let config = LlamaConfig::read(&weights).unwrap();
    let design = StockConfig::of_own(&weights, &config).unwrap();
    let position_bytes = design.position_bytes();
    let mut stock = load(weights, design, CONTEXT, &mut |_, _| {}).unwrap();
    let text: Vec<u32> = (0..20).map(|n| n * 7 % config.vocabulary).collect();
    let slot = stock.open();
    for tokens in [&text[..8], &text[8..9], &text[9..20]] {
        run(stock.as_mut(), slot, tokens);
    }
    // Masks of pieces of 8 and 11 tokens, which see 8 and 20 positions.
    assert_eq!(stock.held_bytes(slot), 20 * position_bytes + 8 * 8 + 11 * 20);
    let (branch, kept) = stock.branch(slot, 20);
    assert_eq!(kept, 20);
    assert_eq!(run(stock.as_mut(), branch, &[1, 2]), run(stock.as_mut(), slot, &[1, 2]));
    assert_eq!(stock.branch(slot, 3).1, 0);
    assert_eq!((stock.truncate(slot, 22), stock.truncate(slot, 3), stock.held_bytes(slot)), (22, 0, 0));
    stock.close(slot);
    assert_eq!(stock.open(), slot);
}

#[test]
fn what_candle_would_compute_otherwise_of_families_of_ours_is_refused_by_name() {
    for name in ["smollm3", "qwen3", "gemma3", "llama yarn", "llama factors", "llama magnitude"] {
        let weights = families::weights(name);
        let config = LlamaConfig::read(&weights).unwrap();
        let refused = StockConfig::of_own(&weights, &config).unwrap_err();
        assert!(refused.to_string().contains(&config.architecture), "{refused}");
    }
    let weights = families::weights("llama");
    let config = LlamaConfig::read(&weights).unwrap();
    let narrow = LlamaConfig { head_width: 8, ..config.clone() };
    assert!(StockConfig::of_own(&weights, &narrow).is_err());
    let mixture = LlamaConfig { experts: 4, ..config };
    let refused = StockConfig::of_own(&weights, &mixture).unwrap_err();
    assert!(refused.to_string().contains("all experts in one tensor"), "{refused}");
}

//! Every family and way of scaling positions against llama.cpp's logits of the same tiny random weights, which
//! `tests/golden/families.py` makes with the same generator.

use std::sync::Arc;

use serde::Deserialize;

use super::tests::step;
use super::*;
use crate::gguf::testing::Builder;

const HEAD: u64 = 16;
const Q: u64 = 4 * HEAD;
const KV: u64 = 2 * HEAD;
const FFN: u64 = 48;
const LAYERS: u64 = 7;
const VOCABULARY: u64 = 40;

#[derive(Deserialize)]
struct Golden {
    asked: Vec<usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    logits: Vec<Vec<f32>>,
}

/// What `tests/golden/families.py` and `stock.py` draw from.
pub(in crate::models) struct Random(pub(in crate::models) u64);

impl Random {
    /// As many values as the shape has, around `middle`.
    pub(in crate::models) fn many(&mut self, shape: &[u64], scale: f64, middle: f64) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        (0..shape.iter().product::<u64>()).map(|_| (middle + scale * next()) as f32).collect()
    }
}

/// Where the family allows it, heads are wider in sum than the model.
fn width_of(name: &str) -> u64 {
    if name == "qwen3" || name == "gemma3" { 32 } else { Q }
}

fn header(name: &str) -> Builder {
    let family = name.split(' ').next().unwrap();
    let width = width_of(name);
    let key = |name: &str| format!("{family}.{name}");
    let mut file = Builder::default().text("general.architecture", family);
    for (name, n) in [
        ("block_count", LAYERS),
        ("context_length", 256),
        ("embedding_length", width),
        ("feed_forward_length", FFN),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", HEAD),
        ("rope.dimension_count", HEAD),
    ] {
        file = file.u32(&key(name), n as u32);
    }
    file = file
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .f32(&key("rope.freq_base"), if family == "gemma3" { 1e6 } else { 1e4 });
    match name {
        "gemma3" => file.u32("gemma3.attention.sliding_window", 12),
        "llama linear" => {
            file.text(&key("rope.scaling.type"), "linear").f32(&key("rope.scaling.factor"), 4.0)
        }
        "llama yarn" => file
            .text(&key("rope.scaling.type"), "yarn")
            .f32(&key("rope.scaling.factor"), 4.0)
            .u32(&key("rope.scaling.original_context_length"), 64),
        "llama magnitude" => file.f32(&key("rope.scaling.attn_factor"), 0.5),
        _ => file,
    }
}

fn model(name: &str, threads: u32) -> Llama {
    let weights = weights(name);
    let config = LlamaConfig::read(&weights).unwrap();
    assert!(serves(&weights, &config));
    Llama::load(weights, config, 256, threads, &mut |_, _| {}).unwrap()
}

/// The file of a case.
pub(in crate::models) fn weights(name: &str) -> Arc<Weights> {
    let mut random = Random(11);
    let width = width_of(name);
    let mut file = header(name);
    let mut put = |file: Builder, name: &str, shape: &[u64], scale: f64, middle: f64| {
        file.floats(name, shape, &random.many(shape, scale, middle))
    };
    file = put(file, "token_embd.weight", &[width, VOCABULARY], 1.0, 0.0);
    file = put(file, "output.weight", &[width, VOCABULARY], 0.5, 0.0);
    file = put(file, "output_norm.weight", &[width], 0.3, 1.0);
    if name == "llama factors" {
        file = put(file, "rope_freqs.weight", &[HEAD / 2], 1.0, 2.0);
    }
    for layer in 0..LAYERS {
        let mut put = |what: &str, shape: &[u64], scale: f64, middle: f64| {
            file = put(std::mem::take(&mut file), &format!("blk.{layer}.{what}"), shape, scale, middle);
        };
        put("attn_norm.weight", &[width], 0.3, 1.0);
        put("ffn_norm.weight", &[width], 0.3, 1.0);
        put("attn_q.weight", &[width, Q], 0.4, 0.0);
        put("attn_k.weight", &[width, KV], 0.4, 0.0);
        put("attn_v.weight", &[width, KV], 0.4, 0.0);
        put("attn_output.weight", &[Q, width], 0.2, 0.0);
        put("ffn_gate.weight", &[width, FFN], 0.3, 0.0);
        put("ffn_up.weight", &[width, FFN], 0.3, 0.0);
        put("ffn_down.weight", &[FFN, width], 0.2, 0.0);
        if name == "qwen2" {
            for (what, n) in [("attn_q.bias", Q), ("attn_k.bias", KV), ("attn_v.bias", KV)] {
                put(what, &[n], 0.5, 0.0);
            }
        }
        if name == "qwen3" || name == "gemma3" {
            put("attn_q_norm.weight", &[HEAD], 0.3, 1.0);
            put("attn_k_norm.weight", &[HEAD], 0.3, 1.0);
        }
        if name == "gemma3" {
            put("post_attention_norm.weight", &[width], 0.3, 1.0);
            put("post_ffw_norm.weight", &[width], 0.3, 1.0);
        }
    }
    let mut on_disk = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut on_disk, &file.build()).unwrap();
    Arc::new(Weights::open(&[on_disk]).unwrap())
}

fn tokens() -> Vec<u32> {
    (0..96u32).map(|n| (7 * n * n + 3 * n + 1) % VOCABULARY as u32).collect()
}

#[test]
fn every_family_gives_llama_cpps_logits_at_every_asked_position() {
    let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/families.json")).unwrap();
    assert_eq!(golden.cases.len(), 8);
    let tokens = tokens();
    for case in &golden.cases {
        for level in [kernels::level(), Level::Avx2, Level::Portable] {
            let mut model = model(&case.name, 2);
            model.level = level;
            let slot = model.open();
            let mut from = 0;
            for (asked, expected) in golden.asked.iter().zip(&case.logits) {
                let made = step(&mut model, &[(slot, &tokens[from..=*asked])]).remove(&0).unwrap();
                from = asked + 1;
                let apart = made.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 0.02, "{} at {asked}, {level:?}: {apart} apart", case.name);
            }
        }
    }
}

#[test]
fn every_family_gives_the_same_bits_after_a_rewind_and_beside_another() {
    let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/families.json")).unwrap();
    let tokens = tokens();
    for case in &golden.cases {
        let mut plain = model(&case.name, 1);
        let slot = plain.open();
        let expected = step(&mut plain, &[(slot, &tokens)]).remove(&0).unwrap();
        let mut mixed = model(&case.name, 3);
        let (first, second) = (mixed.open(), mixed.open());
        step(&mut mixed, &[(second, &tokens[3..20]), (first, &tokens[..50])]);
        assert_eq!(mixed.truncate(first, 31), 31);
        step(&mut mixed, &[(first, &tokens[31..70]), (second, &tokens[..1])]);
        let made = step(&mut mixed, &[(second, &tokens[..9]), (first, &tokens[70..])]).remove(&1).unwrap();
        assert_eq!(made, expected, "{}", case.name);
    }
}

/// As llama.cpp does it (`rope_attn_factor`): cosine and sine both.
#[test]
fn the_files_attention_factor_multiplies_every_rotation() {
    let tokens = tokens();
    let mut with_factor = model("llama magnitude", 1);
    let slot = with_factor.open();
    let made = step(&mut with_factor, &[(slot, &tokens)]).remove(&0).unwrap();
    let mut plain = model("llama", 1);
    let slot = plain.open();
    let without = step(&mut plain, &[(slot, &tokens)]).remove(&0).unwrap();
    assert_ne!(made, without);
    for (rope, expected) in [(&with_factor.ropes[0], 0.5), (&plain.ropes[0], 1.0)] {
        let mut angles = Vec::new();
        rope.angles(5, &mut angles);
        for (cos, sin) in angles {
            assert!(((cos * cos + sin * sin).sqrt() - expected).abs() < 1e-6);
        }
    }
}

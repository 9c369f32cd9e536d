//! The engine against independent implementations, on the real files (tests/golden/README.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use link::{Embed, Finish, Generate, Prompt, Role, Turn};
use serde::Deserialize;
use support::{greedy, load, minilm, request, run, smollm2};
use worker::port::{Engine, Loader};

/// Where the oracle's two best logits are closer than this, either token is right, and the answer is compared no further.
/// (Every later token is compared where the decoder is tested, with the oracle's own tokens before it; there it is told how far
/// roundings move a logit.)
const EPSILON: f32 = 0.35;

#[derive(Deserialize)]
struct File<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Greedy {
    text: String,
    prompt_ids: Vec<u32>,
    /// Bytes of each token of the answer, as hexadecimal digits; the end token has none.
    pieces: Vec<String>,
    gaps: Vec<f32>,
}

#[derive(Deserialize)]
struct Embedding {
    text: String,
    tokens: u32,
    vector: Vec<f32>,
}

fn golden<T: for<'a> Deserialize<'a>>(json: &str) -> Vec<T> {
    serde_json::from_str::<File<T>>(json).unwrap().cases
}

fn bytes(pieces: &[String]) -> Vec<u8> {
    let digits = pieces.concat();
    (0..digits.len() / 2).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap()).collect()
}

#[test]
fn greedy_answers_are_the_oracles_up_to_its_first_close_call() {
    let (mut model, _) = load(smollm2(), Some(1024), 2);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (number, case) in golden::<Greedy>(include_str!("golden/greedy.json")).iter().enumerate() {
        let sure = case.gaps.iter().take_while(|gap| **gap >= EPSILON).count();
        let id = number as u64;
        let session = format!("s{number}");
        let admitted = model.admit(request(id, &session, &case.text, greedy(sure as u32))).unwrap();
        assert_eq!(admitted.prompt_tokens as usize, case.prompt_ids.len(), "{:?}", case.text);
        let outcome = run(&mut model, &[id]).remove(0);
        model.end_session(&session);
        compared += sure;
        // No answer of the file is sure up to its end token: there would be one piece fewer than gaps.
        let expected = bytes(&case.pieces[..sure]);
        let same_text = outcome.text == String::from_utf8_lossy(&expected);
        let whole =
            outcome.finish == Some(Finish::Length) && outcome.usage.completion_tokens as usize == sure;
        if !(same_text && whole) {
            wrong.push(format!(
                "{:?}: expected {:?}, got {outcome:?}",
                case.text,
                String::from_utf8_lossy(&expected)
            ));
        }
    }
    assert!(compared >= 350, "only {compared} tokens were compared");
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_conversation_is_the_text_that_the_files_template_makes_of_it() {
    let (mut model, ready) = load(smollm2(), Some(1024), 2);
    assert!(ready.facts.has_template);
    let case = golden::<Greedy>(include_str!("golden/greedy.json")).remove(0);
    let question = case.text.split("user\n").nth(1).unwrap().split("<|im_end|>").next().unwrap();
    let turn = Turn { role: Role::User, content: question.to_owned() };
    let conversation = Generate { prompt: Prompt::Chat(vec![turn]), ..request(1, "a", "", greedy(16)) };
    let tokens = model.admit(conversation).unwrap().prompt_tokens;
    assert_eq!(tokens as usize, case.prompt_ids.len());
    model.admit(request(2, "b", &case.text, greedy(16))).unwrap();
    let outcomes = run(&mut model, &[1, 2]);
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn embeddings_are_those_of_plain_arithmetic_whatever_the_batch() {
    let (mut model, ready) = load(minilm(), None, 2);
    assert!(ready.facts.embedding && ready.facts.width == 384);
    let cases: Vec<Embedding> = golden(include_str!("golden/embeddings.json"));
    let texts: Vec<String> = cases.iter().map(|case| case.text.clone()).collect();
    let together = model.embed(&Embed { id: 1, texts }).unwrap();
    assert_eq!(together.prompt_tokens, cases.iter().map(|case| case.tokens).sum::<u32>());
    for (case, vector) in cases.iter().zip(&together.vectors) {
        let alone = model.embed(&Embed { id: 2, texts: vec![case.text.clone()] }).unwrap();
        for made in [vector, &alone.vectors[0]] {
            let cosine: f32 = case.vector.iter().zip(made).map(|(a, b)| a * b).sum();
            assert!((cosine - 1.0).abs() < 1e-3, "{:?}: cosine {cosine}", case.text);
        }
    }
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    /// Sixteen-bit integers, little-endian, in hexadecimal digits.
    vector: String,
}

#[test]
fn fifty_texts_have_the_vectors_of_sentence_transformers() {
    let (mut model, _) = load(minilm(), None, 2);
    let cases: Vec<Sentence> = golden(include_str!("golden/sentences.json"));
    assert_eq!(cases.len(), 50);
    let texts = cases.iter().map(|case| case.text.clone()).collect();
    let made = model.embed(&Embed { id: 1, texts }).unwrap();
    let mut farthest = (0.0_f32, "");
    for (case, vector) in cases.iter().zip(&made.vectors) {
        let digits = bytes(std::slice::from_ref(&case.vector));
        let number = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32767.0;
        let expected: Vec<f32> = digits.chunks_exact(2).map(number).collect();
        assert_eq!(expected.len(), vector.len());
        let cosine: f32 = expected.iter().zip(vector).map(|(a, b)| a * b).sum();
        let off = (cosine - 1.0).abs();
        if off > farthest.0 {
            farthest = (off, &case.text);
        }
    }
    println!("the farthest cosine is off by {:.6}: {:?}", farthest.0, farthest.1);
    assert!(farthest.0 < 1e-3, "{farthest:?}");
}

#[test]
fn vectors_that_nobody_wants_any_more_are_left_and_those_after_them_are_as_ever() {
    let (mut model, _) = load(minilm(), None, 2);
    let mut embed = |id| model.embed(&Embed { id, texts: vec!["a room at the inn".to_owned()] });
    let before = embed(70).unwrap();
    worker::port::cancel(71);
    assert!(embed(71).unwrap_err().message.contains("left in the middle"));
    assert_eq!(embed(72).unwrap().vectors, before.vectors);
}

#[test]
fn facts_come_from_the_header_alone() {
    let facts = engine::ModelLoader.inspect(smollm2()).unwrap();
    assert_eq!((facts.family.as_str(), facts.quantization.as_str()), ("llama", "Q4_1"));
    assert_eq!((facts.layers, facts.width, facts.vocabulary, facts.context), (30, 576, 49_152, 8192));
    assert_eq!(facts.parameters, 134_515_008);
    let facts = engine::ModelLoader.inspect(minilm()).unwrap();
    assert!(facts.embedding);
    assert_eq!(facts.quantization, "F32");
}

//! Against golden ids (llama.cpp) and against Hugging Face's `tokenizers` on random texts.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as HuggingFace};

use super::*;

/// Larger than any text here.
const CONTEXT: u32 = 1 << 20;

#[derive(Deserialize)]
struct Golden<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Ids {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Rendered {
    turns: Vec<(String, String)>,
    text: String,
}

fn smollm2() -> Tokenizer {
    let folder = std::env::var("INNKEEPER_TEST_MODELS").expect(
        "INNKEEPER_TEST_MODELS is not set: `cargo xtask test` fetches the default models and sets it",
    );
    let file = File::open(format!("{folder}/smollm2.gguf")).unwrap();
    Tokenizer::new(Arc::new(Weights::open(&[file]).unwrap())).unwrap()
}

fn text_of(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    ids.iter().for_each(|id| tokenizer.decode(*id, &mut bytes));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn tricky_texts_become_the_oracles_tokens() {
    let tokenizer = smollm2();
    let golden: Golden<Ids> =
        serde_json::from_str(include_str!("../../tests/golden/tokenizer.json")).unwrap();
    assert!(golden.cases.len() > 40);
    for case in golden.cases {
        assert_eq!(tokenizer.encode(&case.text, CONTEXT).unwrap(), case.ids, "{:?}", case.text);
    }
}

#[test]
fn conversations_are_rendered_as_jinja_renders_them() {
    let tokenizer = smollm2();
    let source = tokenizer.weights.text("tokenizer.chat_template").unwrap().unwrap();
    let template =
        crate::template::Template::new(source, tokenizer.bos_text(), tokenizer.eos_text()).unwrap();
    let golden: Golden<Rendered> =
        serde_json::from_str(include_str!("../../tests/golden/template.json")).unwrap();
    for case in golden.cases {
        let turns: Vec<link::Turn> = case
            .turns
            .into_iter()
            .map(|(role, content)| {
                let role = match role.as_str() {
                    "system" => link::Role::System,
                    "user" => link::Role::User,
                    _ => link::Role::Assistant,
                };
                link::Turn { role, content }
            })
            .collect();
        assert_eq!(template.render(&turns).unwrap(), case.text);
    }
}

#[test]
fn a_text_that_fills_the_context_is_given_up_as_soon_as_that_is_certain() {
    let tokenizer = smollm2();
    let given_up_at = |text: &str| match tokenizer.encode(text, 100) {
        Err(Error::ContextExceeded { tokens, whole: false, context: 100 }) => tokens,
        other => panic!("{other:?}"),
    };
    // Two million tokens, of which a hundred are made; a text that is longer than a hundred of the longest tokens needs none.
    assert_eq!(given_up_at(&"a b ".repeat(2000)), 100);
    assert!(given_up_at(&"a b ".repeat(1 << 20)) > 100);
    assert_eq!(given_up_at(&"<|im_end|>".repeat(500)), 100);
    assert_eq!(tokenizer.encode(&"a ".repeat(49), 100).unwrap().len(), 50);
}

/// A vocabulary of single letters with this name of its way of cutting.
fn lettered(pre: &str, add_bos: Option<bool>) -> Tokenizer {
    let letters: Vec<String> = (b'a'..=b'z').map(|byte| char::from(byte).to_string()).collect();
    let file = crate::gguf::testing::Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .u32("tokenizer.ggml.bos_token_id", 25)
        .texts(TOKENS, &letters)
        .texts::<&str>(MERGES, &[]);
    let file = match add_bos {
        Some(flag) => file.bool("tokenizer.ggml.add_bos_token", flag),
        None => file,
    };
    let mut on_disk = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut on_disk, &file.build()).unwrap();
    Tokenizer::new(Arc::new(Weights::open(&[on_disk]).unwrap())).unwrap()
}

#[test]
fn the_begin_token_comes_first_where_llama_cpp_puts_it_and_where_the_file_says_so() {
    let made = |pre, flag| lettered(pre, flag).encode("a", CONTEXT).unwrap();
    for pre in ["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2", "tekken"] {
        assert_eq!(made(pre, None), [25, 0], "{pre}");
        assert_eq!(made(pre, Some(false)), [0], "{pre}");
    }
    for pre in ["smollm", "gpt-2", "qwen2", "dbrx", "smaug-bpe"] {
        assert_eq!(made(pre, None), [0], "{pre}");
        assert_eq!(made(pre, Some(true)), [25, 0], "{pre}");
    }
}

#[test]
fn the_files_end_tokens_are_known() {
    let tokenizer = smollm2();
    let id = |text: &str| tokenizer.encode(text, CONTEXT).unwrap()[0];
    assert!(tokenizer.is_end(id("<|im_end|>")));
    assert!(tokenizer.is_end(id("<|endoftext|>")));
    assert!(!tokenizer.is_end(id("<|im_start|>")));
    assert_eq!(text_of(&tokenizer, &[id("<|im_end|>")]), "");
}

/// The same vocabulary in Hugging Face's implementation.
fn hugging_face(tokenizer: &Tokenizer) -> HuggingFace {
    let file = tokenizer.weights.header_bytes();
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(&file[range]).unwrap().to_owned();
    let list = |key| tokenizer.weights.metadata().texts(file, key).unwrap().unwrap();
    let vocab: HashMap<String, u32> =
        list(TOKENS).into_iter().enumerate().map(|(id, range)| (text(range), id as u32)).collect();
    let merges = list(MERGES)
        .into_iter()
        .map(|range| text(range).split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
        .collect();
    let vocab: tokenizers::models::bpe::Vocab = vocab.into_iter().collect();
    let mut other = HuggingFace::new(BPE::builder().vocab_and_merges(vocab, merges).build().unwrap());
    let digits =
        Split::new(SplitPattern::Regex(r"\p{N}".to_owned()), SplitDelimiterBehavior::Isolated, false)
            .unwrap();
    let steps: Vec<PreTokenizerWrapper> = vec![digits.into(), ByteLevel::new(false, true, true).into()];
    other.with_pre_tokenizer(Some(Sequence::new(steps)));
    let specials = tokenizer.specials.iter().map(|id| AddedToken::from(tokenizer.raw(*id).to_owned(), true));
    other.add_special_tokens(specials).unwrap();
    other
}

fn pair() -> &'static (Tokenizer, HuggingFace) {
    static PAIR: OnceLock<(Tokenizer, HuggingFace)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let ours = smollm2();
        let other = hugging_face(&ours);
        (ours, other)
    })
}

proptest! {
    #[test]
    fn random_texts_become_hugging_faces_tokens_and_come_back(
        text in "\\PC{0,60}|[ a-zA-Z0-9\n\t'.,]{0,120}|([a-z]{1,8} ){0,20}|(<\\|im_(end|start)\\|>|x| ){0,8}"
    ) {
        let (ours, other) = pair();
        let ids = ours.encode(&text, CONTEXT).unwrap();
        let expected = other.encode_fast(text.as_str(), false).unwrap();
        prop_assert_eq!(&ids, expected.get_ids());
        if !text.contains("<|") {
            prop_assert_eq!(text_of(ours, &ids), text);
        }
    }
}

#[derive(Deserialize)]
struct Trained {
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<u32>,
    cases: Vec<Ids>,
}

/// The small vocabulary that SentencePiece has trained.
fn trained() -> (Tokenizer, Vec<Ids>) {
    let (trained, cases) = read_trained();
    (trained.tokenizer("llama"), cases)
}

fn read_trained() -> (Trained, Vec<Ids>) {
    let mut trained: Trained = serde_json::from_str(include_str!("../../tests/golden/pieces.json")).unwrap();
    let cases = std::mem::take(&mut trained.cases);
    (trained, cases)
}

impl Trained {
    /// In a file of this architecture.
    fn tokenizer(&self, architecture: &str) -> Tokenizer {
        let file = crate::gguf::testing::Builder::default()
            .text("general.architecture", architecture)
            .text("tokenizer.ggml.model", "llama")
            .texts(TOKENS, &self.tokens)
            .float_list(SCORES, &self.scores)
            .numbers(KINDS, &self.kinds)
            .u32("tokenizer.ggml.bos_token_id", 1)
            .build();
        let mut on_disk = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut on_disk, &file).unwrap();
        Tokenizer::new(Arc::new(Weights::open(&[on_disk]).unwrap())).unwrap()
    }
}

#[derive(Deserialize)]
struct Phi3 {
    specials: Vec<String>,
    texts: Vec<Ids>,
}

#[test]
fn special_tokens_of_phi3_swallow_the_space_after_them_and_those_of_other_families_do_not() {
    let phi3: Phi3 = serde_json::from_str(include_str!("../../tests/golden/stock.json")).unwrap();
    let (mut trained, _) = read_trained();
    trained.tokens.extend(phi3.specials.iter().cloned());
    trained.scores.resize(trained.tokens.len(), 0.0);
    trained.kinds.resize(trained.tokens.len(), u32::from(kind::CONTROL));
    let (tokenizer, other) = (trained.tokenizer("phi3"), trained.tokenizer("llama"));
    assert!(phi3.texts.len() > 5);
    for case in phi3.texts {
        assert_eq!(tokenizer.encode(&case.text, CONTEXT).unwrap(), case.ids, "{:?}", case.text);
    }
    let lengths = [&tokenizer, &other].map(|one| one.encode("<|user|> \nthe", CONTEXT).unwrap().len());
    assert!(lengths[0] < lengths[1], "{lengths:?}");
}

#[test]
fn pieces_are_sentencepieces_own_and_come_back_as_text() {
    let (tokenizer, cases) = trained();
    assert!(cases.len() > 200);
    for case in cases {
        let made = tokenizer.encode(&case.text, CONTEXT).unwrap();
        assert_eq!(made[0], 1, "the begin token");
        assert_eq!(made[1..], case.ids, "{:?}", case.text);
        if !case.text.is_empty() && !case.text.contains(pieces::SPACE) {
            assert_eq!(text_of(&tokenizer, &made), format!(" {}", case.text));
        }
    }
}

#[test]
fn a_special_token_in_the_text_begins_a_new_text() {
    let (tokenizer, _) = trained();
    let plain = tokenizer.encode("word", CONTEXT).unwrap();
    let both = tokenizer.encode("word</s>word", CONTEXT).unwrap();
    assert_eq!(both, [&plain[..], &[2], &plain[1..]].concat());
}

proptest! {
    #[test]
    fn any_text_of_pieces_comes_back(text in "\\PC{1,60}|[ a-z\n]{1,80}") {
        let (tokenizer, _) = trained();
        prop_assume!(!text.contains(pieces::SPACE) && !text.contains('<'));
        let ids = tokenizer.encode(&text, CONTEXT).unwrap();
        prop_assert_eq!(text_of(&tokenizer, &ids), format!(" {text}"));
    }
}

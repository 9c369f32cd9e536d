//! The scheduler with a decoder whose next token is a function of all tokens before, so that any mistake in what a
//! sequence has seen shows in its text.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use link::{ErrorCode, Sampling, Usage};
use proptest::prelude::*;

use super::*;
use crate::gguf::testing::Builder;
use crate::models::Slot;
use crate::weights::Weights;

/// Tokens are the 94 printable ASCII characters; the last one ends an answer.
const LETTERS: u32 = 94;
const END: u32 = LETTERS - 1;

fn tokenizer() -> Tokenizer {
    let tokens: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    let mut kinds = vec![1; tokens.len()];
    kinds[END as usize] = 3;
    let bytes = Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .u32("tokenizer.ggml.eos_token_id", END)
        .texts("tokenizer.ggml.tokens", &tokens)
        .numbers("tokenizer.ggml.token_type", &kinds)
        .texts::<&str>("tokenizer.ggml.merges", &[])
        .build();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    Tokenizer::new(Arc::new(Weights::open(&[file]).unwrap())).unwrap()
}

/// Remembers what each sequence has seen.
struct Memory {
    slots: BTreeMap<usize, Vec<u32>>,
    next: usize,
    context: u32,
    chunk: usize,
    /// Whether a part of a sequence can be kept.
    cuts: bool,
    fails: bool,
    abreast: usize,
}

impl Memory {
    fn new(context: u32) -> Self {
        Self {
            slots: BTreeMap::new(),
            next: 0,
            context,
            chunk: 100,
            cuts: true,
            fails: false,
            abreast: usize::MAX,
        }
    }
}

fn next_token(seen: &[u32]) -> u32 {
    let mut state = 17u32;
    for token in seen {
        state = state.wrapping_mul(31).wrapping_add(*token).rotate_left(7);
    }
    // The end comes seldom.
    if state.is_multiple_of(211) { END } else { state % END }
}

impl Decoder for Memory {
    fn context(&self) -> u32 {
        self.context
    }
    fn chunk(&self) -> usize {
        self.chunk
    }
    fn abreast(&self) -> usize {
        self.abreast
    }
    fn open(&mut self) -> Slot {
        self.next += 1;
        self.slots.insert(self.next, Vec::new());
        Slot(self.next)
    }
    fn close(&mut self, slot: Slot) {
        self.slots.remove(&slot.0).unwrap();
    }
    fn truncate(&mut self, slot: Slot, keep: usize) -> usize {
        let seen = self.slots.get_mut(&slot.0).unwrap();
        let kept = if self.cuts || seen.len() == keep { keep } else { 0 };
        seen.truncate(kept);
        kept
    }
    fn branch(&mut self, slot: Slot, keep: usize) -> (Slot, usize) {
        let new = self.open();
        let seen = &self.slots[&slot.0];
        let kept = if self.cuts || seen.len() == keep { keep } else { 0 };
        let seen = seen[..kept].to_vec();
        self.slots.insert(new.0, seen);
        (new, kept)
    }
    fn held_bytes(&self, slot: Slot) -> u64 {
        self.slots[&slot.0].len() as u64
    }
    fn run(&mut self, work: &[Work<'_>], logits: &mut dyn FnMut(usize, &mut [f32])) -> Result<(), Error> {
        if self.fails {
            return Err(Error::Compute("it broke".to_owned()));
        }
        assert!(work.len() <= self.abreast);
        for (number, work) in work.iter().enumerate() {
            let seen = self.slots.get_mut(&work.slot.0).unwrap();
            seen.extend(work.tokens);
            assert!(seen.len() <= self.context as usize);
            if work.wants_logits {
                let mut values = vec![0.0; LETTERS as usize];
                values[next_token(seen) as usize] = 1.0;
                logits(number, &mut values);
            }
        }
        let taken: usize = self.slots.values().map(|seen| seen.len().next_multiple_of(PAGE)).sum();
        assert!(taken <= (self.context as usize).next_multiple_of(PAGE), "the caches outgrew their room");
        Ok(())
    }
    fn run_while(
        &mut self,
        work: &[Work<'_>],
        go_on: &dyn Fn() -> bool,
        logits: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Error> {
        if go_on() { self.run(work, logits) } else { Err(Error::Interrupted) }
    }
    fn set_threads(&mut self, _: u32) {}
}

fn sampling(max_tokens: u32) -> Sampling {
    Sampling { max_tokens: Some(max_tokens), ..Sampling::greedy() }
}

fn order(id: u64, session: &str, prompt: &str, max_tokens: u32) -> Generate {
    let prompt = Prompt::Text(prompt.to_owned());
    Generate { id, session: session.to_owned(), prompt, sampling: sampling(max_tokens), credits: 64 }
}

fn chat(memory: Memory) -> Chat {
    Chat::new(tokenizer(), None, Box::new(memory), 0)
}

type Answers = BTreeMap<u64, (String, Option<Finish>, Usage)>;

fn note(answers: &mut Answers, made: Made) {
    match made {
        Made::Token { id, text } => answers.entry(id).or_default().0.push_str(&text),
        Made::Done { id, text, finish, usage, .. } => {
            let answer = answers.entry(id).or_default();
            assert!(answer.1.is_none(), "two ends");
            answer.0.push_str(&text);
            answer.1 = Some(finish);
            answer.2 = usage;
        }
        Made::Failed { id, .. } => panic!("{id} failed"),
        Made::Held { .. } => {}
    }
}

fn finish_all(chat: &mut Chat, answers: &mut Answers) {
    for _ in 0..100_000 {
        if !chat.step(&mut |made| note(answers, made)) {
            return;
        }
    }
    panic!("no end");
}

/// What the decoder's rule says, with no scheduler at all.
fn expected(prompt: &str, max_tokens: usize, context: usize) -> (String, Finish) {
    let mut seen: Vec<u32> = prompt.bytes().map(|byte| u32::from(byte - b'!')).collect();
    let mut text = String::new();
    loop {
        if text.len() == max_tokens || seen.len() == context {
            return (text, Finish::Length);
        }
        let token = next_token(&seen);
        if token == END {
            return (text, Finish::Stop);
        }
        seen.push(token);
        text.push(char::from(b'!' + token as u8));
    }
}

#[test]
fn a_cancelled_request_ends_in_the_next_step_with_one_done() {
    let mut chat = chat(Memory::new(1024));
    chat.admit(order(1, "s", &"a".repeat(900), 50)).unwrap();
    let mut answers = Answers::new();
    chat.step(&mut |made| note(&mut answers, made));
    chat.cancel(1);
    assert!(answers.is_empty());
    let more = chat.step(&mut |made| note(&mut answers, made));
    assert!(!more);
    assert_eq!(answers[&1].1, Some(Finish::Cancelled));
    chat.cancel(1);
    chat.cancel(99);
}

#[test]
fn a_cancelled_prompt_is_left_in_the_middle_of_its_chunk_and_others_lose_nothing() {
    // Numbers that no other test of this process cancels.
    let (long, other) = (1 << 50, (1 << 50) + 1);
    let mut chat = chat(Memory::new(1024));
    chat.admit(order(other, "b", "abc", 20)).unwrap();
    chat.admit(order(long, "a", &"a".repeat(700), 50)).unwrap();
    let mut answers = Answers::new();
    for _ in 0..3 {
        chat.step(&mut |made| note(&mut answers, made));
    }
    let (steps, made) = (chat.steps(), answers[&other].0.clone());
    worker::port::cancel(long);
    // Its order has not come yet.
    assert!(chat.step(&mut |made| note(&mut answers, made)));
    assert_eq!((chat.steps(), &answers[&other].0), (steps, &made), "the step was left");
    chat.cancel(long);
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&long].1, Some(Finish::Cancelled));
    assert_eq!(answers[&other].0, expected("abc", 20, 1024).0);
}

#[test]
fn a_paused_request_stays_as_it_is_and_the_others_go_on() {
    let mut chat = chat(Memory::new(1024));
    chat.admit(order(1, "a", "abc", 20)).unwrap();
    chat.admit(order(2, "b", "xyz", 20)).unwrap();
    chat.pause(1, true);
    let mut answers = Answers::new();
    finish_all(&mut chat, &mut answers);
    assert!(!answers.contains_key(&1));
    assert_eq!(answers[&2].0, expected("xyz", 20, 1024).0);
    chat.pause(1, false);
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&1].0, expected("abc", 20, 1024).0);
}

#[test]
fn where_one_sequence_has_room_answers_are_made_one_after_the_other() {
    let mut chat = chat(Memory { abreast: 1, ..Memory::new(1024) });
    let (mut answers, mut held) = (Answers::new(), BTreeMap::new());
    for (id, session, prompt) in [(1, "a", "abc"), (2, "b", "xyz"), (3, "a", "abcd")] {
        chat.admit(order(id, session, prompt, 20)).unwrap();
    }
    let mut order_of_ends = Vec::new();
    while chat.step(&mut |made| match made {
        Made::Held { session, bytes } => {
            held.insert(session, bytes);
        }
        other => {
            if let Made::Done { id, .. } = &other {
                order_of_ends.push(*id);
            }
            note(&mut answers, other);
        }
    }) {}
    assert_eq!(order_of_ends, [1, 2, 3]);
    for (id, prompt) in [(1, "abc"), (2, "xyz"), (3, "abcd")] {
        assert_eq!(answers[&id].0, expected(prompt, 20, 1024).0);
    }
    // The last one is kept, the others made room for those after them; another session's request takes that, too.
    assert!(held["a"] > 0 && held["b"] == 0, "{held:?}");
    let next = format!("abcd{}?", answers[&3].0);
    assert!(chat.admit(order(4, "a", &next, 5)).unwrap().cached_tokens > 4);
    finish_all(&mut chat, &mut answers);
    chat.admit(order(5, "b", "xyz", 5)).unwrap();
    assert_eq!(chat.held("a"), 0);
    // A paused one lets the next begin.
    chat.pause(5, true);
    chat.admit(order(6, "c", "uvw", 5)).unwrap();
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&6].0, expected("uvw", 5, 1024).0);
    assert!(!answers.contains_key(&5));
    chat.pause(5, false);
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&5].0, expected("xyz", 5, 1024).0);
}

#[test]
fn the_next_turn_reads_only_what_is_new_and_another_session_shares_nothing() {
    let mut chat = chat(Memory::new(1024));
    let mut answers = Answers::new();
    chat.admit(order(1, "s", "hello", 10)).unwrap();
    finish_all(&mut chat, &mut answers);
    let second = format!("hello{}more", answers[&1].0);
    let cached = chat.admit(order(2, "s", &second, 10)).unwrap().cached_tokens;
    assert_eq!(cached as usize, 5 + answers[&1].0.len() - 1);
    assert_eq!(chat.admit(order(3, "t", &second, 10)).unwrap().cached_tokens, 0);
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&2].0, expected(&second, 10, 1024).0);
    assert_eq!(answers[&2].0, answers[&3].0);
}

#[test]
fn a_conversation_survives_another_that_begins_with_the_same_instructions() {
    let mut chat = chat(Memory::new(2048));
    let mut answers = Answers::new();
    let instructions = "be brief and kind,".repeat(5);
    let mut turns: Vec<String> = ["about cats?", "now dogs, then?", "or fish?"]
        .iter()
        .map(|question| format!("{instructions}{}", question.repeat(8).replace(' ', "_")).replace(' ', "_"))
        .collect();
    for (id, prompt) in turns.iter().enumerate() {
        let cached = chat.admit(order(id as u64, "s", prompt, 30)).unwrap().cached_tokens as usize;
        assert_eq!(cached, if id == 0 { 0 } else { instructions.len() });
        finish_all(&mut chat, &mut answers);
    }
    for (id, prompt) in turns.iter_mut().enumerate() {
        let (answer, finish, _) = &answers[&(id as u64)];
        // An answer that was cut by its length has a last token that was never read.
        let whole = prompt.len() + answer.len() - usize::from(*finish == Some(Finish::Length));
        prompt.push_str(answer);
        prompt.push_str("go_on");
        let cached = chat.admit(order(10 + id as u64, "s", prompt, 30)).unwrap().cached_tokens as usize;
        assert_eq!(cached, whole, "the {id}th");
        finish_all(&mut chat, &mut answers);
        assert_eq!(answers[&(10 + id as u64)].0, expected(prompt, 30, 2048).0);
    }
}

#[test]
fn a_session_whose_conversation_made_room_for_another_is_told_to_hold_nothing() {
    let mut chat = chat(Memory::new(512));
    let mut held = BTreeMap::new();
    for (id, session) in [(1, "s"), (2, "t")] {
        chat.admit(order(id, session, &"a".repeat(400), 10)).unwrap();
        while chat.step(&mut |made| {
            if let Made::Held { session, bytes } = made {
                held.insert(session, bytes);
            }
        }) {}
        assert!(held[session] >= 400);
    }
    assert_eq!(held["s"], 0);
}

#[test]
fn a_short_prompt_waits_for_one_chunk_of_a_long_one_and_not_for_all_of_it() {
    let mut chat = chat(Memory::new(8192));
    let mut answers = Answers::new();
    chat.admit(order(1, "long", &"a".repeat(3000), 2)).unwrap();
    chat.step(&mut |made| note(&mut answers, made));
    chat.admit(order(2, "short", &"b".repeat(40), 2)).unwrap();
    chat.admit(order(3, "shorter", &"c".repeat(20), 2)).unwrap();
    chat.step(&mut |made| note(&mut answers, made));
    assert!(!answers.contains_key(&1));
    assert!(!answers[&2].0.is_empty() && !answers[&3].0.is_empty(), "{answers:?}");
    finish_all(&mut chat, &mut answers);
    assert_eq!(answers[&1].0, expected(&"a".repeat(3000), 2, 8192).0);
}

#[test]
fn while_an_answer_is_made_prompts_are_read_in_smaller_pieces() {
    let mut chat = chat(Memory::new(8192));
    let mut answers = Answers::new();
    chat.admit(order(1, "a", "abc", 60)).unwrap();
    chat.step(&mut |made| note(&mut answers, made));
    chat.admit(order(2, "b", &"x".repeat(CHUNK_BESIDE * 5), 5)).unwrap();
    for step in 0..5 {
        assert!(!answers.contains_key(&2), "in step {step}");
        chat.step(&mut |made| note(&mut answers, made));
    }
    assert!(answers.contains_key(&2));
    assert_eq!(answers[&1].0.len(), 6);
}

#[test]
fn an_ended_session_gives_its_bytes_back() {
    let mut chat = chat(Memory::new(1024));
    let mut held = 0;
    chat.admit(order(1, "s", "hello", 10)).unwrap();
    while chat.step(&mut |made| {
        if let Made::Held { session, bytes } = made {
            assert_eq!(session, "s");
            held = bytes;
        }
    }) {}
    assert!(held >= 5);
    assert_eq!(chat.end_session("s"), held);
    assert_eq!(chat.end_session("s"), 0);
}

#[test]
fn a_prompt_that_is_too_long_is_refused_with_numbers() {
    let mut chat = chat(Memory::new(100));
    let error = chat.admit(order(1, "s", &"a".repeat(100), 1)).unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("100 tokens"), "{sentence}");
    assert_eq!(error.code(), ErrorCode::ContextExceeded);
    chat.admit(order(2, "s", &"a".repeat(99), 1)).unwrap();
}

#[test]
fn a_conversation_without_a_template_is_refused() {
    let mut chat = chat(Memory::new(100));
    let request = Generate { prompt: Prompt::Chat(Vec::new()), ..order(1, "s", "", 1) };
    assert!(matches!(chat.admit(request), Err(Error::NoTemplate)));
}

#[test]
fn a_failing_decoder_ends_each_request_with_a_reason_and_the_next_one_is_taken() {
    let mut chat = chat(Memory { fails: true, ..Memory::new(1024) });
    chat.admit(order(1, "a", "abc", 20)).unwrap();
    chat.admit(order(2, "b", "abc", 20)).unwrap();
    let mut failed = Vec::new();
    while chat.step(&mut |made| {
        if let Made::Failed { id, refusal } = made {
            assert!(refusal.message.contains("it broke"));
            failed.push(id);
        }
    }) {}
    failed.sort_unstable();
    assert_eq!(failed, [1, 2]);
    chat.admit(order(3, "a", "abc", 20)).unwrap();
}

#[test]
fn no_token_asked_for_is_no_token_made() {
    let mut chat = chat(Memory::new(1024));
    chat.admit(order(1, "s", "abc", 0)).unwrap();
    let mut answers = Answers::new();
    finish_all(&mut chat, &mut answers);
    assert_eq!((answers[&1].0.as_str(), answers[&1].1), ("", Some(Finish::Length)));
}

/// What a client does.
#[derive(Clone, Debug)]
enum Move {
    Ask { session: u8, length: usize, most: u32 },
    Pause(u64, bool),
    Step,
    End(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0u8..4, 1usize..500, 1u32..80).prop_map(|(session, length, most)| Move::Ask { session, length, most }),
        2 => (0u64..12, any::<bool>()).prop_map(|(id, paused)| Move::Pause(id, paused)),
        8 => Just(Move::Step),
        1 => (0u8..4).prop_map(Move::End),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    #[test]
    fn every_answer_is_what_it_would_be_alone(moves in moves(), chunk in 1usize..300, cuts in any::<bool>()) {
        let context = 512;
        let mut chat = chat(Memory { chunk, cuts, ..Memory::new(context) });
        let mut answers = Answers::new();
        let mut asked = BTreeMap::new();
        for step in moves {
            match step {
                Move::Ask { session, length, most } => {
                    let id = asked.len() as u64;
                    // A few letters, so that prompts share prefixes.
                    let prompt: String = (0..length).map(|at| if at % 97 == 96 { char::from(b'a' + session) } else { 'x' }).collect();
                    chat.admit(order(id, &format!("s{session}"), &prompt, most)).unwrap();
                    asked.insert(id, (prompt, most));
                }
                Move::Pause(id, paused) => chat.pause(id, paused),
                Move::Step => { chat.step(&mut |made| note(&mut answers, made)); }
                Move::End(session) => { chat.end_session(&format!("s{session}")); }
            }
        }
        (0..asked.len() as u64).for_each(|id| chat.pause(id, false));
        finish_all(&mut chat, &mut answers);
        for (id, (prompt, most)) in asked {
            let (text, finish) = expected(&prompt, most as usize, context as usize);
            prop_assert_eq!(&answers[&id].0, &text);
            prop_assert_eq!(answers[&id].1, Some(finish));
            prop_assert_eq!(answers[&id].2.prompt_tokens as usize, prompt.len());
        }
    }
}

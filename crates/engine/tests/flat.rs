//! What a loaded model holds does not grow with what it has said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

mod support;

use std::fs::File;
use std::io::Write;

use engine::LoadedModel;
use link::{FileRole, Sampling};
use support::{greedy, load, request, run};
use worker::port::{Engine, ModelFile};

/// Of this process.
fn private_bytes() -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = smaps.lines().find(|line| line.starts_with("Pss_Anon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Eight new conversations at once, of so many tokens each.
fn talk(model: &mut LoadedModel, prompt: &str, round: u64, tokens: u32) -> u32 {
    let ids: Vec<u64> = (0..8).map(|n| round * 8 + n).collect();
    for id in &ids {
        let sampling = Sampling { ignore_eos: true, ..greedy(tokens) };
        model.admit(request(*id, &format!("session {id}"), prompt, sampling)).unwrap();
    }
    run(model, &ids).iter().map(|outcome| outcome.usage.completion_tokens).sum()
}

/// What is talked with, and how: a true file of the llama family whose answers are known and so cheap that ten thousand tokens
/// take a moment; in the long form, the file that `INNKEEPER_FLAT` names.
fn file() -> (File, String) {
    if let Some(path) = std::env::var_os("INNKEEPER_FLAT") {
        return (File::open(path).unwrap(), "Once upon a time, there was a".to_owned());
    }
    let counting = fixtures::Counting::new(0);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&counting.gguf().build()).unwrap();
    (file, counting.prompt(1))
}

#[test]
fn ten_thousand_tokens_at_the_caps_leave_no_more_than_the_first_two_thousand() {
    let (file, prompt) = file();
    // Room for four pages: every new conversation takes the place of an older one.
    let role = FileRole::Gguf { part: 0 };
    let (mut model, ready) = load(vec![ModelFile { role, file }], Some(1024), 2);
    assert_eq!(ready.context, 1024);
    let mut made = talk(&mut model, &prompt, 0, 128) + talk(&mut model, &prompt, 1, 128);
    let first = private_bytes();
    for round in 2..12 {
        made += talk(&mut model, &prompt, round, 128);
    }
    assert!(made >= 12_000, "{made} tokens");
    let last = private_bytes();
    println!("{first} bytes after two thousand tokens, {last} after {made}");
    assert!(last < first + (1 << 20), "{first} bytes after two thousand tokens, {last} after {made}");
}

//! Measures load, prefill and decode of a GGUF file: `measure FILE [THREADS] [PROMPT_TOKENS] [ANSWER_TOKENS] [SEQUENCES]
//! [TEMPERATURE]`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for developers"
)]

use std::fs::File;
use std::time::Instant;

use engine::ModelLoader;
use link::{FileRole, Generate, Load, Prompt, Sampling};
use worker::port::{Engine, Loader, Made, ModelFile};

fn private_bytes() -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let field = |name: &str| {
        let line = smaps.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    field("Pss_Anon:") + field("Pss_Shmem:") + field("SwapPss:")
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u32| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (threads, prompt, answer, sequences) = (number(2, 2), number(3, 256), number(4, 128), number(5, 1));
    let role = FileRole::Gguf { part: 0 };
    let files = vec![ModelFile { role, file: File::open(&arguments[1]).unwrap() }];
    let order = Load { model: String::new(), files: vec![role], context: None, threads };
    let start = Instant::now();
    let (mut model, ready) = ModelLoader.load(files, &order, &mut |_, _, _| {}).unwrap();
    println!("{}: context {}, threads {}", ready.served_by, ready.context, ready.threads);
    println!(
        "load {:.1} ms, private {:.1} MB",
        start.elapsed().as_secs_f64() * 1e3,
        private_bytes() as f64 / 1e6
    );
    let print = &ready.facts.footprint;
    println!(
        "expected: {:.1} MB at ready, {:.1} MB of scratch, {:.3} MB a thousand positions",
        (print.weights_bytes + print.runtime_bytes) as f64 / 1e6,
        print.scratch_bytes as f64 / 1e6,
        print.kv_bytes_per_token as f64 / 1e3
    );
    let temperature = arguments.get(6).map_or(0.0, |text| text.parse().unwrap());
    let most = Some(answer);
    let sampling =
        |seed| Sampling { seed, temperature, max_tokens: most, ignore_eos: true, ..Sampling::greedy() };
    let total = Instant::now();
    for id in 0..u64::from(sequences) {
        let text = format!("{id}{}", " the".repeat(prompt as usize - 1));
        let prompt = Prompt::Text(text);
        let request = Generate { id, session: format!("{id}"), prompt, sampling: sampling(id), credits: 64 };
        model.admit(request).unwrap();
    }
    let mut made = 0;
    let mut first = None;
    // On a shared machine the fastest step tells more than the mean.
    let (mut fastest, mut began) = (f64::INFINITY, Instant::now());
    while model.step(&mut |event| match event {
        Made::Token { .. } => {
            if first.is_some() {
                fastest = fastest.min(began.elapsed().as_secs_f64());
            }
            began = Instant::now();
            made += 1;
            first.get_or_insert_with(|| total.elapsed());
        }
        Made::Done { usage, timings, .. } => println!(
            "prefill {} tokens {:.1} tok/s, decode {:.1} tok/s",
            usage.prompt_tokens,
            f64::from(usage.prompt_tokens) / (timings.prefill_us as f64 / 1e6),
            f64::from(usage.completion_tokens - 1) / (timings.decode_us as f64 / 1e6),
        ),
        Made::Failed { refusal, .. } => println!("failed: {}", refusal.message),
        Made::Held { session, bytes } => println!("session {session} holds {:.1} MB", bytes as f64 / 1e6),
    }) {}
    let took = total.elapsed();
    println!(
        "first token {:.1} ms, {made} tokens in {:.1} ms, the fastest in {:.2} ms, private {:.1} MB",
        first.unwrap_or_default().as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3,
        fastest * 1e3,
        private_bytes() as f64 / 1e6
    );
}

//! Stock candle with a GGUF file of the llama family, for `cargo xtask bench --stock`: `stock FILE` prints a figure a line,
//! `name<TAB>value`, under the names and in the units of the bench. Threads are candle's: RAYON_NUM_THREADS.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for developers"
)]

use std::{fs::File, time::Instant};

use candle_core::{D, Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::quantized_llama::ModelWeights;

/// Answers are so long.
const ANSWER: usize = 64;
/// Some token of any vocabulary; what it says does not matter to the time that it takes.
const TOKEN: u32 = 260;

fn private_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    field("Pss_Anon:") + field("Pss_Shmem:") + field("SwapPss:")
}

/// Reads so many tokens from the beginning; returns the likeliest next one.
fn read(model: &mut ModelWeights, tokens: &[u32], at: usize) -> u32 {
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = model.forward(&input, at).unwrap();
    logits.argmax(D::Minus1).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap()[0]
}

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let began = Instant::now();
    let mut file = File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    println!("load to ready\t{:.3}", began.elapsed().as_secs_f64() * 1e3);
    println!("private memory, loaded\t{:.3}", private_bytes() as f64 / 1e6);
    for tokens in [128, 512] {
        let prompt = vec![TOKEN; tokens];
        let began = Instant::now();
        read(&mut model, &prompt, 0);
        println!("prompt of {tokens}\t{:.3}", tokens as f64 / began.elapsed().as_secs_f64());
    }
    for context in [0, 1000] {
        let prompt = vec![TOKEN; context.max(8)];
        let mut next = read(&mut model, &prompt, 0);
        let began = Instant::now();
        for step in 1..ANSWER {
            next = read(&mut model, &[next], prompt.len() + step - 1);
        }
        println!("decode at {context}\t{:.3}", (ANSWER - 1) as f64 / began.elapsed().as_secs_f64());
    }
}

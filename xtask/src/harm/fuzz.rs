//! The readers of strangers' files, fed by a fuzzer that looks at which branches its bytes reach (`fuzz/`). The house's own
//! compiler is enough for that; for a sanitizer beside it there is cargo-fuzz and a nightly one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use fixtures::{Bert, Counting, Random};

use super::{
    Ground,
    report::{Figures, Outcome},
};

const TARGETS: [&str; 5] = ["gguf", "safetensors", "tokenizer", "template", "frames"];
/// For each of them.
const SECONDS: u64 = 60;
/// The compiler counts branches for the fuzzer, and looks for overflows as in a debug build. Source: what cargo-fuzz sets.
const COUNTED: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

pub(super) fn fuzz(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    if ground.options.short {
        return Ok(Outcome::Skipped("it takes a build of its own".to_owned()));
    }
    let folder = ground.places.target.join("fuzz");
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    ground
        .places
        .cargo()
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", COUNTED)
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &machine])
        .run()?;
    let mut figures = Figures::default().with("seconds_each", SECONDS);
    for target in TARGETS {
        let runs = run(&folder, &folder.join(&machine).join("release").join(target), target, random.any())?;
        figures = figures.with(&format!("{target}_inputs"), runs);
    }
    figures.held()
}

/// How many inputs were tried; an error if one made the reader panic, hang or take too much.
fn run(folder: &Path, program: &Path, target: &str, seed: u64) -> Result<u64> {
    let corpus = seeds(&folder.join("corpus").join(target), target)?;
    let found = folder.join("found").join(target);
    fs::create_dir_all(&found)?;
    let output = Command::new(program)
        .args([format!("-max_total_time={SECONDS}"), format!("-seed={}", seed % u64::from(u32::MAX))])
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(corpus)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last =
        || said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" | ");
    ensure!(output.status.success(), "{target}: {} ({})", output.status, last());
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    runs.and_then(|runs| runs.trim().parse().ok())
        .with_context(|| format!("{target} told no figures: {}", last()))
}

/// A folder with sound inputs to begin with.
fn seeds(folder: &Path, target: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let bert = Bert::default();
    let sound: Vec<u8> = match target {
        "gguf" => Counting::new(0).gguf().build(),
        "safetensors" => bert.safetensors(),
        "tokenizer" => bert.tokenizer.to_string().into_bytes(),
        "template" => {
            b"{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}".to_vec()
        }
        _ => Vec::new(),
    };
    fs::write(folder.join("sound"), sound)?;
    Ok(folder.to_owned())
}

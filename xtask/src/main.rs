//! The chores of the house: `cargo xtask run | test | build | check | harm | bench | emulate`.
//!
//! Owns how the product is put together from its two halves and which checks it must pass. Knows no word of the
//! product's own: it calls cargo, npm and the finished program, and says what it calls.

mod bench;
mod browser;
mod budget;
mod check;
mod clients;
mod emulate;
mod front;
mod harm;
mod models;
mod places;
mod processes;
mod product;
mod rust_tests;
mod scan;
mod squeeze;
mod stamp;
mod steps;
mod test;
mod tool;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{places::Places, steps::Steps};

/// Innkeeper's chores. Each one says what it does, about how long it takes, and how to mend what is missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build, fetch the default models when they are not there yet, and serve
    #[command(after_help = "Example: cargo xtask run -- --listen 127.0.0.1:9000 --preload smollm2")]
    Run {
        /// Arguments for `innkeeper serve`
        #[arg(last = true)]
        serve: Vec<String>,
    },
    /// Leave one self-contained file, release/innkeeper in the target folder: pages, WASM and CSS inside
    Build,
    /// Format, clippy for both targets, docs, what the browser's half may contain, sizes, paths
    Check,
    /// Measure the finished program, and a peer in turn with it: `cargo xtask build` first
    #[command(after_help = "Example: cargo xtask bench --peer /usr/local/bin/llama-server --quick")]
    Bench(bench::Options),
    /// Everything: checks, build, models, cargo tests, client SDKs, browser tests
    #[command(after_help = "Example: cargo xtask test browser -- -g 'clean up' --project hydrate")]
    Test {
        /// Only these parts
        #[arg(value_enum)]
        parts: Vec<test::Part>,
        /// Arguments for Playwright
        #[arg(last = true)]
        playwright: Vec<String>,
    },
    /// Try to break what is promised: kill, stop, starve and mislead the finished program, with a report
    #[command(after_help = "Example: cargo xtask harm --only storm --seed 7")]
    Harm(harm::Options),
    /// The kernels' tests on processors that this machine is not: NEON under qemu, AVX-512 in Bochs
    #[command(after_help = "Example: cargo xtask emulate avx512 -- rows")]
    Emulate(emulate::Options),
}

fn main() -> ExitCode {
    match done(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            steps::say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn done(chore: Chore) -> Result<()> {
    let places = Places::find()?;
    let mut steps = Steps::new();
    match chore {
        Chore::Run { serve } => product::run(&places, &mut steps, &serve),
        Chore::Build => product::build(&places, &mut steps).map(|program| {
            steps::say(&format!("built {}", program.display()));
        }),
        Chore::Bench(options) => bench::all(&places, &mut steps, &options),
        Chore::Check => {
            check::all(&places, &mut steps);
            steps.finish()
        }
        Chore::Harm(options) => {
            let program = match &options.program {
                Some(program) => program.clone(),
                None => product::build(&places, &mut steps)?,
            };
            harm::run(&places, &options, program)
        }
        Chore::Emulate(options) => emulate::all(&places, &mut steps, &options),
        Chore::Test { parts, playwright } => test::all(&places, &mut steps, &parts, &playwright),
    }
}

//! `cargo xtask test`: everything that must pass, in one run, with a table at the end.

use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{browser, check, clients, harm, models, places::Places, product, rust_tests, steps::Steps};

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Format, lints, docs, sizes, paths
    Check,
    /// cargo test
    Rust,
    /// The short form of `cargo xtask harm`
    Harm,
    /// Playwright: pages and API, with real clients
    Browser,
}

/// Runs the parts, all when none is named.
pub(crate) fn all(places: &Places, steps: &mut Steps, parts: &[Part], playwright: &[String]) -> Result<()> {
    let wanted = |part: Part| parts.is_empty() || parts.contains(&part);
    if wanted(Part::Check) {
        check::all(places, steps);
    }
    let mut counted = None;
    if [Part::Rust, Part::Harm, Part::Browser].into_iter().any(wanted) {
        match product::build(places, steps).and_then(|program| {
            let models = models::for_tests(places, &program, steps)?;
            Ok((program, models))
        }) {
            Ok((program, models)) => {
                if wanted(Part::Rust) {
                    rust(places, steps, &models);
                }
                if wanted(Part::Harm) {
                    let options = harm::Options { seed: 1, short: true, only: Vec::new(), program: None };
                    steps.attempt("harm", "its short form, about a minute and a half", || {
                        harm::run(places, &options, program.clone())
                    });
                }
                if wanted(Part::Browser) {
                    counted = browser_part(places, steps, &program, &models, playwright);
                }
            }
            Err(error) => {
                let reason = format!("needs the program and its models: {error:#}");
                for part in [Part::Rust, Part::Harm, Part::Browser].into_iter().filter(|part| wanted(*part)) {
                    let name = match part {
                        Part::Rust => "cargo test",
                        Part::Harm => "harm",
                        Part::Check | Part::Browser => "browser tests",
                    };
                    steps.not_run(name, &reason);
                }
            }
        }
    }
    let outcome = steps.finish();
    if let Some(count) = counted {
        closing_line(count);
    }
    outcome
}

fn rust(places: &Places, steps: &mut Steps, models: &Path) {
    steps.attempt("cargo test", "all crates, about 5 minutes the first time", || {
        rust_tests::run(places, models)
    });
    steps.attempt("cargo test of xtask", "under a minute", || {
        places.cargo().args(["test", "--release", "--package", "xtask"]).run()
    });
}

fn browser_part(
    places: &Places,
    steps: &mut Steps,
    program: &Path,
    models: &Path,
    playwright: &[String],
) -> Option<browser::Count> {
    let chromium = steps.attempt("chromium", "looked for, installed when missing", browser::chromium);
    let packages =
        steps.attempt("npm packages", "as the lock file says, about 10 s", || browser::packages(places));
    if packages.is_some() {
        steps.attempt("test types", "tsc, about 5 s", || browser::types(places));
    }
    let python =
        steps.attempt("python SDK", "an environment of its own, about 20 s", || clients::python(places));
    let (Some(chromium), Some(()), Some(python)) = (chromium, packages, python) else {
        steps.not_run("browser tests", "need Chromium, npm and python3, see above");
        return None;
    };
    let means = browser::Means { program, chromium: &chromium, models, python: &python };
    let mut counted = None;
    steps.attempt("browser tests", "Playwright, about 5 minutes", || {
        let count = browser::run(places, &means, playwright)?;
        counted = Some(count);
        match count {
            browser::Count { failed: 0, passed: 1.. } => Ok(()),
            browser::Count { passed, failed } => bail!("{passed} passed, {failed} failed"),
        }
    });
    counted
}

/// The last line, for programs that count: cargo test has said its numbers in lines of its own.
#[expect(clippy::print_stdout, reason = "the one line that xtask has for programs")]
fn closing_line(count: browser::Count) {
    println!("{} passed, {} failed", count.passed, count.failed);
}

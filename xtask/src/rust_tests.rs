//! `cargo test`, its programs some at a time: cargo itself runs them one after the other, and most of their time is
//! waiting. What each says is printed whole when it has ended.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{places::Places, processes::now};

/// One program of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    /// As a person knows it: `manager`, `server predictions`.
    name: String,
    executable: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
    /// Tests of a whole package, which start processes and wait for them.
    from_outside: bool,
}

/// Programs at a time for each core: one that waits leaves its core to another.
const BY_CORE: usize = 2;

/// Builds the tests of the workspace and runs them all. Each program has its own process and its own folders, as under
/// cargo; so what passes there passes here.
pub(crate) fn run(places: &Places, models: &Path) -> Result<()> {
    let built = places
        .cargo()
        // xtask's own dependencies would change the features of what it shares with the product, and candle would be
        // compiled a second time.
        .args(["test", "--release", "--workspace", "--exclude", "frontend", "--exclude", "xtask"])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .answer()?;
    let mut programs = programs(&built)?;
    if programs.is_empty() {
        bail!("cargo built no test");
    }
    // The long ones first, so that none of them is left alone at the end. The queue is taken from its end.
    programs.sort_by_key(|program| program.from_outside);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(programs);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..cores * BY_CORE {
            scope.spawn(|| {
                while let Some(program) = take(&queue) {
                    let began = now();
                    let (passed, words) = told(&program.name, program.run(models), began.elapsed());
                    // Nobody may read any more.
                    let _ = stdout().lock().write_all(&words);
                    if !passed {
                        let which = [&[program.name][..], &failures(&words)].concat().join(" ");
                        failed.lock().unwrap_or_else(|broken| broken.into_inner()).push(which);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(|broken| broken.into_inner());
    if failed.is_empty() { Ok(()) } else { bail!("tests failed in {}", failed.join(", ")) }
}

/// Builds the tests of one package, which has one program of them.
pub(crate) fn program_of(places: &Places, package: &str) -> Result<PathBuf> {
    let built = places
        .cargo()
        .args(["test", "--release", "--package", package, "--lib"])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .answer()?;
    let program = programs(&built)?.pop().context("cargo built no test")?;
    Ok(program.executable)
}

/// The next one.
fn take(queue: &Mutex<Vec<Program>>) -> Option<Program> {
    queue.lock().unwrap_or_else(|broken| broken.into_inner()).pop()
}

impl Program {
    fn run(&self, models: &Path) -> Result<Output> {
        Command::new(&self.executable)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("INNKEEPER_TEST_MODELS", models)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.executable.display()))
    }
}

/// Whether all tests of a program passed, and what there is to say about it.
fn told(name: &str, outcome: Result<Output>, took: Duration) -> (bool, Vec<u8>) {
    let output = match outcome {
        Ok(output) => output,
        Err(error) => return (false, format!("\n     {name} FAILED: {error:#}\n").into_bytes()),
    };
    let passed = output.status.success();
    let words = if passed { "passed".to_owned() } else { format!("FAILED, {}", output.status) };
    let head = format!("\n     Running {name}: {words} in {:.1} s\n", took.as_secs_f64());
    (passed, [head.as_bytes(), &output.stdout, &output.stderr].concat())
}

/// The tests that failed, by the lines that libtest writes, and those that test with processes of their own.
fn failures(words: &[u8]) -> Vec<String> {
    let words = String::from_utf8_lossy(words);
    let name = |line: &str| Some(line.strip_prefix("test ")?.split_once(" ... FAILED")?.0.to_owned());
    words.lines().filter_map(name).collect()
}

/// The test programs among what cargo said that it built.
fn programs(told: &str) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for line in told.lines().filter(|line| line.starts_with('{')) {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's message is not JSON")?;
        let (Some(executable), Some(true)) =
            (message["executable"].as_str(), message["profile"]["test"].as_bool())
        else {
            continue;
        };
        let manifest = Path::new(message["manifest_path"].as_str().context("a test has no manifest_path")?);
        let folder = manifest.parent().context("a manifest lies in no folder")?.to_owned();
        let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let from_outside = message["target"]["kind"][0] == "test";
        let target = message["target"]["name"].as_str().unwrap_or_default();
        found.push(Program {
            name: if target == package { package } else { format!("{package} {target}") },
            executable: PathBuf::from(executable),
            folder,
            from_outside,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_told_from_what_else_cargo_built() {
        let told = r#"
{"reason":"compiler-artifact","manifest_path":"/w/crates/link/Cargo.toml","target":{"kind":["lib"],"name":"link"},"profile":{"test":true},"executable":"/t/link-1"}
{"reason":"compiler-artifact","manifest_path":"/w/crates/link/Cargo.toml","target":{"kind":["test"],"name":"wire"},"profile":{"test":true},"executable":"/t/wire-1"}
{"reason":"compiler-artifact","manifest_path":"/w/server/Cargo.toml","target":{"kind":["bin"],"name":"innkeeper"},"profile":{"test":false},"executable":"/t/innkeeper"}
{"reason":"compiler-artifact","manifest_path":"/w/crates/link/Cargo.toml","target":{"kind":["lib"],"name":"link"},"profile":{"test":false},"executable":null}
{"reason":"build-finished","success":true}
"#;
        let found = programs(told).unwrap();
        let names: Vec<_> =
            found.iter().map(|program| (program.name.as_str(), program.from_outside)).collect();
        assert_eq!(names, [("link", false), ("link wire", true)]);
        assert_eq!(found[0].folder, Path::new("/w/crates/link"));
    }

    #[test]
    fn the_tests_that_failed_are_named() {
        let words = "running 2 tests\ntest house::stays ... ok\ntest house::falls ... FAILED\n\nfailures:\n    house::falls\n\
            test leans ... FAILED (exit status: 101)\n";
        assert_eq!(failures(words.as_bytes()), ["house::falls", "leans"]);
    }

    #[test]
    fn a_failed_test_is_a_failure_and_a_program_that_is_not_there_is_one_too() {
        let program = |path: &str| Program {
            name: "it".to_owned(),
            executable: PathBuf::from(path),
            folder: PathBuf::from("/"),
            from_outside: false,
        };
        let ended = |path: &str| told("it", program(path).run(Path::new("/")), Duration::ZERO);
        assert!(ended("/bin/true").0);
        let (passed, words) = ended("/bin/false");
        assert!(!passed && String::from_utf8(words).unwrap().contains("it: FAILED, exit status: 1"));
        assert!(!ended("/no/such/program").0);
    }
}

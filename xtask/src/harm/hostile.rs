//! Broken model files through real workers: the test of the server that does it, with more files.

use anyhow::{Context, Result, ensure};
use fixtures::Random;
use serde_json::{Map, Value};

use super::{
    Ground,
    report::{Figures, Outcome},
};

/// What the test's line of figures begins with.
const LINE: &str = "hostile figures: ";

pub(super) fn hostile(ground: &Ground<'_>, random: &mut Random) -> Result<Outcome> {
    if ground.options.short {
        return Ok(Outcome::Skipped("`cargo test` has run its short form".to_owned()));
    }
    let said = ground
        .places
        .cargo()
        .env("INNKEEPER_HOSTILE_FILES", "10000")
        .env("INNKEEPER_HOSTILE_SEED", random.any().to_string())
        .args(["test", "--release", "--workspace", "--exclude", "frontend", "--exclude", "xtask"])
        .args(["--test", "hostile", "--", "--nocapture"])
        .capture()?;
    let line = said.lines().find_map(|line| line.split_once(LINE)).context("the test said no figures")?.1;
    let figures: Map<String, Value> = serde_json::from_str(line)?;
    ensure!(figures.get("files").and_then(Value::as_u64) == Some(10_000), "not all files: {line}");
    Figures::from(figures).held()
}

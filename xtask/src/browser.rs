//! The browser tests: Chromium from the system, Playwright from npm, one run, its numbers.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    places::Places,
    stamp::{self, Stamps},
    steps,
    tool::{Tool, which},
};

const HOW_TO_GET_CHROMIUM: &str =
    "Install Chromium (on Debian: `apt-get install chromium`) or name one with CHROMIUM=/path/to/it.";

/// Finds Chromium, or installs it where that is possible.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(given) = env::var_os("CHROMIUM") {
        let given = PathBuf::from(given);
        return if given.is_file() {
            Ok(given)
        } else {
            bail!("CHROMIUM names {}, which is no file", given.display())
        };
    }
    if let Some(found) = find_chromium() {
        return Ok(found);
    }
    let root = Tool::new("id").args(["-u"]).capture().is_ok_and(|id| id.trim() == "0");
    if !root || which("apt-get").is_none() {
        bail!("there is no Chromium. {HOW_TO_GET_CHROMIUM}");
    }
    steps::say("there is no Chromium; installing Debian's, about a minute");
    let apt = || Tool::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").mend(HOW_TO_GET_CHROMIUM);
    apt().args(["update", "--quiet"]).run()?;
    apt().args(["install", "--quiet", "--yes", "--no-install-recommends", "chromium"]).run()?;
    find_chromium()
        .with_context(|| format!("Chromium was installed but cannot be found. {HOW_TO_GET_CHROMIUM}"))
}

fn find_chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].into_iter().find_map(which)
}

/// Installs the npm packages of the browser tests as their lock file says.
pub(crate) fn packages(places: &Places) -> Result<()> {
    let lock = fs::read(places.end2end().join("package-lock.json"))?;
    let digest = stamp::digest([("package-lock.json", lock.as_slice())]);
    let installed = places.end2end().join("node_modules/.package-lock.json");
    Stamps::in_dir(places.stamps()).unless_fresh("npm", &digest, &[&installed], || {
        Tool::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .dir(&places.end2end())
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
            .mend("Node 20 or newer with npm is needed for the browser tests: on Debian, `apt-get install npm`.")
            .run()
    })?;
    Ok(())
}

/// Looks at the types of the tests: Playwright itself would only strip them.
pub(crate) fn types(places: &Places) -> Result<()> {
    Tool::new("node").args(["node_modules/typescript/bin/tsc", "--noEmit"]).dir(&places.end2end()).run()
}

/// What the browser tests need to know.
pub(crate) struct Means<'a> {
    /// The program under test.
    pub(crate) program: &'a Path,
    /// The browser.
    pub(crate) chromium: &'a Path,
    /// A folder with the default models.
    pub(crate) models: &'a Path,
    /// A Python that has the official SDK.
    pub(crate) python: &'a Path,
}

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// As expected, at once.
    pub(crate) passed: u64,
    /// Everything else that ran.
    pub(crate) failed: u64,
}

/// Runs Playwright; its own words go to the terminal.
pub(crate) fn run(places: &Places, means: &Means<'_>, arguments: &[String]) -> Result<Count> {
    let report = places.target.join("end2end.json");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let outcome = Tool::new("node")
        .args(["node_modules/@playwright/test/cli.js", "test"])
        .args(arguments)
        .dir(&places.end2end())
        .env("INNKEEPER_BIN", means.program)
        .env("INNKEEPER_TEST_MODELS", means.models)
        .env("INNKEEPER_PYTHON", means.python)
        .env("INNKEEPER_REPORT", &report)
        .env("CHROMIUM", means.chromium)
        .env("CI", "true")
        .run();
    let text = fs::read_to_string(&report);
    let count = match (&text, outcome) {
        (Ok(text), _) => count(text)?,
        (Err(_), Err(error)) => return Err(error.context("Playwright left no report")),
        (Err(_), Ok(())) => bail!("Playwright left no report"),
    };
    Ok(count)
}

/// The numbers in Playwright's JSON report. A test that passed when it was tried again is said so and has passed: real
/// processes, real time and a shared machine now and then miss a deadline that the next try keeps with ease.
fn count(report: &str) -> Result<Count> {
    let report: serde_json::Value =
        serde_json::from_str(report).context("Playwright's report is not JSON")?;
    let number =
        |key: &str| report["stats"][key].as_u64().with_context(|| format!("the report has no stats.{key}"));
    let errors = report["errors"].as_array().map_or(0, Vec::len) as u64;
    let flaky = number("flaky")?;
    if flaky > 0 {
        steps::say(&format!("{flaky} browser tests passed only when tried again; the list above names them"));
    }
    Ok(Count { passed: number("expected")? + flaky, failed: number("unexpected")? + errors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_outside_of_tests_counts_as_failed_and_a_second_try_may_pass() {
        let report = r#"{"stats":{"expected":7,"unexpected":1,"flaky":2,"skipped":3},"errors":[{"message":"no server"}]}"#;
        assert_eq!(count(report).unwrap(), Count { passed: 9, failed: 2 });
    }

    #[test]
    fn a_report_without_numbers_is_no_success() {
        assert!(count("{}").is_err());
        assert!(count("").is_err());
    }
}

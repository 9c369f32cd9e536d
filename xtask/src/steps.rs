//! What was done, how long it took, how it ended: printed as it goes and once more at the end.
//!
//! Everything goes to stderr, since `xtask run` becomes the server, whose stdout is its URL alone.

use std::{fmt::Write, time::Duration};

use anyhow::{Result, bail};

use crate::processes::now;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Done,
    /// With its reason: who reads the end of a long log sees no more than the table.
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct Row {
    name: String,
    took: Duration,
    end: End,
}

/// The steps of one chore.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    rows: Vec<Row>,
}

/// One line for a person.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

impl Steps {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Does one step: says what and about how long, and notes how it ended.
    pub(crate) fn step<T>(&mut self, name: &str, about: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        say(&format!("{name}: {about}"));
        let began = now();
        let result = work();
        let end = result.as_ref().map_or_else(|error| End::Failed(format!("{error:#}")), |_| End::Done);
        self.rows.push(Row { name: name.to_owned(), took: began.elapsed(), end });
        result
    }

    /// The same for a step that others do not depend on: a failure is told, noted, and the rest goes on.
    pub(crate) fn attempt<T>(
        &mut self,
        name: &str,
        about: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        match self.step(name, about, work) {
            Ok(value) => Some(value),
            Err(error) => {
                say(&format!("{name} FAILED: {error:#}"));
                None
            }
        }
    }

    /// A step that cannot be done; it counts as a failure, with its reason.
    pub(crate) fn not_run(&mut self, name: &str, reason: &str) {
        say(&format!("{name} not run: {reason}"));
        self.rows.push(Row {
            name: name.to_owned(),
            took: Duration::ZERO,
            end: End::NotRun(reason.to_owned()),
        });
    }

    /// Prints the table; an error if any step failed or was not run.
    pub(crate) fn finish(&self) -> Result<()> {
        eprint!("\n{}", self.table());
        let bad = self.rows.iter().filter(|row| row.end != End::Done).count();
        if bad > 0 {
            bail!("{bad} of {} steps did not succeed", self.rows.len());
        }
        Ok(())
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let end = match &row.end {
                End::Done => "done".to_owned(),
                End::Failed(reason) => format!("FAILED: {}", reason.lines().next().unwrap_or_default()),
                End::NotRun(reason) => format!("NOT RUN: {reason}"),
            };
            let _ = writeln!(text, "{:width$}  {:>7.1} s  {end}", row.name, row.took.as_secs_f64());
        }
        let total: Duration = self.rows.iter().map(|row| row.took).sum();
        let _ = writeln!(text, "{:width$}  {:>7.1} s", "all", total.as_secs_f64());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_attempt_lets_the_rest_go_on_and_fails_the_whole() {
        let mut steps = Steps::new();
        assert_eq!(steps.attempt("one", "quick", || Ok(1)), Some(1));
        assert_eq!(steps.attempt::<()>("two", "quick", || bail!("broken\nin many words")), None);
        steps.not_run("three", "needs two");
        assert_eq!(steps.finish().unwrap_err().to_string(), "2 of 3 steps did not succeed");
        let table = steps.table();
        assert!(table.contains("FAILED: broken\n") && table.contains("NOT RUN: needs two"));
    }

    #[test]
    fn all_done_is_a_success() {
        let mut steps = Steps::new();
        steps.step("one", "quick", || Ok(())).unwrap();
        steps.finish().unwrap();
    }
}

//! What came of it: a line for each harm as it goes, a table at the end, and the same as JSON.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};

use super::Options;
use crate::{processes::now, steps};

/// How a harm ended, if it did not find a broken promise.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What was promised held.
    Held(Figures),
    /// This machine has not what it takes. Never counted as held.
    Skipped(String),
}

/// What was measured, in order.
#[derive(Debug, Default)]
pub(crate) struct Figures(Map<String, Value>);

impl Figures {
    /// One more, named with its unit.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn held(self) -> Result<Outcome> {
        Ok(Outcome::Held(self))
    }
}

impl From<Map<String, Value>> for Figures {
    fn from(figures: Map<String, Value>) -> Self {
        Self(figures)
    }
}

/// Milliseconds, for a figure.
pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What 99 of 100 stay below (of fewer, all but one: a machine may stand still for a moment), and the largest.
pub(crate) fn spread(times: &mut [Duration]) -> (u64, u64) {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = |place: usize| ms(times.get(place).copied().unwrap_or_default());
    (at(last.saturating_sub((times.len() / 100).max(1))), at(last))
}

/// Of a whole run.
pub(crate) struct Report {
    head: Value,
    rows: Mutex<BTreeMap<usize, Row>>,
}

/// Of one harm.
struct Row {
    line: String,
    told: Value,
    broken: bool,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let form = if options.short { "short" } else { "full" };
        let head = json!({ "seed": options.seed, "form": form, "cores": std::thread::available_parallelism().map_or(0, usize::from) });
        Self { head, rows: Mutex::default() }
    }

    /// Runs a harm and notes how it ended, under its number in the table.
    pub(crate) fn add(
        &self,
        (number, name, about): (usize, &str, &str),
        harm: impl FnOnce() -> Result<Outcome>,
    ) {
        let began = now();
        let outcome = harm();
        let seconds = began.elapsed().as_secs_f64();
        let (word, said, figures) = match outcome {
            Ok(Outcome::Held(Figures(figures))) => ("held", words(&figures), Value::Object(figures)),
            Ok(Outcome::Skipped(why)) => ("skipped", why, Value::Null),
            Err(error) => ("BROKEN", format!("{error:#}"), Value::Null),
        };
        let line = format!("{name:12} {word:8} {seconds:7.1} s  {said}");
        steps::say(&line);
        let told = json!({ "name": name, "about": about, "outcome": word, "seconds": seconds,
            "figures": figures, "words": said });
        let row = Row { line, told, broken: word == "BROKEN" };
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(number, row);
    }

    /// Prints the table and writes both files; an error if a promise was broken.
    pub(crate) fn close(mut self, folder: &Path) -> Result<()> {
        let rows = self.rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        let broken: Vec<&str> = rows.values().filter(|row| row.broken).map(|row| row.line.as_str()).collect();
        let found = match broken.as_slice() {
            [] => Ok(()),
            broken => Err(anyhow!(
                "{} of {} harms broke a promise: {}",
                broken.len(),
                rows.len(),
                broken.join("; ")
            )),
        };
        let text: String = rows.values().map(|row| format!("{}\n", row.line)).collect();
        self.head["harms"] = rows.into_values().map(|row| row.told).collect();
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.txt"), &text)?;
        fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&self.head)?)?;
        eprint!("\n{text}");
        steps::say(&format!("the report lies in {}", folder.display()));
        found
    }
}

fn words(figures: &Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name} {value}");
    figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_was_skipped_has_not_held_and_what_broke_fails_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { seed: 3, short: true, only: Vec::new(), program: None };
        let report = Report::new(&options);
        // As they end, which need not be their order.
        report.add((1, "two", ""), || Ok(Outcome::Skipped("needs root".to_owned())));
        report.add((2, "three", ""), || bail!("a worker is left"));
        report.add((0, "one", ""), || Figures::default().with("rounds", 7).held());
        let found = report.close(folder.path()).unwrap_err().to_string();
        assert!(found.contains("1 of 3") && found.contains("a worker is left"), "{found}");
        let kept: Value =
            serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
        let outcomes: Vec<&str> = (0..3).map(|n| kept["harms"][n]["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["held", "skipped", "BROKEN"]);
        assert_eq!(kept["seed"], 3);
    }

    #[test]
    fn the_spread_names_the_last_and_all_but_the_last_of_a_hundred() {
        let mut times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(spread(&mut times), (198, 200));
        assert_eq!(spread(&mut times[..30]), (29, 30));
        assert_eq!(spread(&mut times[..1]), (1, 1));
        assert_eq!(spread(&mut []), (0, 0));
    }
}

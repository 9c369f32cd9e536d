//! Figures of both sides, their ratios, and the table in docs/performance.md.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- bench: begin (written by `cargo xtask bench`) -->";
const END: &str = "<!-- bench: end -->";

/// One thing that was measured, round after round.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// Whether more is better.
    pub(super) more: bool,
    pub(super) ours: Vec<f64>,
    pub(super) peer: Vec<f64>,
    pub(super) stock: Vec<f64>,
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This house's server.
    Ours,
    /// The server that it is compared with.
    Peer,
    /// candle's own model, in a process of its own, without a server.
    Stock,
}

/// All of them, in the order in which they were first measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds one figure of one side.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, more: bool, whose: Whose, value: f64) {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                unit,
                more,
                ours: Vec::new(),
                peer: Vec::new(),
                stock: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        match whose {
            Whose::Ours => row.ours.push(value),
            Whose::Peer => row.peer.push(value),
            Whose::Stock => row.stock.push(value),
        }
    }

    /// Adds a figure of stock candle to a row that is there already, in its unit.
    pub(super) fn add_stock(&mut self, name: &str, value: f64) -> Result<()> {
        let row = self.rows.iter().find(|row| row.name == name);
        let (unit, more) = row.map(|row| (row.unit, row.more)).with_context(|| format!("no row `{name}`"))?;
        self.add(name, unit, more, Whose::Stock, value);
        Ok(())
    }

    /// The table, in Markdown.
    pub(super) fn table(&self) -> String {
        let mut out = String::from(
            "| | unit | ours, min / median / max | peer, min / median / max | ours to peer, min / median / max | stock candle, min / median / max | ours to candle, min / median / max | better is |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let better = if row.more { "more" } else { "less" };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {better} |",
                row.name,
                row.unit,
                three(&row.ours),
                three(&row.peer),
                ratios(&row.ours, &row.peer),
                three(&row.stock),
                ratios(&row.ours, &row.stock),
            );
        }
        out
    }

    /// Puts the table, under a line that says where it was made, into the page.
    pub(super) fn write(&self, page: &Path, made: &str) -> Result<()> {
        let text = fs::read_to_string(page)?;
        let (before, rest) =
            text.split_once(BEGIN).with_context(|| format!("{} has no place for it", page.display()))?;
        let (_, after) =
            rest.split_once(END).with_context(|| format!("{} has no place for it", page.display()))?;
        fs::write(page, format!("{before}{BEGIN}\n\n{made}\n\n{}\n{END}{after}", self.table()))?;
        Ok(())
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> Option<f64> {
    let values = sorted(values);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// Of the two sides in the same round, since what else the machine did then met both; empty where one side has none.
fn ratios(ours: &[f64], other: &[f64]) -> String {
    let both = ours.iter().zip(other).filter(|(_, other)| **other > 0.0);
    spread(&both.map(|(ours, other)| ours / other).collect::<Vec<f64>>(), 2).unwrap_or_default()
}

fn three(values: &[f64]) -> String {
    spread(values, 1).unwrap_or_else(|| "-".to_owned())
}

/// Lowest, median and highest, with so many digits after the point.
fn spread(values: &[f64], digits: usize) -> Option<String> {
    let all = sorted(values);
    let (low, middle, high) = (all.first()?, median(values)?, all.last()?);
    Some(format!("{low:.digits$} / {middle:.digits$} / {high:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_one_side_lacks_has_no_ratio() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.add("decode", "tok/s", true, Whose::Ours, value);
        }
        assert!(report.table().contains("| decode | tok/s | 1.0 / 2.0 / 3.0 | - |  | - |  | more |"));
        report.add_stock("decode", 1.0).unwrap();
        let table = report.table();
        assert!(table.contains("| - |  | 1.0 / 1.0 / 1.0 | 3.00 / 3.00 / 3.00 | more |"), "{table}");
        assert!(report.add_stock("decode at 7", 1.0).is_err());
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut report = Report::default();
        // A machine that was slow in one round was slow for both.
        for (ours, peer) in [(10.0, 5.0), (2.0, 1.0), (12.0, 4.0)] {
            report.add("decode", "tok/s", true, Whose::Ours, ours);
            report.add("decode", "tok/s", true, Whose::Peer, peer);
        }
        let table = report.table();
        let row = "| 2.0 / 10.0 / 12.0 | 1.0 / 4.0 / 5.0 | 2.00 / 2.00 / 3.00 |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn the_table_goes_between_its_marks_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        Report::default().write(&page, "Made here.").unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
        assert!(text.contains("Made here.") && !text.contains("old"), "{text}");
    }
}

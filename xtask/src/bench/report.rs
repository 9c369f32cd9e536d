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
}

/// All of them, in the order in which they were first measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds one figure of one side.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, more: bool, ours: bool, value: f64) {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), unit, more, ours: Vec::new(), peer: Vec::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        if ours { row.ours.push(value) } else { row.peer.push(value) }
    }

    /// The table, in Markdown.
    pub(super) fn table(&self) -> String {
        let mut out = String::from(
            "| | unit | ours, min / median / max | peer, min / median / max | ours to peer (medians) | better is |\n\
             |---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let ratio = match (median(&row.ours), median(&row.peer)) {
                (Some(ours), Some(peer)) if peer > 0.0 => format!("{:.2}", ours / peer),
                _ => "".to_owned(),
            };
            let better = if row.more { "more" } else { "less" };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {ratio} | {better} |",
                row.name,
                row.unit,
                three(&row.ours),
                three(&row.peer)
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

fn three(values: &[f64]) -> String {
    let all = sorted(values);
    match (all.first(), median(values), all.last()) {
        (Some(low), Some(middle), Some(high)) => format!("{low:.1} / {middle:.1} / {high:.1}"),
        _ => "not measured".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_one_side_lacks_has_no_ratio() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.add("decode", "tok/s", true, true, value);
        }
        assert!(report.table().contains("| decode | tok/s | 1.0 / 2.0 / 3.0 | not measured |  | more |"));
        report.add("decode", "tok/s", true, false, 4.0);
        assert!(report.table().contains("| 4.0 / 4.0 / 4.0 | 0.50 | more |"), "{}", report.table());
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

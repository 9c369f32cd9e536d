//! `innkeeper logs`: a worker's own words.

use std::time::Duration;

use protocol::ModelId;
use serde::Deserialize;

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    progress::pause,
    trouble::Trouble,
};

/// Shows what a model's worker has said, also after it died.
///
/// Example: innkeeper logs smollm2 --follow
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// Go on with what it says.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Log {
    lines: Vec<String>,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let client = Client::new(&arguments.remote);
    let mut known = Vec::new();
    loop {
        let answer = client.get("/manage/log", &[("model", arguments.model.as_str())])?;
        if out.json && !arguments.follow {
            return out.value(&answer);
        }
        let lines = read::<Log>(&answer)?.lines;
        for line in fresh(&known, &lines) {
            if out.json { out.value_line(line)? } else { out.line(line)? }
        }
        if !arguments.follow {
            if lines.is_empty() {
                out.remark(&format!("{} has said nothing.", arguments.model));
            }
            return Ok(());
        }
        known = lines;
        pause(Duration::from_secs(1));
    }
}

/// The lines that were not known. The server keeps the last ones only, so what is known may begin later than it did.
fn fresh<'a>(known: &[String], lines: &'a [String]) -> &'a [String] {
    let overlap = (0..=known.len().min(lines.len()))
        .rev()
        .find(|count| known[known.len() - count..] == lines[..*count])
        .unwrap_or(0);
    &lines[overlap..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_lines_are_shown_even_when_old_ones_fall_away() {
        let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (known, now, expected) in [
            ("", "a b", "a b"),
            ("a b", "a b", ""),
            ("a b", "a b c", "c"),
            ("a b c", "b c d", "d"),
            ("a b", "x y", "x y"),
            ("a a", "a a a", "a"),
            ("a b", "", ""),
        ] {
            assert_eq!(fresh(&lines(known), &lines(now)), lines(expected), "{known} -> {now}");
        }
    }
}

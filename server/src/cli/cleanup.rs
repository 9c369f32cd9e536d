//! `innkeeper cleanup`: clean up AI resources.

use app::words::bytes;
use protocol::{CleanUp, Kept};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    progress::Progress,
    receipts,
    trouble::Trouble,
};

/// Cleans AI resources up: unloads what nobody uses, and says what stayed and why. Pinned models always stay; busy ones
/// stay unless forced.
///
/// Example: innkeeper cleanup --dry-run
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Idle models only.
    #[arg(long, conflicts_with = "all")]
    idle: bool,
    /// All models; the busy ones only with --force. This is the default.
    #[arg(long)]
    all: bool,
    /// Busy models too, after they had 30 seconds to end.
    #[arg(long, conflicts_with = "idle")]
    force: bool,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let mut form = vec![("what", if arguments.idle { "idle" } else { "all" })];
    if arguments.force {
        form.push(("force", "true"));
    }
    if arguments.dry_run {
        form.push(("dry_run", "true"));
    }
    let spinner = Progress::spinner(out, "cleaning up");
    let answer = Client::new(&arguments.remote).post("/manage/cleanup", &form)?;
    drop(spinner);
    let cleaned: CleanUp = read(&answer)?;
    if out.json {
        out.value(&answer)?;
        return match &cleaned {
            CleanUp::Done { receipts, .. } => receipts::all_returned(receipts),
            CleanUp::Dry { .. } => Ok(()),
        };
    }
    say(&cleaned, out)
}

fn say(cleaned: &CleanUp, out: &mut Output) -> Result<(), Trouble> {
    match cleaned {
        CleanUp::Dry { would_unload, kept } => {
            if would_unload.is_empty() {
                out.line("Nothing would go.")?;
            }
            for one in would_unload {
                let expected =
                    one.expected_bytes.map_or_else(String::new, |held| format!(", about {}", bytes(held)));
                out.line(&format!("{} would go{expected}", one.model))?;
            }
            stays(kept, out)
        }
        CleanUp::Done { receipts, kept } => {
            if receipts.is_empty() {
                out.line("There was nothing to clean up.")?;
            }
            let said = receipts::say(receipts, out);
            if receipts.len() > 1 {
                let sum = receipts.iter().map(|one| one.ram.returned_bytes).sum();
                out.line(&format!("{} came back in all.", bytes(sum)))?;
            }
            stays(kept, out)?;
            said
        }
    }
}

fn stays(kept: &[Kept], out: &mut Output) -> Result<(), Trouble> {
    kept.iter().try_for_each(|one| out.line(&format!("{} stays: {}", one.model, one.reason)))
}

#[cfg(test)]
mod tests {
    use protocol::{Expected, Verdict};

    use super::*;
    use crate::cli::{output::tests::pages, receipts::tests::receipt_of};

    fn kept() -> Vec<Kept> {
        vec![Kept { model: "minilm".parse().unwrap(), reason: "pinned".to_owned() }]
    }

    #[test]
    fn a_dry_run_says_what_would_go_and_what_would_stay() {
        let expected = Expected { model: "smollm2".parse().unwrap(), expected_bytes: Some(33 << 20) };
        let (mut out, page, _) = pages(false);
        say(&CleanUp::Dry { would_unload: vec![expected], kept: kept() }, &mut out).unwrap();
        assert_eq!(page.text(), "smollm2 would go, about 33.0 MiB\nminilm stays: pinned\n");
    }

    #[test]
    fn what_did_not_come_back_is_the_end_but_all_is_said_before() {
        let receipts = vec![
            receipt_of(Verdict::Returned, 8 << 20, 8 << 20),
            receipt_of(Verdict::Residual, 8 << 20, 4 << 20),
        ];
        let (mut out, page, _) = pages(false);
        let trouble = say(&CleanUp::Done { receipts, kept: kept() }, &mut out).unwrap_err();
        assert_eq!(trouble.exit_code(), 5);
        assert!(
            page.text().ends_with("12.0 MiB came back in all.\nminilm stays: pinned\n"),
            "{}",
            page.text()
        );
    }

    #[test]
    fn an_empty_house_is_clean() {
        let (mut out, page, _) = pages(false);
        say(&CleanUp::Done { receipts: vec![], kept: vec![] }, &mut out).unwrap();
        assert_eq!(page.text(), "There was nothing to clean up.\n");
    }
}

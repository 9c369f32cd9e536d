//! `innkeeper unload`: unload a model and print the receipt.

use app::manage::{OneOrAll, Part};
use protocol::{ModelId, Receipt};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    progress::Progress,
    receipts,
    trouble::Trouble,
};

/// Unloads a model, waits until its memory is back as measured, and prints the receipt. Exit code 5: it did not all
/// come back.
///
/// Example: innkeeper unload smollm2
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["model", "all"]))]
pub(crate) struct Arguments {
    /// Which model.
    model: Option<ModelId>,
    /// Every model that is loaded.
    #[arg(long)]
    all: bool,
    /// Give requests in flight no time to end.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let model = arguments.model.as_ref().map_or("*", ModelId::as_str);
    let mut form = vec![("model", model)];
    if arguments.force {
        form.push(("force", "true"));
    }
    let spinner = Progress::spinner(out, "unloading");
    let answer = Client::new(&arguments.remote).post("/manage/unload", &form)?;
    drop(spinner);
    say(&answer, out)
}

fn say(answer: &serde_json::Value, out: &mut Output) -> Result<(), Trouble> {
    let (receipts, failures) = parts(read::<OneOrAll<Receipt>>(answer)?);
    if out.json {
        out.value(answer)?;
        receipts::all_returned(&receipts)?;
    } else if receipts.is_empty() && failures.is_empty() {
        out.line("No model was loaded.")?;
    } else {
        failures.iter().for_each(|failure| out.remark(failure));
        receipts::say(&receipts, out)?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Trouble::Partly) }
}

/// What was done, and why the rest was not.
pub(crate) fn parts<T>(answer: OneOrAll<T>) -> (Vec<T>, Vec<String>) {
    let all = match answer {
        OneOrAll::One(one) => return (vec![one], Vec::new()),
        OneOrAll::All(all) => all,
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for part in all {
        match part {
            Part::Done(one) => done.push(one),
            Part::Failed { error } => failed.push(error.to_string()),
        }
    }
    (done, failed)
}

#[cfg(test)]
mod tests {
    use protocol::{Code, Problem, Verdict};
    use serde_json::{json, to_value};

    use super::*;
    use crate::cli::{output::tests::pages, receipts::tests::receipt_of};

    #[test]
    fn one_receipt_and_many_are_both_said() {
        let one = receipt_of(Verdict::Returned, 8 << 20, 8 << 20);
        for answer in [to_value(&one).unwrap(), json!([one])] {
            let (mut out, page, _) = pages(false);
            say(&answer, &mut out).unwrap();
            assert!(page.text().starts_with("smollm2 gave back 8.00 of 8.00 MiB"), "{}", page.text());
        }
        let (mut out, page, _) = pages(false);
        say(&json!([]), &mut out).unwrap();
        assert_eq!(page.text(), "No model was loaded.\n");
    }

    #[test]
    fn a_model_that_could_not_be_unloaded_is_no_success() {
        let error = Problem::new(Code::Conflict, "It is stuck.", "Look at it.");
        let (mut out, _, remarks) = pages(false);
        let trouble = say(&json!([{ "error": error }]), &mut out).unwrap_err();
        assert_eq!(trouble.exit_code(), 1);
        assert_eq!(remarks.text(), "It is stuck. Look at it.\n");
    }

    #[test]
    fn json_is_the_servers_own_and_the_code_still_tells() {
        let (mut out, page, _) = pages(true);
        let answer = to_value(receipt_of(Verdict::Stuck, 8 << 20, 0)).unwrap();
        assert_eq!(say(&answer, &mut out).unwrap_err().exit_code(), 5);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&page.text()).unwrap(), answer);
    }
}

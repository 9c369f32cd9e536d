//! `innkeeper reload`: reinitialise a model.

use app::manage::OneOrAll;
use protocol::{ModelId, Reloaded};

use super::{
    Remote,
    client::{Client, read},
    load::loaded,
    output::Output,
    progress::Progress,
    receipts,
    trouble::Trouble,
    unload::parts,
};

/// Reinitialises a model: lets its requests end, unloads it, checks that its memory is back, and loads it again. Prints
/// the receipt and the new instance.
///
/// Example: innkeeper reload smollm2
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["model", "all"]))]
pub(crate) struct Arguments {
    /// Which model.
    model: Option<ModelId>,
    /// Every model that is loaded.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let model = arguments.model.as_ref().map_or("*", ModelId::as_str);
    let spinner = Progress::spinner(out, "reinitialising");
    let answer = Client::new(&arguments.remote).post("/manage/reload", &[("model", model)])?;
    drop(spinner);
    let (all, failures) = parts(read::<OneOrAll<Reloaded>>(&answer)?);
    if out.json {
        out.value(&answer)?;
    } else if all.is_empty() && failures.is_empty() {
        out.line("No model was loaded.")?;
    }
    let mut receipts = Vec::new();
    for Reloaded { receipt, model } in all {
        if !out.json {
            out.line(&receipts::line(&receipt))?;
            out.line(&loaded(&model))?;
        }
        receipts.push(receipt);
    }
    if !out.json {
        failures.iter().for_each(|failure| out.remark(failure));
    }
    receipts::all_returned(&receipts)?;
    if failures.is_empty() { Ok(()) } else { Err(Trouble::Partly) }
}

//! `innkeeper rm`: remove a model's files.

use app::{manage::Removed, words::bytes};
use protocol::ModelId;
use serde_json::json;
use store::Store;

use super::{
    Global, Remote,
    client::read,
    output::Output,
    trouble::Trouble,
    whereto::{WhereTo, nobody_serves, whereto},
};

/// Removes a model's files from the disk. A model that is loaded is not touched: unload it first.
///
/// Example: innkeeper rm smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, global: &Global, out: &mut Output) -> Result<(), Trouble> {
    let model = &arguments.model;
    let removed_bytes = match whereto(&arguments.remote, global) {
        WhereTo::Server(client) => {
            read::<Removed>(&client.post("/manage/remove", &[("model", model.as_str())])?)?.removed_bytes
        }
        WhereTo::Folder(data_dir) => {
            nobody_serves(&data_dir)?;
            Store::open(&data_dir)?.remove(model)?
        }
    };
    if out.json {
        return out.value(&json!({ "removed_bytes": removed_bytes }));
    }
    out.line(&format!("{model} is gone from the disk; {} came free.", bytes(removed_bytes)))
}

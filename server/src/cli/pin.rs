//! `innkeeper pin` and `unpin`.

use protocol::ModelId;

use super::{Remote, client::Client, output::Output, trouble::Trouble};

/// Which model, and whom to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    #[command(flatten)]
    remote: Remote,
}

/// Pins a model: no idle timer, no eviction and no clean-up unloads it. `unload` still does.
///
/// Example: innkeeper pin smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    pub(crate) which: Arguments,
}

/// Unpins a model: its idle timer counts again.
///
/// Example: innkeeper unpin smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Unpin {
    #[command(flatten)]
    pub(crate) which: Arguments,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, pinned: bool, out: &mut Output) -> Result<(), Trouble> {
    let model = arguments.model.as_str();
    let form = [("model", model), ("pinned", if pinned { "true" } else { "false" })];
    let answer = Client::new(&arguments.remote).post("/manage/pin", &form)?;
    if out.json {
        return out.value(&answer);
    }
    out.line(&if pinned {
        format!("{model} is pinned: only an unload makes it go.")
    } else {
        format!("{model} is not pinned any more.")
    })
}

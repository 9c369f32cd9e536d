//! `innkeeper with`: run a command with a model that stays loaded meanwhile.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Write as _},
    os::unix::process::ExitStatusExt,
    process::Command,
    thread,
};

use protocol::{ModelId, ProblemBody};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use super::{Remote, client::Client, output::Output, trouble::Trouble};

/// Loads a model and keeps it in use for as long as a command runs; the model may go again when the command has ended, or
/// when this program has been killed. The command finds the server's address in INNKEEPER_BASE_URL and the model's name
/// in INNKEEPER_MODEL. The exit code is the command's.
///
/// Example: innkeeper with smollm2 -- python3 evaluate.py
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    remote: Remote,
}

/// From here on Ctrl-C and Ctrl-\ are the command's alone, as with `system(3)`: what it makes of them decides, and its
/// exit code is still told. A handler, which a later program would not inherit, unlike a signal that is ignored. The
/// signals are listened for as long as the runtime is there; without one they end this program too, as they would have.
fn leave_the_keyboard_to_the_command() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::quit()] {
        drop(signal(kind)?);
    }
    drop(entered);
    Ok(runtime)
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, _out: &mut Output) -> Result<(), Trouble> {
    let client = Client::new(&arguments.remote);
    let mut lines = BufReader::new(client.hold(arguments.model.as_str())?).lines();
    if !matches!(lines.next(), Some(Ok(_))) {
        return Err(Trouble::Failed("The server let go of the model at once.".to_owned()));
    }
    let Some((program, rest)) = arguments.command.split_first() else { return Ok(()) };
    // Before the command is there: what is typed once it has begun must not end this process.
    let _deaf = leave_the_keyboard_to_the_command();
    let mut child = Command::new(program)
        .args(rest)
        .env("INNKEEPER_BASE_URL", client.server())
        .env("INNKEEPER_MODEL", arguments.model.as_str())
        .spawn()
        .map_err(|error| Trouble::Failed(format!("{} cannot be started: {error}.", program.display())))?;
    // Reading keeps the connection alive; it ends with this process, and the lease goes back with it.
    let model = arguments.model.clone();
    let listening = move || {
        for line in lines.map_while(Result::ok) {
            if let Ok(ProblemBody { error }) = serde_json::from_str(&line) {
                // Nobody may be there to read it.
                let _ = writeln!(io::stderr(), "innkeeper: `{model}` is no longer held: {error}");
            }
        }
    };
    let _reader = thread::Builder::new().name("hold".to_owned()).spawn(listening);
    let ended = child.wait().map_err(|error| Trouble::Failed(format!("The command was lost: {error}.")))?;
    // A shell says 128 and the signal's number of a command that a signal has ended.
    let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Trouble::Command(code)),
        Err(_) => Err(Trouble::Command(1)),
    }
}

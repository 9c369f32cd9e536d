//! The command line beside `serve`: one verb a file. Each asks a running server over HTTP, or, where no server is
//! needed, the data folder itself. Words and numbers are those of the pages (`app::words`).
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 no server, 4 refused (memory, queue), 5 memory not returned.

mod bench;
mod chat;
mod cleanup;
mod client;
mod completions;
mod doctor;
mod embed;
mod events;
mod load;
mod logs;
mod ls;
mod output;
mod pin;
mod plan;
mod progress;
mod ps;
mod pull;
mod receipts;
mod reload;
mod rm;
mod set;
mod status;
mod table;
mod trouble;
mod unload;
mod whereto;
mod with;

use std::{path::PathBuf, process::ExitCode};

use output::Output;

/// What every verb takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Where models, settings and the history are [default: innkeeper in the XDG data home].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON: the server's own answer, where a server answers.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Which server a verb asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Remote {
    /// The server to ask [default: http://127.0.0.1:7878].
    #[arg(long, value_name = "URL", env = "INNKEEPER_SERVER")]
    server: Option<String>,
    /// A token of that server; only needed from another machine.
    #[arg(long, value_name = "TOKEN", env = "INNKEEPER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Pull(pull::Arguments),
    Rm(rm::Arguments),
    Ls(ls::Arguments),
    Ps(ps::Arguments),
    Load(load::Arguments),
    Unload(unload::Arguments),
    Reload(reload::Arguments),
    Cleanup(cleanup::Arguments),
    Plan(plan::Arguments),
    With(with::Arguments),
    Set(set::Arguments),
    Pin(pin::Pin),
    Unpin(pin::Unpin),
    Chat(chat::Arguments),
    Embed(embed::Arguments),
    Status(status::Arguments),
    Events(events::Arguments),
    Logs(logs::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    Completions(completions::Arguments),
}

/// Does what a verb says. `command` is the whole command line, for the completions.
pub(crate) fn run(verb: Verb, global: &Global, command: clap::Command) -> ExitCode {
    let mut out = Output::of_terminal(global.json);
    let done = match verb {
        Verb::Pull(arguments) => pull::run(&arguments, global, &mut out),
        Verb::Rm(arguments) => rm::run(&arguments, global, &mut out),
        Verb::Ls(arguments) => ls::run(&arguments, global, &mut out),
        Verb::Ps(arguments) => ps::run(&arguments, &mut out),
        Verb::Load(arguments) => load::run(&arguments, &mut out),
        Verb::Unload(arguments) => unload::run(&arguments, &mut out),
        Verb::Reload(arguments) => reload::run(&arguments, &mut out),
        Verb::Cleanup(arguments) => cleanup::run(&arguments, &mut out),
        Verb::Plan(arguments) => plan::run(&arguments, &mut out),
        Verb::With(arguments) => with::run(&arguments, &mut out),
        Verb::Set(arguments) => set::run(&arguments, &mut out),
        Verb::Pin(arguments) => pin::run(&arguments.which, true, &mut out),
        Verb::Unpin(arguments) => pin::run(&arguments.which, false, &mut out),
        Verb::Chat(arguments) => chat::run(&arguments, &mut out),
        Verb::Embed(arguments) => embed::run(&arguments, &mut out),
        Verb::Status(arguments) => status::run(&arguments, &mut out),
        Verb::Events(arguments) => events::run(&arguments, &mut out),
        Verb::Logs(arguments) => logs::run(&arguments, &mut out),
        Verb::Doctor(arguments) => doctor::run(&arguments, global, &mut out),
        Verb::Bench(arguments) => bench::run(&arguments, &mut out),
        Verb::Completions(arguments) => completions::run(&arguments, command, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            out.trouble(&trouble);
            ExitCode::from(trouble.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "innkeeper")]
    struct Whole {
        #[command(flatten)]
        global: Global,
        #[command(subcommand)]
        verb: Verb,
    }

    #[test]
    fn the_command_line_is_sound_and_every_verb_has_help_with_an_example() {
        Whole::command().debug_assert();
        for verb in Whole::command().get_subcommands_mut() {
            let help = verb.render_long_help().to_string();
            assert!(help.contains(&format!("innkeeper {}", verb.get_name())), "{help}");
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "innkeeper unload",
            "innkeeper unload smollm2 --all",
            "innkeeper load a/b",
            "innkeeper load smollm2 --idle-timeout soon",
            "innkeeper cleanup --idle --all",
            "innkeeper set smollm2",
            "innkeeper set smollm2 --idle-timeout 5m --weight bad",
            "innkeeper embed minilm",
            "innkeeper with smollm2",
            "innkeeper completions tcsh",
        ] {
            let error = Whole::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn flags_of_every_verb_stand_before_and_after_it() {
        let parsed = Whole::try_parse_from(["innkeeper", "--json", "ls", "--data-dir", "/d"]).unwrap();
        assert!(parsed.global.json);
        assert_eq!(parsed.global.data_dir, Some(PathBuf::from("/d")));
    }
}

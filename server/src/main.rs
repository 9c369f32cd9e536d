//! The `innkeeper` binary: the life of the process in one screen.

#![recursion_limit = "256"]

mod answer;
mod assets;
mod compose;
mod client;
mod config;
mod conversations;
mod events;
mod fetches;
mod guard;
mod house;
mod librarian;
mod logs;
mod openai;
mod pages;
mod random;
mod relay;
mod routes;
mod run;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs AI models on this machine, shows the true memory that each one takes, and gives it back.
#[derive(Parser)]
#[command(name = "innkeeper", version, arg_required_else_help = true)]
struct Arguments {
    /// Where models, settings and the history are [default: innkeeper in the XDG data home].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the server.
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    // A worker is this same binary. It must not start a runtime or read anything before its own first steps.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "worker") {
        worker::main(engine::ModelLoader, compose::VERSION, std::env::args().skip(2));
    }
    let Arguments { data_dir, verb } = Arguments::parse();
    match verb {
        Verb::Serve(arguments) => serve::serve(arguments, data_dir),
    }
}

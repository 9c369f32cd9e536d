//! The `innkeeper` binary: the life of the process in one screen.

#![recursion_limit = "256"]

mod accept;
mod answer;
mod assets;
mod changes;
mod cli;
mod client;
mod compose;
mod config;
mod conversations;
mod digests;
mod events;
mod export;
mod fetches;
mod guard;
mod hidden;
mod hold;
mod house;
mod librarian;
mod logs;
mod metrics;
mod notify;
mod ollama;
mod openai;
mod pages;
mod past;
mod patience;
mod random;
mod relay;
mod room;
mod routes;
mod run;
mod serve;
mod settings;
mod watched;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Runs AI models on this machine, shows the true memory that each one takes, and gives it back.
#[derive(Parser)]
#[command(name = "innkeeper", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Serve(serve::Arguments),
    Config(config::verb::Arguments),
    #[command(flatten)]
    Ask(cli::Verb),
}

fn main() -> ExitCode {
    // A worker is this same binary. It must not start a runtime or read anything before its own first steps.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "worker") {
        worker::main(engine::ModelLoader, compose::VERSION, std::env::args().skip(2));
    }
    let Arguments { global, verb } = Arguments::parse();
    match verb {
        Verb::Serve(arguments) => serve::serve(arguments, global.data_dir),
        Verb::Config(arguments) => config::verb::run(&arguments, global.data_dir, global.json),
        Verb::Ask(verb) => cli::run(verb, &global, Arguments::command()),
    }
}

//! The finished program: the site, then the server that embeds it; and `run`, which serves.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{
    front, models,
    places::Places,
    steps,
    steps::Steps,
    tool::{Tool, which},
};

/// Builds everything; returns where the one file lies.
pub(crate) fn build(places: &Places, steps: &mut Steps) -> Result<PathBuf> {
    front::build(places, steps)?;
    server(places, steps)
}

/// Builds the server around the site that lies there.
pub(crate) fn server(places: &Places, steps: &mut Steps) -> Result<PathBuf> {
    steps.step("server", "cargo build --release, about 10 minutes the first time", || {
        if which("cc").is_none() {
            bail!("there is no C compiler (`cc`). On Debian: `apt-get install build-essential`");
        }
        places.cargo().args(["build", "--release", "--package", "server"]).run()
    })?;
    Ok(places.program())
}

/// Builds, fetches what is missing, and becomes the server.
pub(crate) fn run(places: &Places, steps: &mut Steps, serve: &[String]) -> Result<()> {
    let program = build(places, steps)?;
    let data_dir = data_dir_of(serve);
    models::fetch(&program, &data_dir, "smollm2", steps)?;
    if models::fetch(&program, &data_dir, "minilm", steps).is_err() {
        steps::say("minilm (embeddings) could not be fetched; the rest works without it");
    }
    let serving = Tool::new(&program).args(["serve"]).args(serve);
    steps::say(&format!("{serving} (Ctrl-C stops it)"));
    Err(serving.become_it())
}

/// The data folder that the arguments for `serve` name; the last one wins, as with the program itself.
fn data_dir_of(serve: &[String]) -> Option<PathBuf> {
    let mut found = None;
    let mut args = serve.iter();
    while let Some(arg) = args.next() {
        if arg == "--data-dir" {
            found = args.next();
        } else if let Some(value) = arg.strip_prefix("--data-dir=") {
            return Some(value.into());
        }
    }
    found.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Option<PathBuf> {
        data_dir_of(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn models_are_fetched_into_the_folder_that_the_server_will_use() {
        assert_eq!(of(&["--listen", "127.0.0.1:0", "--data-dir", "/x"]), Some("/x".into()));
        assert_eq!(of(&["--data-dir=/x y", "--listen=1:2"]), Some("/x y".into()));
        assert_eq!(of(&["--listen", "127.0.0.1:0"]), None);
        assert_eq!(of(&["--data-dir"]), None);
    }
}

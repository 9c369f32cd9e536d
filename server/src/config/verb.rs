//! `innkeeper config show|check`: every value and where it came from, or whether a file can be used.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{Config, ConfigError, Layers, Source, data_dir, default_file};

/// Shows or checks the configuration.
///
/// Example: innkeeper config show
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Prints every value and where it came from.
    ///
    /// Example: innkeeper config show --config ./innkeeper.toml
    Show(Which),
    /// Says whether the configuration can be used, and if not, what is wrong where.
    ///
    /// Example: innkeeper config check --config ./innkeeper.toml
    Check(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Configuration file [default: innkeeper/config.toml in the configuration folder].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does it. Exit code 1 when the configuration cannot be used.
pub(crate) fn run(arguments: &Arguments, dir: Option<PathBuf>, json: bool) -> ExitCode {
    let dir = data_dir(dir);
    let (which, shows) = match &arguments.what {
        What::Show(which) => (which, true),
        What::Check(which) => (which, false),
    };
    let told = gathered(which.config.as_deref(), &dir).and_then(|layers| {
        Config::check(&layers)?;
        Ok(if shows { page(&layers, &dir, json) } else { "The configuration can be used.\n".to_owned() })
    });
    match told {
        Ok(text) => {
            // A closed pipe is no failure of ours.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "innkeeper: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Every layer that a server with this data folder would start from, but for its flags.
fn gathered(file: Option<&Path>, dir: &Path) -> Result<Layers, ConfigError> {
    let mut layers = Layers::defaults();
    let saved = dir.join("settings.toml");
    if saved.exists() {
        layers.add_file(Source::Saved, &saved)?;
    }
    if let Some(file) = file.map(Path::to_owned).or_else(default_file) {
        layers.add_file(Source::File, &file)?;
    }
    layers.add_env(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )?;
    Ok(layers)
}

fn page(layers: &Layers, dir: &Path, json: bool) -> String {
    if json {
        let values: serde_json::Map<String, serde_json::Value> = layers
            .entries()
            .map(|(key, entry)| {
                let value = serde_json::json!({ "value": entry.text, "source": entry.source.word(), "locked": entry.source.locks() });
                (key.to_owned(), value)
            })
            .collect();
        return format!("{}\n", serde_json::json!({ "data_dir": dir, "values": values }));
    }
    let mut page = format!("# data folder: {}\n", dir.display());
    let width = layers.entries().map(|(key, entry)| key.len() + entry.text.len()).max().unwrap_or(0) + 6;
    for (key, entry) in layers.entries() {
        let line = format!("{key} = {:?}", entry.text);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{line:width$}  # {entry}");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_shown_with_where_it_came_from() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("settings.toml"), "[idle]\nidle_timeout = \"3m\"").unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "[memory]\nreserve = \"2GiB\"").unwrap();
        let layers = gathered(Some(&file), dir.path()).unwrap();
        let text = page(&layers, dir.path(), false);
        assert!(
            text.lines().any(|l| l.starts_with("idle.idle_timeout = \"3m\"") && l.contains("# saved")),
            "{text}"
        );
        assert!(
            text.lines().any(|l| l.starts_with("memory.reserve = \"2GiB\"") && l.contains("c.toml")),
            "{text}"
        );
        assert!(text.lines().any(|l| l.starts_with("listen") && l.ends_with("# default")), "{text}");
        let json: serde_json::Value = serde_json::from_str(&page(&layers, dir.path(), true)).unwrap();
        assert_eq!(json["values"]["memory.reserve"]["source"], "file");
    }
}

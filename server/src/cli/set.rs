//! `innkeeper set`.

use std::str::FromStr;

use manager::Weight;
use protocol::{IdleTimeout, Model, ModelId};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    trouble::Trouble,
};

/// Gives a model values of its own, at once and over restarts; `default` takes one back.
///
/// Example: innkeeper set smollm2 --idle-timeout 30m --weight 2
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = true, args = ["idle_timeout", "weight"])]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// How long it may be idle: 10m, 90s, 0 (until its last use ends), never, or default.
    #[arg(long, value_name = "TIME", value_parser = checked::<IdleTimeout>)]
    idle_timeout: Option<String>,
    /// How much it is worth keeping when room is made for another, from 0.01 to 100, or default (1): idle time / (load time x weight)
    /// decides who goes first.
    #[arg(long, value_name = "NUMBER", value_parser = checked::<Weight>)]
    weight: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Checked before anything is sent, so that a wrong value is told with its argument.
fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
    if !app::manage::is_default(text) {
        text.parse::<T>()?;
    }
    Ok(text.to_owned())
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let client = Client::new(&arguments.remote);
    let model = arguments.model.as_str();
    let given = [("idle_timeout", &arguments.idle_timeout), ("weight", &arguments.weight)];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    // In one request: the server takes all of it, or nothing.
    let form: Vec<(&str, &str)> = std::iter::once(("model", model)).chain(given).collect();
    let answer = client.post("/manage/set", &form)?;
    if out.json {
        return out.value(&answer);
    }
    if arguments.idle_timeout.is_some() {
        let shown: Model = read(&answer)?;
        out.line(&format!(
            "{model}: idle timeout {}.",
            app::words::idle_timeout(shown.idle_timeout_seconds)
        ))?;
    }
    match &arguments.weight {
        Some(weight) => out.line(&format!("{model}: weight {weight}.")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_by_the_rules_of_the_server() {
        for sound in ["5m", "0", "never", "default"] {
            assert_eq!(checked::<IdleTimeout>(sound).unwrap(), sound);
        }
        assert!(checked::<IdleTimeout>("soon").is_err());
        assert!(checked::<Weight>("Default").is_ok() && checked::<Weight>("2.5").is_ok());
        for bad in ["bad", "0", "1000"] {
            assert!(checked::<Weight>(bad).is_err(), "{bad}");
        }
    }
}

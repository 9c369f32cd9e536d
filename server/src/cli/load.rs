//! `innkeeper load`: load a model.

use app::words::{about, idle_timeout, took};
use protocol::{IdleTimeout, Model, ModelId};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    progress::Progress,
    ps::memory,
    trouble::Trouble,
};

/// Loads a model and waits until it can answer. A model that is loaded stays so, and counts as used now.
///
/// Example: innkeeper load smollm2 --idle-timeout 10m
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// How long it may be idle: 10m, 90s, 0 (until the last request ends), never.
    #[arg(long, value_name = "SPAN", value_parser = |text: &str| text.parse::<IdleTimeout>().map(|_| text.to_owned()))]
    idle_timeout: Option<String>,
    /// Positions that one conversation may have.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Go past the limit and into the reserve, though never so far that other programs cannot go on.
    #[arg(long)]
    anyway: bool,
    /// Do not wait until it is ready.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let context = arguments.context.map(|tokens| tokens.to_string());
    let mut form = vec![("model", arguments.model.as_str())];
    form.extend(arguments.idle_timeout.as_deref().map(|span| ("idle_timeout", span)));
    form.extend(context.as_deref().map(|tokens| ("context", tokens)));
    if arguments.anyway {
        form.push(("anyway", "true"));
    }
    if arguments.no_wait {
        form.push(("wait", "false"));
    }
    let spinner = Progress::spinner(out, &format!("loading {}", arguments.model));
    let answer = Client::new(&arguments.remote).post("/manage/load", &form)?;
    drop(spinner);
    if out.json {
        return out.value(&answer);
    }
    out.line(&loaded(&read(&answer)?))
}

/// `smollm2 is ready after 0.42 s: 33.1 MiB taken, and 94 MiB of file cache. It goes after 15 min without use.`
pub(crate) fn loaded(model: &Model) -> String {
    let instance = model.instances.first();
    let Some(ready) = instance.filter(|one| one.loaded_at.is_some()) else {
        return format!("{} is {}.", model.id, app::words::state(model));
    };
    let after = ready.load_ms.map_or_else(String::new, |ms| format!(" after {}", took(ms)));
    let takes = ready.memory.as_ref().map_or_else(String::new, |held| {
        format!(": {} taken, and {} of file cache", memory(held), about(held.mapped_bytes))
    });
    let goes = match model.idle_timeout_seconds {
        _ if model.pinned => "It is pinned and stays.".to_owned(),
        IdleTimeout::Never => "It stays until it is unloaded.".to_owned(),
        IdleTimeout::After { ms: 0 } => "It goes when nobody uses it any more.".to_owned(),
        timeout => format!("It goes after {} without use.", idle_timeout(timeout)),
    };
    format!("{} is ready{after}{takes}. {goes}", model.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::ready;

    #[test]
    fn a_load_tells_time_memory_and_when_it_goes() {
        let mut model = ready("smollm2");
        assert_eq!(
            loaded(&model),
            "smollm2 is ready after 0.42 s: 33.1 MiB taken, and 94 MiB of file cache. It goes after 15 min without use."
        );
        model.idle_timeout_seconds = IdleTimeout::Never;
        assert!(loaded(&model).ends_with("It stays until it is unloaded."));
        model.idle_timeout_seconds = IdleTimeout::After { ms: 0 };
        assert!(loaded(&model).ends_with("when nobody uses it any more."));
        model.pinned = true;
        assert!(loaded(&model).ends_with("It is pinned and stays."));
    }

    #[test]
    fn a_load_that_was_not_waited_for_tells_where_it_is() {
        let mut model = ready("m");
        model.state = protocol::ModelState::Loading;
        model.instances.clear();
        assert_eq!(loaded(&model), "m is loading.");
    }
}

//! `innkeeper serve`: arguments -> configuration -> running parts -> serve -> stop.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::OnceLock, time::Duration};

use anyhow::Context;
use supervisor::Supervisor;

use crate::{
    accept::{listen, room_for},
    compose,
    config::{self, Config, Layers, Source},
    notify::Notify,
    routes,
    run::{self, Ended, Signals},
};

/// What the runtime's own threads may take at the very end.
const LAST: Duration = Duration::from_millis(200);

/// Runs the server until SIGTERM or SIGINT. Prints its URL when it is ready; logs go to stderr.
///
/// Example: innkeeper serve --listen 127.0.0.1:7878 --preload smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Configuration file [default: innkeeper/config.toml in the configuration folder].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Load this model at the start; may be given several times.
    #[arg(long, value_name = "MODEL")]
    preload: Vec<String>,
    /// What is logged: info, debug, warn, or a filter such as manager=debug,info.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "INNKEEPER_LOG")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The life of a server.
pub(crate) fn serve(arguments: Arguments, data_dir: Option<PathBuf>) -> ExitCode {
    if let Err(error) = start_log(&arguments) {
        return failed(&error);
    }
    match lived(&arguments, data_dir) {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Cut | Ended::Left) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // The chain reads as cause after cause; a debug print would add a backtrace nobody asked for.
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let _ = writeln!(std::io::stderr(), "innkeeper: {}", chain.join(": "));
    ExitCode::FAILURE
}

fn lived(arguments: &Arguments, data_dir: Option<PathBuf>) -> anyhow::Result<Ended> {
    let layers = layers(arguments)?;
    let data_dir = config::data_dir(data_dir);
    let config = Config::check(&layers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let lived = runtime.block_on(async {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let notify = Notify::from_environment();
        let begun = OnceLock::new();
        let beginning = async {
            let taken = compose::take_over(&data_dir).await?;
            let listener = listen(config.listen).with_context(|| unbound(&config))?;
            let address = listener.local_addr().context("cannot read the bound address")?;
            let house = compose::compose(layers, &data_dir, taken, address, &begun).await?;
            Ok::<_, anyhow::Error>((house, listener, address))
        };
        let (house, listener, address) = tokio::select! {
            begun = beginning => begun?,
            name = signals.next() => {
                tracing::info!("stopped by {name} before it was ready");
                return Ok(end_early(&begun, &mut signals).await);
            }
        };
        let (app, url) = (routes::routes(&house), format!("http://{address}"));
        house.preload();
        announce(&url);
        notify.ready(&url);
        let connections = room_for(config.connections);
        Ok(run::run(house, listener, app, connections, &mut signals, notify).await)
    });
    // A blocking read that hangs (a driver, a dying disk) must not keep the process.
    runtime.shutdown_timeout(LAST);
    lived
}

/// Nothing is loaded yet; what looks into files for us is ended, so that nobody of it is left on record.
async fn end_early(begun: &OnceLock<Supervisor>, signals: &mut Signals) -> Ended {
    let Some(supervisor) = begun.get() else { return Ended::Clean };
    tokio::select! {
        closed = supervisor.shut_down(run::STOP) => Ended::told(closed),
        _ = signals.next() => {
            supervisor.cut();
            Ended::Cut
        }
    }
}

fn unbound(config: &Config) -> String {
    format!(
        "cannot listen on {}; end the program that listens there, or give another --listen",
        config.listen
    )
}

/// The one line on stdout. A closed stdout is no reason to stop.
fn announce(url: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{url}").and_then(|()| out.flush());
}

/// Every layer but what the page saved, which [`crate::settings`] lays under these.
fn layers(arguments: &Arguments) -> anyhow::Result<Layers> {
    let mut layers = Layers::defaults();
    if let Some(file) = arguments.config.clone().or_else(config::default_file) {
        layers.add_file(Source::File, &file)?;
    }
    layers.add_env(
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )?;
    if let Some(listen) = &arguments.listen {
        layers.set(Source::Flag, "listen", listen)?;
    }
    if !arguments.preload.is_empty() {
        layers.set(Source::Flag, "preload", &arguments.preload.join("\n"))?;
    }
    Ok(layers)
}

fn start_log(arguments: &Arguments) -> anyhow::Result<()> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_new(&arguments.log).with_context(|| {
        format!("--log `{}` is no filter; write info, debug or manager=debug,info", arguments.log)
    })?;
    let colour =
        std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

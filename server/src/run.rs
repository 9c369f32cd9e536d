//! Serve, drain, stop. Nothing in here may fail for good: a connection that breaks breaks alone.

use std::{io, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{accept::accept, compose::House, notify::Notify};

/// From the signal until what cannot be ended is left to itself. The history and the runtime's threads have the rest of the
/// eight seconds that are promised.
pub(crate) const STOP: Duration = Duration::from_secs(7);
/// For the end by SIGKILL of what a drain left, however long that took.
const AT_LEAST: Duration = Duration::from_millis(400);

/// Serves until a signal, then drains: no new leases, streams end, every ladder in parallel, nothing is left. A
/// second signal ends everything at once: the workers see their channels close.
pub(crate) async fn run(
    house: House,
    listener: TcpListener,
    app: Router,
    connections: usize,
    signals: &mut Signals,
    notify: Notify,
) -> Ended {
    let listening = CancellationToken::new();
    let tasks = TaskTracker::new();
    let accepting = tasks.spawn(accept(listener, app, connections, listening.clone()));
    house.tasks().spawn(notify.clone().feed(house.desk().samples()));
    let name = signals.next().await;
    tracing::info!("stopping: {name}");
    notify.stopping();
    let until = Instant::now() + STOP;
    let stopping = async {
        // New connections are still answered while streams end, so that /readyz can say why.
        house.drain().await;
        listening.cancel();
        let most = until.saturating_duration_since(Instant::now()).max(AT_LEAST);
        let (accepted, closed) = tokio::join!(accepting, house.close(most));
        if let Err(error) = accepted {
            tracing::error!(%error, "the listener ended badly");
        }
        closed
    };
    tokio::select! {
        closed = stopping => Ended::told(closed),
        name = signals.next() => {
            tracing::warn!("second {name}: ending at once");
            house.cut();
            Ended::Cut
        }
    }
}

/// How a server's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Drained; nothing was left.
    Clean,
    /// By a second signal.
    Cut,
    /// A worker cannot be ended; it dies with the server, as soon as it can.
    Left,
}

impl Ended {
    /// Says how it went: `closed` names the processes that are left.
    pub(crate) fn told(closed: Result<(), Vec<u32>>) -> Self {
        match closed {
            Ok(()) => {
                tracing::info!("stopped; nothing is left");
                Self::Clean
            }
            Err(left) => {
                let names: Vec<String> = left.iter().map(|pid| format!("process {pid}")).collect();
                let who = if names.is_empty() { "something".to_owned() } else { names.join(", ") };
                tracing::error!(
                    "stopped, but {who} could not be ended and goes when the system lets it; the next start looks for it"
                );
                Self::Left
            }
        }
    }
}

/// The signals that end a server. To be listened for from the first moment: the first process of a container does not
/// even die of one that it does not listen for.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on, whatever a parent has made of them.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

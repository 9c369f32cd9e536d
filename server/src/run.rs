//! Serve, drain, stop. Nothing in here may fail for good: a connection that breaks breaks alone.

use std::io;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{accept::accept, compose::House, notify::Notify};

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
    let stopping = async {
        // New connections are still answered while streams end, so that /readyz can say why.
        house.drain().await;
        listening.cancel();
        let (accepted, ()) = tokio::join!(accepting, house.close());
        if let Err(error) = accepted {
            tracing::error!(%error, "the listener ended badly");
        }
    };
    tokio::select! {
        () = stopping => {
            tracing::info!("stopped; nothing is left");
            Ended::Clean
        }
        name = signals.next() => {
            tracing::warn!("second {name}: ending at once");
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

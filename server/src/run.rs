//! Serve, drain, stop. Nothing in here may fail for good: a connection that breaks breaks alone.
//!
//! The accept loop is our own, because axum's has neither a deadline for a request's head nor a cap on connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{compose::House, guard::Peer};

/// A request's head must be there by then.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Connections have so long to end after everything else has.
const CONNECTIONS: Duration = Duration::from_millis(500);

/// Accepts connections until `draining`, then lets them finish.
async fn accept(listener: TcpListener, app: Router, connections: usize, draining: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(connections));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = draining.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = graceful.watch(connection(stream, peer, app.clone()));
                tasks.spawn(async move {
                    if let Err(error) = served.await {
                        tracing::debug!(%error, %peer, "connection ended early");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, or the peer went before it was accepted: wait a moment instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(back_off(&error)).await;
            }
        }
    }
    drop(listener);
    if timeout(CONNECTIONS, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were cut");
    }
}

fn back_off(error: &io::Error) -> Duration {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => Duration::ZERO,
        _ => Duration::from_millis(100),
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
) -> http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::HttpService<
        Incoming,
        ResBody = Body,
        Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        Future: Send,
    >,
> {
    // Tokens are small; waiting to fill a packet would only make them late.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        app.clone().oneshot(request.map(Body::new) as Request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
}

/// Serves until a signal, then drains: no new leases, streams end, every ladder in parallel, nothing is left. A
/// second signal ends everything at once: the workers see their channels close.
pub(crate) async fn run(
    house: House,
    listener: TcpListener,
    app: Router,
    connections: usize,
) -> io::Result<Ended> {
    let mut signals = Signals::new()?;
    let listening = CancellationToken::new();
    let tasks = TaskTracker::new();
    let accepting = tasks.spawn(accept(listener, app, connections, listening.clone()));
    let name = signals.next().await;
    tracing::info!("stopping: {name}");
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
            Ok(Ended::Clean)
        }
        name = signals.next() => {
            tracing::warn!("second {name}: ending at once");
            Ok(Ended::Cut)
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

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

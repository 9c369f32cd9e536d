//! The accept loop. It is our own, because axum's has neither a deadline for a request's head nor a cap on connections.
//! Knows connections, and nothing of what is asked over them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    guard::Peer,
    patience::{Patient, Timely},
};

/// A request's head must be there by then; also how long a connection may be idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Connections have so long to end after everything else has.
const CONNECTIONS: Duration = Duration::from_millis(500);
/// Between two tries while the process has no descriptor left.
const BACK_OFF: Duration = Duration::from_millis(100);
/// What waits for one reader: so much of an answer in this process, and so much of it not yet sent in the system. A head
/// is no longer either.
const BUFFER: usize = 16 << 10;
/// Descriptors that are not for connections: files, workers and their logs.
const SPARE: u64 = 256;

/// Connections that may wait with the system, if it allows as many.
const BACKLOG: u32 = 4096;

/// Listens. A server that was here a moment ago is no hindrance.
///
/// # Errors
/// When somebody else listens there, or the address is not this machine's.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How many connections there may be: as many as are wanted, if the process may have that many descriptors. Raises its
/// limit as far as it may, since the usual one is that of 1980.
pub(crate) fn room_for(wanted: u32) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let may = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // No limit at all is room for any number.
    let may = may.unwrap_or(u64::MAX);
    let room = usize::try_from(may.saturating_sub(SPARE).max(may / 2)).unwrap_or(usize::MAX);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            "this process may have {may} descriptors, which is room for {room} connections of {wanted}"
        );
    }
    room.min(wanted)
}

/// Accepts connections until `draining`, then lets them finish.
pub(crate) async fn accept(
    listener: TcpListener,
    app: Router,
    connections: usize,
    draining: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(connections));
    let tasks = TaskTracker::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => break,
            accepted = one(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("connections are accepted again");
                }
                let served = graceful.watch(connection(stream, peer, app.clone()));
                tasks.spawn(async move {
                    if let Err(error) = served.await {
                        tracing::debug!(%error, %peer, "connection ended early");
                    }
                    drop(permit);
                });
            }
            // The peer went before it was accepted; the next one may be there already.
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; trying on");
                }
                sleep(BACK_OFF).await;
            }
        }
    }
    drop(listener);
    if timeout(CONNECTIONS, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were cut");
    }
}

/// The next connection, once there is room for it. Until then it waits with the system.
async fn one(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
) -> http1::Connection<
    TokioIo<Patient<TcpStream>>,
    impl hyper::service::HttpService<
        Incoming,
        ResBody = Body,
        Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        Future: Send,
    >,
> {
    // Tokens are small; waiting to fill a packet would only make them late. What a reader has no room for shall wait in
    // bounds, and where we see it.
    let tuned = stream.set_nodelay(true).and_then(|()| {
        SockRef::from(&stream).set_tcp_notsent_lowat(u32::try_from(BUFFER).unwrap_or(u32::MAX))
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection cannot be tuned");
    }
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        app.clone().oneshot(request.map(|body| Body::new(Timely::new(body))) as Request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
}

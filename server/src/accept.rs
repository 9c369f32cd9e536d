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
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    guard::Peer,
    patience::{Patient, Timely},
    room::{Answering, Room, Seat, Seated},
};

/// A request's head must be there by then; also how long a connection may be idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Connections have so long to end after everything else has.
const CONNECTIONS: Duration = Duration::from_millis(500);
/// Between two tries while the process has no descriptor left.
const BACK_OFF: Duration = Duration::from_millis(100);
/// What waits for one reader: so much of an answer in this process, and so much of it not yet sent in the system (what a
/// reader's side has no room for waits there too, 33 KiB on loopback). A head is no longer either.
const BUFFER: usize = 8 << 10;
/// Descriptors that are not for connections: files, workers and their logs.
const SPARE: u64 = 256;

/// What a connection is served over.
type Stream = TokioIo<Seated<Patient<TcpStream>>>;

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
    let room = Room::new(connections);
    let tasks = TaskTracker::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => break,
            accepted = one(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, seat)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("connections are accepted again");
                }
                let seat = Arc::new(seat);
                let served = graceful.watch(connection(stream, peer, app.clone(), Arc::clone(&seat)));
                tasks.spawn(async move {
                    tokio::select! {
                        biased;
                        () = seat.asked_to_go() => tracing::debug!(%peer, "a silent connection made room"),
                        served = served => if let Err(error) = served {
                            tracing::debug!(%error, %peer, "connection ended early");
                        }
                    }
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

/// The next connection, once there is room for it. It is accepted first: nobody is asked to go for one who does not come.
async fn one(listener: &TcpListener, room: &Arc<Room>) -> io::Result<(TcpStream, SocketAddr, Seat)> {
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, room.seat().await))
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    seat: Arc<Seat>,
) -> http1::Connection<
    Stream,
    impl hyper::service::HttpService<
        Incoming,
        ResBody = Answering<Body>,
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
    let stream = Seated::new(Patient::new(stream), Arc::clone(&seat));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let (app, seat) = (app.clone(), Arc::clone(&seat));
        async move {
            // Nothing of it has been done, and whoever asked sees a connection that ended between two requests.
            if !seat.speaks() {
                return Err(io::Error::other("its place was promised to another"));
            }
            let answered = app.oneshot(request.map(|body| Body::new(Timely::new(body))) as Request).await;
            let Ok(answer) = answered;
            Ok(answer.map(|body| Answering::new(body, seat)))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Bytes,
        routing::{get, post},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
    };

    use super::*;

    /// More than the system takes for a reader that does not read.
    const LARGE: usize = 32 << 20;

    struct Site {
        address: SocketAddr,
        draining: CancellationToken,
        accepting: JoinHandle<()>,
    }

    impl Site {
        fn open(connections: usize) -> Self {
            let app = Router::new()
                .route("/", get(|| async { "here" }))
                .route("/large", get(|| async { Bytes::from(vec![b'x'; LARGE]) }))
                .route("/body", post(|body: Bytes| async move { body.len().to_string() }));
            let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
            let (address, draining) = (listener.local_addr().unwrap(), CancellationToken::new());
            let accepting = TaskTracker::new().spawn(accept(listener, app, connections, draining.clone()));
            Self { address, draining, accepting }
        }

        async fn silent(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Connected, and known to be in by an answer.
        async fn known(&self) -> TcpStream {
            let mut stream = self.silent().await;
            assert!(speaks(&mut stream).await, "it is not let in");
            stream
        }

        async fn close(self) {
            self.draining.cancel();
            self.accepting.await.unwrap();
        }
    }

    /// Whether one who asks is answered. False: the connection was closed.
    async fn speaks(stream: &mut TcpStream) -> bool {
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        asked.is_ok() && heard(stream, "here").await
    }

    /// Reads until this is the end of what was said. False: the connection was closed before.
    async fn heard(stream: &mut TcpStream, end: &str) -> bool {
        let reading = async {
            let (mut said, mut some) = (Vec::new(), [0; 4096]);
            while !said.ends_with(end.as_bytes()) {
                match stream.read(&mut some).await {
                    Ok(0) | Err(_) => return false,
                    Ok(bytes) => said.extend_from_slice(&some[..bytes]),
                }
            }
            true
        };
        timeout(Duration::from_secs(5), reading).await.expect("neither an answer nor an end within 5 s")
    }

    #[tokio::test]
    async fn one_who_speaks_is_answered_beside_more_silent_connections_than_there_may_be() {
        let site = Site::open(8);
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(site.silent().await);
        }
        drop(site.known().await);
        drop(crowd);
        site.close().await;
    }

    #[tokio::test]
    async fn the_one_that_has_been_silent_longest_makes_room() {
        let site = Site::open(3);
        let (mut first, mut second, mut third) = (site.known().await, site.known().await, site.known().await);
        assert!(speaks(&mut first).await, "it has spoken last");
        let mut fourth = site.known().await;
        assert!(!speaks(&mut second).await, "it had been silent longest");
        assert!(speaks(&mut first).await && speaks(&mut fourth).await && speaks(&mut third).await);
        site.close().await;
    }

    #[tokio::test]
    async fn nobody_in_the_middle_of_a_request_or_of_an_answer_makes_room() {
        let site = Site::open(2);
        let (mut reader, mut writer) = (site.known().await, site.known().await);
        reader.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // Its answer is on the way, and all of it has left the handler.
        assert!(heard(&mut reader, "x").await);
        let head = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n";
        writer.write_all(head).await.unwrap();
        assert!(heard(&mut writer, "\r\n\r\n").await, "the server has its head, and wants the body");
        writer.write_all(b"abc").await.unwrap();
        let mut waits = site.silent().await;
        waits.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let early = timeout(Duration::from_millis(300), waits.read(&mut [0])).await;
        assert!(early.is_err(), "somebody had to go for it: {early:?}");
        writer.write_all(b"def").await.unwrap();
        assert!(heard(&mut writer, "6").await, "its request is whole, and answered");
        assert!(heard(&mut waits, "here").await, "then it is the writer that makes room");
        assert!(!speaks(&mut writer).await);
        let mut rest = vec![0; LARGE / 2];
        reader.read_exact(&mut rest).await.expect("an answer goes on");
        site.close().await;
    }
}

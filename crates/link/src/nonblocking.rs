//! The server's end: the same codec over tokio's sockets. Every wait may be dropped without losing a byte, so that both
//! halves can stand in one `select!`.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use tokio::{
    io::Interest,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{Decoder, Message, WireError, socket};

/// Both halves of the server's end.
///
/// # Errors
/// When the socket cannot be made nonblocking or registered with the runtime.
pub fn split(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    stream.set_nonblocking(true)?;
    let (read, write) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let chunk = vec![0; socket::CHUNK];
    Ok((
        Reader { half: read, decoder: Decoder::default(), chunk },
        Writer { half: write, queue: VecDeque::new() },
    ))
}

/// Reads messages. Takes no descriptors: those that come are closed by the kernel.
#[derive(Debug)]
pub struct Reader {
    half: OwnedReadHalf,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl Reader {
    /// The next message. `None`: the other end closed. May be dropped and called again.
    ///
    /// # Errors
    /// Every [`WireError`]; the channel is of no use after one.
    pub async fn receive<M: Message>(&mut self) -> Result<Option<M>, WireError> {
        loop {
            if let Some(received) = self.decoder.take()? {
                return Ok(Some(received.message));
            }
            self.half.readable().await?;
            match self.half.try_read(&mut self.chunk) {
                Ok(0) if self.decoder.is_between_frames() => return Ok(None),
                Ok(0) => return Err(WireError::Cut),
                Ok(length) => self.decoder.push(&self.chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// Writes frames. What is queued is bounded by whoever queues it.
#[derive(Debug)]
pub struct Writer {
    half: OwnedWriteHalf,
    queue: VecDeque<Outgoing>,
}

impl Writer {
    /// Puts a frame from [`crate::encode`] behind the others, with the descriptors that its message names; they are
    /// closed here once they are sent.
    pub fn queue(&mut self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
        self.queue.push_back(Outgoing { frame, sent: 0, descriptors });
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends all that is queued. May be dropped and called again; goes on where it was.
    ///
    /// # Errors
    /// When the socket fails; a closed other end is `BrokenPipe`.
    pub async fn flush(&mut self) -> io::Result<()> {
        let socket: &tokio::net::UnixStream = self.half.as_ref();
        while let Some(next) = self.queue.front_mut() {
            let sent = socket
                .async_io(Interest::WRITABLE, || {
                    let beside: Vec<BorrowedFd<'_>> = next.descriptors.iter().map(AsFd::as_fd).collect();
                    socket::send(socket.as_fd(), &next.frame[next.sent..], &beside).map_err(io::Error::from)
                })
                .await?;
            next.descriptors.clear();
            next.sent += sent;
            if next.sent == next.frame.len() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}

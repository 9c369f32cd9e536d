//! The worker's end: reads and writes that block, no runtime. A reader and a writer each own a descriptor of the one
//! socket, so that neither waits for the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::{Decoder, Message, Received, WireError, socket};

/// Reads messages.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl Reader {
    /// Reads from this stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, decoder: Decoder::default(), chunk: vec![0; socket::CHUNK] }
    }

    /// The next message; blocks until it is whole. `None`: the other end closed.
    ///
    /// # Errors
    /// Every [`WireError`]; the channel is of no use after one.
    pub fn receive<M: Message>(&mut self) -> Result<Option<Received<M>>, WireError> {
        loop {
            if let Some(received) = self.decoder.take()? {
                return Ok(Some(received));
            }
            match socket::receive(self.socket.as_fd(), &mut self.chunk) {
                Ok((0, _)) if self.decoder.is_between_frames() => return Ok(None),
                Ok((0, _)) => return Err(WireError::Cut),
                Ok((length, descriptors)) => {
                    self.decoder.push_descriptors(descriptors);
                    self.decoder.push(&self.chunk[..length]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(WireError::Io(error.into())),
            }
        }
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer {
    socket: OwnedFd,
}

impl Writer {
    /// Writes to this stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a frame from [`crate::encode`] with the descriptors that its message names; blocks until all of it is
    /// in the socket.
    ///
    /// # Errors
    /// [`WireError::Io`]; a closed other end is `BrokenPipe`.
    pub fn send(&self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let (mut rest, mut beside) = (frame, descriptors);
        while !rest.is_empty() {
            match socket::send(self.socket.as_fd(), rest, beside) {
                Ok(sent) => (rest, beside) = (&rest[sent..], &[]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(WireError::Io(error.into())),
            }
        }
        Ok(())
    }
}

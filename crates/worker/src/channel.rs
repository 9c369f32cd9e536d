//! The reader and the writer thread. The reader answers for the life of the process: it ends it when the channel
//! closes, and answers pings itself, so that neither waits for the engine.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use link::{ErrorCode, FromWorker, Hello, Received, ToWorker, WireError, blocking, encode};

use crate::{
    exit, leave, log,
    port::{self, beats},
};

/// Frames that may wait for the socket; the engine waits when they do.
const OUTGOING: usize = 64;
/// Orders that may wait for the engine. The server holds 64 requests at most, each with a few credits and a cancel;
/// one that sends more is broken.
const INCOMING: usize = 1024;

/// Counts what the engine has done, for the server's question whether it moves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub(crate) fn set(&self, steps: u64) {
        self.0.store(steps, Ordering::Relaxed);
    }

    /// As it was set.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// For the server: with what the engine says in the middle of a step.
    fn told(&self) -> u64 {
        self.get().wrapping_add(beats())
    }
}

/// What the server is told through.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    frames: SyncSender<Vec<u8>>,
}

impl Outbox {
    /// Says it; waits while the socket and the queue are full.
    pub(crate) fn say(&self, message: &FromWorker) {
        let frame = encode(message).or_else(|error| encode(&instead(message, &error)));
        // Without the writer the process is ending.
        drop(frame.map(|frame| self.frames.send(frame)));
    }

    /// Says it unless the queue is full: who does not read wants no answer.
    fn say_now(&self, message: &FromWorker) {
        drop(encode(message).map(|frame| self.frames.try_send(frame)));
    }
}

/// What is said instead of a message that is too long for a frame.
fn instead(message: &FromWorker, error: &WireError) -> FromWorker {
    let id = match message {
        FromWorker::Token { id, .. } | FromWorker::Done { id, .. } | FromWorker::Embedded { id, .. } => {
            Some(*id)
        }
        FromWorker::Error { id, .. } => *id,
        _ => None,
    };
    let code = if id.is_some() { ErrorCode::Internal } else { ErrorCode::BadFile };
    FromWorker::Error { id, code, message: format!("The answer is too long: {error}.") }
}

/// Starts both threads on the channel.
pub(crate) fn start(
    channel: OwnedFd,
    hello: Hello,
) -> io::Result<(Outbox, Receiver<Received<ToWorker>>, Pulse)> {
    let writer = blocking::Writer::new(channel.try_clone()?);
    let reader = blocking::Reader::new(channel);
    let (frames, outgoing) = sync_channel(OUTGOING);
    let (orders, incoming) = sync_channel(INCOMING);
    let (outbox, pulse) = (Outbox { frames }, Pulse::default());
    let (answers, steps) = (outbox.clone(), pulse.clone());
    thread::Builder::new().name("reader".into()).spawn(move || {
        let _leave = leave::WithThread;
        let code = read(reader, &hello, &answers, &orders, &steps);
        leave::now(code)
    })?;
    thread::Builder::new().name("writer".into()).spawn(move || {
        let _leave = leave::WithThread;
        for frame in outgoing {
            if writer.send(&frame, &[]).is_err() {
                // The server is gone.
                leave::now(0);
            }
        }
    })?;
    Ok((outbox, incoming, pulse))
}

/// Until the channel closes. Returns the code to leave with.
fn read(
    mut reader: blocking::Reader,
    hello: &Hello,
    answers: &Outbox,
    orders: &SyncSender<Received<ToWorker>>,
    pulse: &Pulse,
) -> i32 {
    let mut greeted = false;
    loop {
        let received = match reader.receive::<ToWorker>() {
            Ok(Some(received)) => received,
            Ok(None) | Err(WireError::Io(_) | WireError::Cut) => return 0,
            Err(error) => return broken(&error.to_string()),
        };
        match &received.message {
            ToWorker::Shutdown => return 0,
            ToWorker::Hello(theirs) if !greeted && theirs == hello => greeted = true,
            ToWorker::Hello(_) => return broken("its hello does not match this worker's"),
            _ if !greeted => return broken("it did not say hello first"),
            ToWorker::Ping { n } => answers.say_now(&FromWorker::Pong { n: *n, step: pulse.told() }),
            message => {
                if let ToWorker::Cancel { id } = message {
                    port::cancel(*id);
                }
                match orders.try_send(received) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => return broken("it sent more than can wait here"),
                    // The engine's thread is gone, and the process with it.
                    Err(TrySendError::Disconnected(_)) => return 101,
                }
            }
        }
    }
}

fn broken(what: &str) -> i32 {
    log(&format!("The server broke the protocol: {what}."));
    exit::PROTOCOL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_cancelled_requests_are_known_as_a_server_has() {
        let first = 1 << 40;
        (first..first + 64).for_each(port::cancel);
        assert!((first..first + 64).all(port::is_cancelled) && !port::is_cancelled(first + 64));
        port::cancel(first + 64);
        assert!(port::is_cancelled(first + 64) && !port::is_cancelled(first), "the oldest is let go");
    }

    #[test]
    fn a_step_that_takes_long_is_seen_to_move_before_it_ends() {
        let pulse = Pulse::default();
        pulse.set(7);
        let before = pulse.told();
        crate::port::beat();
        assert!(pulse.told() > before, "a layer is no step, and progress all the same");
        assert_eq!(pulse.get(), 7);
    }
}

//! The reader and the writer thread. The reader answers for the life of the process: it ends it when the channel
//! closes, and answers pings itself, so that neither waits for the engine. What the writer still has goes with the process:
//! up to 8 ms of tokens of an answer that is cut off by a crash.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use link::{ErrorCode, FromWorker, Hello, Received, ToWorker, WireError, blocking, encode};

use crate::{
    exit, leave, log,
    port::{self, beats},
};

/// Frames that may wait for the socket; the engine waits when they do.
const OUTGOING: usize = 64;
/// So long after something was sent, tokens wait for each other: a quick model makes several in this time, nobody sees the
/// difference, and each sending wakes the server and its client, on the processors that compute.
const TOGETHER: Duration = Duration::from_millis(8);
/// Bytes that are sent together at most.
const SMALL: usize = 16 << 10;
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
pub(crate) struct Outbox(Arc<Outgoing>);

#[derive(Debug, Default)]
struct Outgoing {
    waiting: Mutex<Waiting>,
    /// For the writer: there is something to send now.
    due: Condvar,
    /// For who says something: there is room.
    room: Condvar,
}

/// Frames that wait for the socket.
#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    /// One of them is to go at once.
    urgent: bool,
    /// The writer waits for whatever comes.
    idle: bool,
}

impl Outbox {
    /// Says it; waits while the socket and the queue are full.
    pub(crate) fn say(&self, message: &FromWorker) {
        let frame = encode(message).or_else(|error| encode(&instead(message, &error)));
        let Ok(frame) = frame else { return };
        let is_full = |waiting: &mut Waiting| waiting.frames.len() >= OUTGOING;
        let waiting = self.0.room.wait_while(self.0.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        self.push(waiting, frame, !matches!(message, FromWorker::Token { seq: 1.., .. }));
    }

    /// Says it unless the queue is full: who does not read wants no answer.
    fn say_now(&self, message: &FromWorker) {
        let (Ok(frame), waiting) = (encode(message), self.0.lock()) else { return };
        if waiting.frames.len() < OUTGOING {
            self.push(waiting, frame, true);
        }
    }

    fn push(&self, mut waiting: MutexGuard<'_, Waiting>, frame: Vec<u8>, urgent: bool) {
        waiting.frames.push_back(frame);
        waiting.urgent |= urgent || waiting.frames.len() >= OUTGOING / 2;
        if waiting.urgent || waiting.idle {
            drop(waiting);
            self.0.due.notify_one();
        }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be sent next; waits so long for more of it, unless it is urgent, and then until there is something.
    fn next(&self, more: Duration) -> Vec<u8> {
        let waited = self.due.wait_timeout_while(self.lock(), more, |waiting| !waiting.urgent);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        waiting.idle = true;
        let empty = |waiting: &mut Waiting| waiting.frames.is_empty();
        waiting = self.due.wait_while(waiting, empty).unwrap_or_else(PoisonError::into_inner);
        waiting.idle = false;
        let mut together = waiting.frames.pop_front().unwrap_or_default();
        // A long one is not copied, and does not wait for company.
        while let Some(frame) = waiting.frames.pop_front_if(|frame| together.len() + frame.len() <= SMALL) {
            together.extend(frame);
        }
        waiting.urgent = !waiting.frames.is_empty();
        drop(waiting);
        self.room.notify_one();
        together
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
    let (orders, incoming) = sync_channel(INCOMING);
    let (outbox, pulse) = (Outbox(Arc::default()), Pulse::default());
    let outgoing = Arc::clone(&outbox.0);
    let (answers, steps) = (outbox.clone(), pulse.clone());
    thread::Builder::new().name("reader".into()).spawn(move || {
        let _leave = leave::WithThread;
        let code = read(reader, &hello, &answers, &orders, &steps);
        leave::now(code)
    })?;
    thread::Builder::new().name("writer".into()).spawn(move || {
        let _leave = leave::WithThread;
        write(&writer, &outgoing)
    })?;
    Ok((outbox, incoming, pulse))
}

/// Until the server is gone.
fn write(writer: &blocking::Writer, outgoing: &Outgoing) -> ! {
    let mut more = Duration::ZERO;
    while writer.send(&outgoing.next(more), &[]).is_ok() {
        more = TOGETHER;
    }
    leave::now(0)
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

    fn token(seq: u32) -> FromWorker {
        FromWorker::Token { id: 1, seq, text: "word".into() }
    }

    /// What the writer would send next, as the numbers of the tokens in it.
    fn tokens(outgoing: &Outgoing, more: Duration) -> Vec<u32> {
        let (bytes, mut decoder) = (outgoing.next(more), link::Decoder::default());
        decoder.push(&bytes);
        let each = std::iter::from_fn(|| decoder.take::<FromWorker>().unwrap());
        each.filter_map(|received| match received.message {
            FromWorker::Token { seq, .. } => Some(seq),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn tokens_wait_for_each_other_but_an_answers_first_one_and_its_end_wait_for_nobody() {
        const LONG: Duration = Duration::from_secs(3600);
        let outbox = Outbox(Arc::default());
        // The first of an answer is waited for by somebody, whatever was sent before.
        outbox.say(&token(0));
        assert_eq!(tokens(&outbox.0, LONG), [0]);
        outbox.say(&token(1));
        let more = outbox.clone();
        // And so is its end.
        let end = FromWorker::Error { id: Some(1), code: ErrorCode::Internal, message: String::new() };
        let later = thread::spawn(move || {
            more.say(&token(2));
            more.say(&end);
        });
        assert_eq!(tokens(&outbox.0, LONG), [1, 2]);
        later.join().unwrap();
        outbox.say(&token(3));
        assert_eq!(tokens(&outbox.0, Duration::from_millis(1)), [3], "it does not wait for ever");
    }

    #[test]
    fn no_token_of_a_crowd_is_lost_and_who_makes_them_waits_for_room() {
        let outbox = Outbox(Arc::default());
        let more = outbox.clone();
        let maker = thread::spawn(move || (0..3 * OUTGOING as u32).for_each(|seq| more.say(&token(seq))));
        let mut all = Vec::new();
        while all.len() < 3 * OUTGOING {
            let some = tokens(&outbox.0, TOGETHER);
            assert!((1..=OUTGOING).contains(&some.len()), "{some:?}");
            all.extend(some);
        }
        maker.join().unwrap();
        assert_eq!(all, (0..3 * OUTGOING as u32).collect::<Vec<_>>());
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

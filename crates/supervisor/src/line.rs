//! The line to one worker: its channel, its process and its pulse, as one stream of steps. Sends what is queued while it
//! waits. Decides nothing.

use std::{io, os::fd::OwnedFd, time::Duration};

use link::{FromWorker, Message, ToWorker, WireError, nonblocking};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::{
    process::{Death, Process},
    spawn::Spawned,
    watch::{Hang, Watch, Work},
};

/// How long what a dead worker had still sent may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a worker that has closed its channel may take to end.
const CLOSED_TO_DEAD: Duration = Duration::from_secs(1);

/// What happened next.
#[derive(Debug)]
pub(crate) enum Step {
    /// It said something.
    Said(FromWorker),
    /// It has ended; all that it had said before has been handed out.
    Ended(Death),
    /// What came over the channel is no message, or the channel closed under a living worker.
    Broken(WireError),
    /// It gave up its life or its work.
    Hung(Hang),
}

#[derive(Debug)]
pub(crate) struct Line {
    reader: nonblocking::Reader,
    writer: nonblocking::Writer,
    pub(crate) process: Process,
    watch: Watch,
    tick: Interval,
    closed: bool,
}

impl Line {
    /// Takes a spawned worker over, with its stderr left to the caller.
    pub(crate) fn new(spawned: Spawned) -> io::Result<(Self, OwnedFd)> {
        // First of all, so that from here on the process is killed if anything goes wrong.
        let process = Process::new(spawned.pid, spawned.pidfd)?;
        let (reader, writer) = nonblocking::split(spawned.channel)?;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok((Self { reader, writer, process, watch: Watch::default(), tick, closed: false }, spawned.stderr))
    }

    /// Queues a message. Those that are built here are small; a request's frame comes ready-made.
    pub(crate) fn say(&mut self, message: &ToWorker, descriptors: Vec<OwnedFd>) -> Result<(), WireError> {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        self.writer.queue(link::encode(message)?, descriptors);
        Ok(())
    }

    /// Queues a frame from [`link::encode`].
    pub(crate) fn send(&mut self, frame: Vec<u8>) {
        self.writer.queue(frame, Vec::new());
    }

    /// The next step. `work` is what the worker has to do at present. May be dropped and called again.
    pub(crate) async fn next(&mut self, work: Work) -> Step {
        loop {
            if self.closed {
                return self.last_words().await;
            }
            tokio::select! {
                received = self.reader.receive() => match received {
                    Ok(Some(FromWorker::Pong { step, .. })) => self.watch.pong(step),
                    Ok(Some(message)) => {
                        self.watch.moved();
                        return Step::Said(message);
                    }
                    Ok(None) | Err(WireError::Cut) => self.closed = true,
                    Err(error) => return Step::Broken(error),
                },
                // A write that fails means a closed channel, out of which there may still be something to read.
                flushed = self.writer.flush(), if !self.writer.is_empty() => self.closed = flushed.is_err(),
                _ = self.process.ended() => self.closed = true,
                _ = self.tick.tick(), if work != Work::Start => match self.watch.tick(work).map(|n| self.say(&ToWorker::Ping { n }, Vec::new())) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Step::Broken(error),
                    Err(hang) => return Step::Hung(hang),
                },
            }
        }
    }

    /// Hands out what a closed channel still holds, then the end of its process.
    async fn last_words(&mut self) -> Step {
        loop {
            match timeout(LAST_WORDS, self.reader.receive()).await {
                Ok(Ok(Some(FromWorker::Pong { .. }))) => {}
                Ok(Ok(Some(message))) => return Step::Said(message),
                Ok(Err(error)) if !matches!(error, WireError::Cut) => return Step::Broken(error),
                _ => break,
            }
        }
        match timeout(CLOSED_TO_DEAD, self.process.ended()).await {
            Ok(death) => Step::Ended(death),
            Err(_) => Step::Broken(WireError::Cut),
        }
    }

    /// Waits for the end of the process at most so long, sending what is queued meanwhile.
    pub(crate) async fn ended_within(&mut self, most: Duration) -> Option<Death> {
        let sent_and_ended = async {
            loop {
                tokio::select! {
                    death = self.process.ended() => return death,
                    flushed = self.writer.flush(), if !self.closed && !self.writer.is_empty() => {
                        self.closed |= flushed.is_err();
                    }
                }
            }
        };
        timeout(most, sent_and_ended).await.ok()
    }
}

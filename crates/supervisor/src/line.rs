//! The line to one worker: its channel, its process and its pulse, as one stream of steps. Sends what is queued while it
//! waits. Decides nothing.

use std::{io, os::fd::OwnedFd, time::Duration};

use link::{FromWorker, Message, ToWorker, WireError, nonblocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout, timeout_at};

use crate::{
    death::Kills,
    process::{Death, Process},
    procfs,
    spawn::Spawned,
    watch::{Hang, Watch, Work},
};

/// From the close of the channel, or the end of the process, until both have come and all that was said is read.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    kills: Kills,
    tick: Interval,
    /// Until when the rest may take, once the channel is closed or the process has ended.
    closed: Option<Instant>,
}

impl Line {
    /// Takes a spawned worker over, with its stderr left to the caller.
    pub(crate) fn new(spawned: Spawned) -> io::Result<(Self, OwnedFd)> {
        // First of all, so that from here on the process is killed if anything goes wrong.
        let process = Process::new(spawned.pid, spawned.pidfd)?;
        let (reader, writer) = nonblocking::split(spawned.channel)?;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (watch, kills) = (Watch::default(), Kills::new(procfs::oom_kills()));
        Ok((Self { reader, writer, process, watch, kills, tick, closed: None }, spawned.stderr))
    }

    /// Begins anew, for a worker that has waited: what happened meanwhile is no matter of its model.
    pub(crate) fn begin(&mut self) {
        (self.watch, self.kills) = (Watch::default(), Kills::new(procfs::oom_kills()));
        self.tick.reset();
    }

    /// Whether the worker answers a ping in this time.
    pub(crate) async fn answers(&mut self, most: Duration) -> bool {
        if self.say(&ToWorker::Ping { n: 0 }, Vec::new()).is_err() {
            return false;
        }
        let answer = async {
            loop {
                tokio::select! {
                    received = self.reader.receive() => {
                        return matches!(received, Ok(Some(FromWorker::Pong { .. })));
                    }
                    flushed = self.writer.flush(), if !self.writer.is_empty() => if flushed.is_err() { return false },
                }
            }
        };
        timeout(most, answer).await.unwrap_or(false)
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
            if let Some(until) = self.closed {
                return self.last_words(until).await;
            }
            tokio::select! {
                received = self.reader.receive() => match received {
                    Ok(Some(FromWorker::Pong { step, .. })) => self.watch.pong(step),
                    Ok(Some(message)) => {
                        self.watch.heard(&message);
                        return Step::Said(message);
                    }
                    Ok(None) | Err(WireError::Cut) => self.close(),
                    Err(error) => return Step::Broken(error),
                },
                // A write that fails means a closed channel, out of which there may still be something to read.
                flushed = self.writer.flush(), if !self.writer.is_empty() => if flushed.is_err() { self.close() },
                _ = self.process.ended() => self.close(),
                _ = self.tick.tick(), if work != Work::Start => if let Some(end) = self.second(work) {
                    return end;
                },
            }
        }
    }

    /// A second has passed.
    fn second(&mut self, work: Work) -> Option<Step> {
        self.kills.look(procfs::oom_kills());
        match self.watch.tick(work).map(|n| self.say(&ToWorker::Ping { n }, Vec::new())) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Step::Broken(error)),
            Err(hang) => Some(Step::Hung(hang)),
        }
    }

    /// Whether the system has killed anybody for want of memory in the last seconds.
    pub(crate) fn kills_grew(&self) -> bool {
        self.kills.grew(procfs::oom_kills())
    }

    fn close(&mut self) {
        self.closed = Some(Instant::now() + LAST_WORDS);
    }

    /// Hands out what a closed channel still holds, then the end of its process; all of it until then.
    async fn last_words(&mut self, until: Instant) -> Step {
        while Instant::now() < until {
            match timeout_at(until, self.reader.receive()).await {
                Ok(Ok(Some(FromWorker::Pong { .. }))) => {}
                Ok(Ok(Some(message))) => return Step::Said(message),
                Ok(Err(error)) if !matches!(error, WireError::Cut) => return Step::Broken(error),
                _ => break,
            }
        }
        match timeout_at(until, self.process.ended()).await {
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
                    flushed = self.writer.flush(), if self.closed.is_none() && !self.writer.is_empty() => {
                        if flushed.is_err() { self.close() }
                    }
                }
            }
        };
        timeout(most, sent_and_ended).await.ok()
    }
}

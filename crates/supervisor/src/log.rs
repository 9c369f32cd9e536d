//! The workers' own words: what they write to stderr, kept per model in bounded rings that outlive the worker.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::ModelId;
use tokio::{
    net::unix::pipe,
    sync::broadcast::{self, error::RecvError},
};

/// Bytes of text that are kept of each model.
const KEPT_BYTES: usize = 64 * 1024;
/// Longer lines are cut there.
const LINE_BYTES: usize = 2048;
/// Lines that a follower may be behind.
const BEHIND: usize = 256;

/// The logs of all models.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    rings: Mutex<HashMap<ModelId, Arc<Ring>>>,
}

impl Logs {
    /// The ring of a model; made when it is not there yet.
    pub(crate) fn of(&self, model: &ModelId) -> Arc<Ring> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rings.entry(model.clone()).or_default())
    }
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that came before the first one kept.
    dropped: usize,
}

/// The last words of one model's workers.
#[derive(Debug)]
pub(crate) struct Ring {
    kept: Mutex<Lines>,
    news: broadcast::Sender<String>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { kept: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }
}

impl Ring {
    /// All that is kept, oldest first.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Where the log ends now: a mark for [`Ring::since`].
    pub(crate) fn end(&self) -> usize {
        let kept = self.lock();
        kept.dropped + kept.lines.len()
    }

    /// What is kept of the lines after a mark, oldest first.
    pub(crate) fn since(&self, mark: usize) -> Vec<String> {
        let kept = self.lock();
        let new = (kept.dropped + kept.lines.len()).saturating_sub(mark).min(kept.lines.len());
        kept.lines.iter().skip(kept.lines.len() - new).cloned().collect()
    }

    /// All that is kept, and what comes from now on without a gap between them.
    pub(crate) fn follow(&self) -> Follower {
        let kept = self.lock();
        Follower { past: kept.lines.clone(), news: self.news.subscribe() }
    }

    pub(crate) fn push(&self, line: &[u8]) {
        let line = readable(line);
        let mut kept = self.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line.clone());
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
            kept.dropped += 1;
        }
        // Nobody follows most of the time. Sent under the lock, so that a follower misses none and sees none twice.
        drop(self.news.send(line));
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line as it may be shown on a terminal or a page: no control characters, which could steer either.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Follows a model's log, from the oldest line that is kept.
#[derive(Debug)]
pub struct Follower {
    past: VecDeque<String>,
    news: broadcast::Receiver<String>,
}

impl Follower {
    /// The next line; waits for it. `None`: the supervisor is gone. One who is too slow is told how much was lost.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.past.pop_front() {
            return Some(line);
        }
        match self.news.recv().await {
            Ok(line) => Some(line),
            Err(RecvError::Lagged(lost)) => Some(format!("({lost} lines went by unread)")),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Carries a worker's stderr into the ring until its end.
pub(crate) async fn drain(stderr: OwnedFd, ring: Arc<Ring>) -> io::Result<()> {
    let stderr = pipe::Receiver::from_owned_fd(stderr)?;
    let (mut chunk, mut line) = (vec![0; 4096], Vec::new());
    loop {
        stderr.readable().await?;
        let length = match stderr.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        for &byte in &chunk[..length] {
            if byte == b'\n' || line.len() >= LINE_BYTES {
                ring.push(&line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
        // A worker that never stops writing must not keep this thread from the others.
        tokio::task::yield_now().await;
    }
    if !line.is_empty() {
        ring.push(&line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_ring_is_bounded_and_keeps_the_last_words() {
        let ring = Ring::default();
        for n in 0..10_000 {
            ring.push(format!("line {n} {}", "x".repeat(40)).as_bytes());
        }
        let kept = ring.all();
        assert!(kept.iter().map(String::len).sum::<usize>() <= KEPT_BYTES);
        assert!(kept.last().unwrap().starts_with("line 9999 "));
        assert_eq!(ring.end(), 10_000);
    }

    #[test]
    fn a_tail_holds_only_what_came_after_its_mark() {
        let ring = Ring::default();
        ring.push(b"of the worker before");
        let mark = ring.end();
        assert!(ring.since(mark).is_empty());
        ring.push(b"one");
        ring.push(b"two");
        assert_eq!(ring.since(mark), ["one", "two"]);
        assert_eq!(ring.since(0).len(), 3);
    }

    #[test]
    fn what_could_steer_a_terminal_is_blanked() {
        let ring = Ring::default();
        ring.push(b"\x1b[2Jred\x07 \xff");
        assert_eq!(ring.all(), [" [2Jred  \u{fffd}"]);
    }

    #[tokio::test]
    async fn a_follower_sees_the_past_and_the_rest_each_once() {
        let ring = Arc::new(Ring::default());
        let (read, mut write) = std::io::pipe().unwrap();
        ring.push(b"past");
        let mut follower = ring.follow();
        write.write_all(b"one\ntwo\nrest without an end").unwrap();
        drop(write);
        drain(read.into(), Arc::clone(&ring)).await.unwrap();
        for line in ["past", "one", "two", "rest without an end"] {
            assert_eq!(follower.next().await.as_deref(), Some(line));
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_and_not_kept_growing() {
        let ring = Arc::new(Ring::default());
        let (read, mut write) = std::io::pipe().unwrap();
        let writer = std::thread::spawn(move || write.write_all(&vec![b'x'; 100_000]));
        drain(read.into(), Arc::clone(&ring)).await.unwrap();
        writer.join().unwrap().unwrap();
        assert!(ring.all().iter().all(|line| line.len() <= LINE_BYTES));
    }
}

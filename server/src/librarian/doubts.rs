//! Files that could not be looked into, for a reason that is not theirs: a slow disk, a busy machine, no process to be had.
//! That is no verdict, so they are looked into again: when somebody asks for one, and else after pauses that grow.

use std::{collections::HashMap, time::Duration};

use protocol::Problem;
use store::ModelKey;
use tokio::time::Instant;

/// Until the second try; each further pause is twice the one before.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause.
const MOST: Duration = Duration::from_secs(120);

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<ModelKey, Doubt>);

#[derive(Debug)]
struct Doubt {
    problem: Problem,
    pause: Duration,
    again: Instant,
}

impl Doubts {
    /// Why the last try failed, if it is too early for another one.
    pub(super) fn too_early(&self, key: &ModelKey) -> Option<Problem> {
        let doubt = self.0.get(key)?;
        (Instant::now() < doubt.again).then(|| doubt.problem.clone())
    }

    /// Another try failed.
    pub(super) fn add(&mut self, key: &ModelKey, problem: Problem) {
        let pause = self.0.get(key).map_or(FIRST, |before| (before.pause * 2).min(MOST));
        self.0.insert(key.clone(), Doubt { problem, pause, again: Instant::now() + pause });
    }

    /// It has been looked into.
    pub(super) fn settle(&mut self, key: &ModelKey) {
        self.0.remove(key);
    }

    /// Forgets files that are no longer there.
    pub(super) fn keep(&mut self, there: &[ModelKey]) {
        self.0.retain(|key, _| there.contains(key));
    }

    /// Whether these files are among them.
    pub(super) fn hold(&self, key: &ModelKey) -> bool {
        self.0.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use protocol::Code;
    use store::FileKey;
    use tokio::time::advance;

    use super::*;

    fn key(inode: u64) -> ModelKey {
        ModelKey(vec![FileKey { device: 1, inode, size: 3, mtime_ns: 4 }])
    }

    fn slow() -> Problem {
        Problem::new(Code::LoadFailed, "It took longer than 10 seconds.", "")
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_looked_into_is_tried_again_after_pauses_that_grow_to_two_minutes() {
        let mut doubts = Doubts::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            doubts.add(&key(1), slow());
            let begin = Instant::now();
            while doubts.too_early(&key(1)).is_some() {
                advance(Duration::from_secs(1)).await;
            }
            pauses.push(begin.elapsed().as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120, 120]);
        doubts.settle(&key(1));
        assert!(!doubts.hold(&key(1)));
        doubts.add(&key(1), slow());
        advance(Duration::from_secs(2)).await;
        assert_eq!(doubts.too_early(&key(1)), None, "a new row begins small");
    }

    #[tokio::test(start_paused = true)]
    async fn one_file_keeps_no_other_back_and_one_that_has_gone_is_forgotten() {
        let mut doubts = Doubts::default();
        doubts.add(&key(1), slow());
        assert_eq!((doubts.too_early(&key(1)), doubts.too_early(&key(2))), (Some(slow()), None));
        doubts.keep(&[key(2)]);
        assert!(!doubts.hold(&key(1)));
    }
}

//! Is the worker alive, and does its work go on? Two questions, counted in ticks of one second rather than read off a
//! clock, so that a server that was itself stopped or suspended accuses nobody. Pure.

use link::{FromWorker, Stage};

/// Pings that may stay unanswered.
const SILENT_TICKS: u32 = 5;
/// Ticks without a step while it loads.
const LOAD_TICKS: u32 = 60;
/// Ticks of a load in all: one that claims to move for so long does not come to an end.
const LOAD_TICKS_IN_ALL: u32 = 3600;
/// Ticks without a step while it has a request to work on. A layer is a step; but candle's model is not seen through, and
/// reads a chunk of a prompt in one.
const RUN_TICKS: u32 = 60;

/// What the worker has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// To say hello, for which it has a deadline of its own and is not pinged.
    Start,
    /// Nothing, or it waits for a reader.
    None,
    /// It loads or inspects.
    Load,
    /// It answers.
    Requests,
}

/// Why it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Hang {
    #[error("it gave no sign of life for {SILENT_TICKS} seconds")]
    Silent,
    #[error("its load did not move for {LOAD_TICKS} seconds")]
    LoadStands,
    #[error("its load did not end within {} minutes", LOAD_TICKS_IN_ALL / 60)]
    LoadEndless,
    #[error("it had work and did none for {RUN_TICKS} seconds")]
    WorkStands,
}

/// Of one worker.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    sent: u64,
    unanswered: u32,
    step: u64,
    still: u32,
    /// Ticks of its load.
    loading: u32,
    /// What its load has said last of how far it is.
    reached: Option<(Stage, u64)>,
}

impl Watch {
    /// A second has passed. Returns the number of the ping to send.
    pub(crate) fn tick(&mut self, work: Work) -> Result<u64, Hang> {
        if self.unanswered >= SILENT_TICKS {
            return Err(Hang::Silent);
        }
        self.still = if work == Work::None { 0 } else { self.still + 1 };
        self.loading += u32::from(work == Work::Load);
        match work {
            Work::Load if self.still > LOAD_TICKS => return Err(Hang::LoadStands),
            Work::Load if self.loading > LOAD_TICKS_IN_ALL => return Err(Hang::LoadEndless),
            Work::Requests if self.still > RUN_TICKS => return Err(Hang::WorkStands),
            _ => {}
        }
        self.sent += 1;
        self.unanswered += 1;
        Ok(self.sent)
    }

    /// The worker answered. An answer to an older ping is a sign of life too.
    pub(crate) fn pong(&mut self, step: u64) {
        self.unanswered = 0;
        if step != self.step {
            self.step = step;
            self.still = 0;
        }
    }

    /// The worker said something. Only what work brings is work: the same word about a load again, or what it keeps for a
    /// session, is none.
    pub(crate) fn heard(&mut self, message: &FromWorker) {
        let moved = match *message {
            FromWorker::Progress { stage, done, .. } => {
                let is_further = match self.reached {
                    Some((last, reached)) if last == stage => done > reached,
                    _ => true,
                };
                if is_further {
                    self.reached = Some((stage, done));
                }
                is_further
            }
            FromWorker::Held { .. } | FromWorker::SessionEnded { .. } | FromWorker::Pong { .. } => false,
            _ => true,
        };
        if moved {
            self.still = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_until_given_up(work: Work, mut answer: impl FnMut(&mut Watch, u32)) -> Option<(u32, Hang)> {
        let mut watch = Watch::default();
        (1..1000).find_map(|n| match watch.tick(work) {
            Ok(_) => {
                answer(&mut watch, n);
                None
            }
            Err(hang) => Some((n, hang)),
        })
    }

    #[test]
    fn five_missed_pings_are_death_even_without_work() {
        assert_eq!(ticks_until_given_up(Work::None, |_, _| {}), Some((6, Hang::Silent)));
    }

    #[test]
    fn an_idle_worker_that_answers_lives_for_ever() {
        assert_eq!(ticks_until_given_up(Work::None, |watch, _| watch.pong(0)), None);
    }

    #[test]
    fn a_worker_that_answers_pings_but_does_not_move_is_given_up() {
        let answers = |watch: &mut Watch, _| watch.pong(7);
        // The first pong moved the counter from 0 to 7.
        assert_eq!(ticks_until_given_up(Work::Load, answers), Some((62, Hang::LoadStands)));
        assert_eq!(ticks_until_given_up(Work::Requests, answers), Some((62, Hang::WorkStands)));
    }

    fn progress(done: u64) -> FromWorker {
        FromWorker::Progress { stage: Stage::Weights, done, total: 100 }
    }

    #[test]
    fn a_load_that_says_the_same_again_and_again_is_given_up() {
        let repeats = |watch: &mut Watch, _| {
            watch.pong(7);
            watch.heard(&progress(1));
            watch.heard(&FromWorker::Held { session: String::new(), bytes: 1 });
        };
        assert_eq!(ticks_until_given_up(Work::Load, repeats), Some((62, Hang::LoadStands)));
        let advances = |watch: &mut Watch, n: u32| {
            watch.pong(7);
            watch.heard(&progress(u64::from(n / 50)));
        };
        assert_eq!(ticks_until_given_up(Work::Load, advances), None);
    }

    #[test]
    fn a_load_that_advances_for_ever_is_given_up_too() {
        let mut watch = Watch::default();
        let mut ticks = (1..).map(|n| {
            watch.pong(n);
            watch.heard(&progress(n));
            watch.tick(Work::Load)
        });
        assert_eq!(ticks.position(|tick| tick == Err(Hang::LoadEndless)), Some(LOAD_TICKS_IN_ALL as usize));
    }

    #[test]
    fn a_slow_worker_that_moves_is_left_alone() {
        let slow = |watch: &mut Watch, n| watch.pong(u64::from(n / 59));
        assert_eq!(ticks_until_given_up(Work::Requests, slow), None);
    }

    #[test]
    fn work_that_begins_late_gets_its_whole_time() {
        let mut watch = Watch::default();
        for _ in 0..100 {
            watch.tick(Work::None).unwrap();
            watch.pong(1);
        }
        for _ in 0..RUN_TICKS {
            watch.tick(Work::Requests).unwrap();
            watch.pong(1);
        }
        assert_eq!(watch.tick(Work::Requests), Err(Hang::WorkStands));
    }
}

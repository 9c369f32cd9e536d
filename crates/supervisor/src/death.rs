//! Why a worker is no more, in words for a person. Pure.

use std::collections::VecDeque;

use link::WireError;
use protocol::{Code, Problem};

use crate::{process::Death, requests::Breach, watch::Hang};

/// How many processes the system has killed for want of memory, as looked up every second: only what came in the last few
/// seconds can be this worker's end.
#[derive(Debug)]
pub(crate) struct Kills(VecDeque<Option<u64>>);

impl Kills {
    /// Looks that are kept. A worker with much memory takes a while from its kill to its end.
    const LOOKS: usize = 4;

    pub(crate) fn new(now: Option<u64>) -> Self {
        Self(VecDeque::from([now]))
    }

    /// A second has passed.
    pub(crate) fn look(&mut self, now: Option<u64>) {
        if self.0.len() == Self::LOOKS {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// Whether there are more now than at the oldest look that is kept. What cannot be counted has not grown.
    pub(crate) fn grew(&self, now: Option<u64>) -> bool {
        let before = self.0.front().copied().flatten();
        before.zip(now).is_some_and(|(before, now)| before < now)
    }
}

/// Why a load or a run came to its end without being asked to.
#[derive(Debug)]
pub(crate) enum Cause {
    /// There never was a process.
    NotSpawned(std::io::Error),
    /// It could not be loaded: its own or the shelf's words.
    Refused(Problem),
    /// It ended by itself, or from outside.
    Died {
        /// How.
        death: Death,
        /// Whether the system has killed anybody for want of memory at about that time.
        oom_kills_grew: bool,
    },
    /// It did not say hello in time.
    NoHello,
    /// It is not what was spawned.
    Stranger(&'static str),
    /// It broke the protocol.
    Wire(WireError),
    /// It broke the protocol.
    Breach(Breach),
    /// It stands.
    Hung(Hang),
}

const RELOAD: &str = "Load the model again; if it happens again, look into its log (innkeeper logs MODEL).";
const MORE_ROOM: &str = "Unload another model, ask for a smaller context, or take a smaller model.";

impl Cause {
    /// Whether it lies in the machine or in somebody else, and so says nothing about the file that the worker looked into:
    /// it was killed, it could not read on, it got no processor.
    pub(crate) fn is_from_outside(&self) -> bool {
        use libc::{SIGBUS, SIGKILL, SIGTERM};
        match self {
            Self::Died { death: Death::Signalled(signal), .. } => {
                matches!(*signal, SIGKILL | SIGTERM | SIGBUS)
            }
            Self::NotSpawned(_) | Self::NoHello | Self::Hung(_) => true,
            _ => false,
        }
    }

    /// Cause and remedy. `lines`: the worker's own, in which an allocation that failed gives itself away.
    pub(crate) fn problem(&self, lines: &[String]) -> Problem {
        match self {
            Self::Refused(problem) => problem.clone(),
            Self::NotSpawned(error) => Problem::new(
                Code::LoadFailed,
                format!("No worker process could be started: {error}."),
                "Check the system's limits on processes and memory, then load the model again.",
            ),
            Self::Died { death, oom_kills_grew } => died(*death, *oom_kills_grew, lines),
            Self::NoHello => worker_died("The worker did not report in time after its start"),
            Self::Stranger(what) => {
                worker_died(&format!("The worker is not the one that was started: {what}"))
            }
            Self::Wire(WireError::Cut) => worker_died("The worker closed its channel and went on running"),
            Self::Wire(error) => worker_died(&format!("The worker broke the protocol: {error}")),
            Self::Breach(breach) => worker_died(&format!("The worker broke the protocol: {breach}")),
            Self::Hung(hang) => {
                Problem::new(Code::WorkerDied, format!("The worker hung: {hang}, so it was ended."), RELOAD)
            }
        }
    }
}

/// What a request hears that was being answered when its worker went.
pub(crate) fn while_answering(problem: &Problem) -> Problem {
    let code = if problem.code == Code::OutOfMemory { Code::OutOfMemory } else { Code::WorkerDied };
    Problem::new(
        code,
        format!("The model stopped while it answered. {}", problem.message),
        "Send the request again; the model is loaded anew.",
    )
}

/// What a request hears that was being answered when its model was unloaded.
pub(crate) fn cut_off() -> Problem {
    let message = "The model was unloaded while it answered.";
    Problem::new(Code::CutOff, message, "Send the request again; the model is loaded anew.")
}

fn worker_died(what: &str) -> Problem {
    Problem::new(Code::WorkerDied, format!("{what}, so it was ended."), RELOAD)
}

fn died(death: Death, oom_kills_grew: bool, lines: &[String]) -> Problem {
    // The words of Rust's allocation error handler; the process aborts after them.
    let no_room = lines.iter().any(|line| line.starts_with("memory allocation of"));
    let (code, message) = match death {
        Death::Signalled(libc::SIGABRT) if no_room => {
            (Code::OutOfMemory, "The worker ran out of memory.".to_owned())
        }
        Death::Signalled(libc::SIGKILL) if oom_kills_grew => (
            Code::OutOfMemory,
            "The system killed the worker, most likely because the machine's memory ran out (signal 9).".to_owned(),
        ),
        Death::Signalled(libc::SIGKILL) => {
            (Code::WorkerDied, "The worker was killed from outside (signal 9).".to_owned())
        }
        Death::Signalled(libc::SIGTERM) => {
            (Code::WorkerDied, "The worker was told to end from outside (signal 15).".to_owned())
        }
        Death::Signalled(libc::SIGBUS) => (
            Code::WorkerDied,
            "The worker could not read the model's file any more (signal 7): it was cut short, or its disk failed."
                .to_owned(),
        ),
        Death::Signalled(signal) => (Code::WorkerDied, format!("The worker crashed (signal {signal}).")),
        Death::Exited(code) => (Code::WorkerDied, format!("The worker ended by itself (exit code {code}).")),
        Death::Unknown => (Code::WorkerDied, "The worker ended, and how is not known.".to_owned()),
    };
    Problem::new(code, message, if code == Code::OutOfMemory { MORE_ROOM } else { RELOAD })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(death: Death, oom_kills_grew: bool, lines: &[&str]) -> Problem {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        Cause::Died { death, oom_kills_grew }.problem(&lines)
    }

    #[test]
    fn out_of_memory_is_told_from_a_crash() {
        let failed = "memory allocation of 8589934592 bytes failed";
        assert_eq!(after(Death::Signalled(libc::SIGABRT), false, &[failed]).code, Code::OutOfMemory);
        assert_eq!(after(Death::Signalled(libc::SIGABRT), false, &[]).code, Code::WorkerDied);
        assert_eq!(after(Death::Signalled(libc::SIGKILL), true, &[]).code, Code::OutOfMemory);
        assert_eq!(after(Death::Signalled(libc::SIGKILL), false, &[]).code, Code::WorkerDied);
        assert_eq!(after(Death::Signalled(libc::SIGSEGV), true, &[failed]).code, Code::WorkerDied);
    }

    #[test]
    fn what_the_machine_did_to_a_look_is_told_from_what_the_file_did() {
        let died = |signal, oom_kills_grew| Cause::Died { death: Death::Signalled(signal), oom_kills_grew };
        for outside in [
            died(libc::SIGKILL, false),
            died(libc::SIGKILL, true),
            died(libc::SIGBUS, false),
            Cause::NoHello,
            Cause::Hung(Hang::Silent),
        ] {
            assert!(outside.is_from_outside(), "{outside:?}");
        }
        for of_the_file in
            [died(libc::SIGABRT, false), died(libc::SIGSEGV, true), Cause::Wire(WireError::Cut)]
        {
            assert!(!of_the_file.is_from_outside(), "{of_the_file:?}");
        }
    }

    #[test]
    fn a_kill_of_long_ago_is_nobodys_reason_today() {
        let mut kills = Kills::new(Some(3));
        kills.look(Some(4));
        assert!(kills.grew(Some(4)), "a second ago, while it lived");
        for _ in 0..Kills::LOOKS {
            kills.look(Some(4));
        }
        assert!(!kills.grew(Some(4)), "another's, some seconds ago");
        assert!(kills.grew(Some(5)));
        assert!(!Kills::new(None).grew(Some(5)), "what was not counted before has not grown");
    }

    #[test]
    fn every_end_is_told_as_a_sentence_with_its_code_or_signal() {
        for (death, word) in [
            (Death::Exited(101), "exit code 101"),
            (Death::Signalled(11), "signal 11"),
            (Death::Unknown, "not known"),
        ] {
            let problem = after(death, false, &[]);
            assert!(problem.message.contains(word) && problem.message.ends_with('.'), "{}", problem.message);
            assert!(while_answering(&problem).message.contains(word));
        }
    }
}

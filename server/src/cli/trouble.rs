//! What can go wrong with a verb, in words, and the exit code that a script gets.

use std::io;

use protocol::{Code, Problem};
use store::StoreError;

/// Why a verb ends without having done it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody answers there.
    #[error("No server answers at {server} ({why}).")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What the system said.
        why: String,
    },
    /// The server said no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The data folder said no.
    #[error("{0}")]
    Store(StoreError),
    /// The verb cannot be meant so.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// It was done, and memory did not come back; all has been said already.
    #[error("Not all of the memory came back.")]
    NotReturned,
    /// It was done in part, and what was not has been said already.
    #[error("Not all of it was done.")]
    Partly,
    /// A command that we ran for somebody ended so; it has said what there is to say.
    #[error("the command ended with {0}")]
    Command(u8),
    /// Whoever reads our output has gone, as `head` does: no trouble at all.
    #[error("the reader has gone")]
    ReaderGone,
}

impl Trouble {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Command(code) => *code,
            Self::Failed(_) | Self::Partly => 1,
            Self::Usage(_) | Self::Store(StoreError::BadReference { .. } | StoreError::NoHub) => 2,
            Self::Store(_) => 1,
            Self::Unreachable { .. } => 3,
            Self::Refused(problem) => match problem.code {
                Code::BadArgument => 2,
                Code::InsufficientMemory | Code::QueueFull | Code::Draining => 4,
                _ => 1,
            },
            Self::NotReturned => 5,
        }
    }

    /// What to do; may be empty.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "Start one with `innkeeper serve`, or name another with --server.".to_owned()
            }
            Self::Refused(problem) => problem.hint.clone(),
            Self::Store(error) => error.hint(),
            _ => String::new(),
        }
    }

    /// The same for programs.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Refused(problem) => problem.clone(),
            Self::Store(error) => error.problem(),
            Self::Usage(_) => Problem::new(Code::BadArgument, self.to_string(), self.hint()),
            _ => Problem::new(Code::Internal, self.to_string(), self.hint()),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Writing output is the only input and output that verbs do without saying what for.
impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Failed(format!("The output cannot be written: {error}."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_refusals_from_failures() {
        let refused = |code| Trouble::Refused(Problem::new(code, "x", "y")).exit_code();
        assert_eq!(refused(Code::InsufficientMemory), 4);
        assert_eq!(refused(Code::QueueFull), 4);
        assert_eq!(refused(Code::UnknownModel), 1);
        assert_eq!(refused(Code::BadArgument), 2);
        let nobody = Trouble::Unreachable { server: "http://x".to_owned(), why: "refused".to_owned() };
        assert_eq!(nobody.exit_code(), 3);
        assert!(nobody.hint().contains("innkeeper serve"));
        assert_eq!(Trouble::NotReturned.exit_code(), 5);
        assert_eq!(Trouble::from(StoreError::NoPip).exit_code(), 1);
        assert_eq!(Trouble::from(StoreError::NoHub).exit_code(), 2);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(Trouble::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_code(), 0);
        assert_eq!(Trouble::from(io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }
}

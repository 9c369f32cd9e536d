//! What can go wrong with the file, in words for a person.

use std::path::Path;

use protocol::{Code, Problem, Time, Warning, capital};
use rusqlite::ErrorCode;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite refuses.
    #[error("the history cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A file cannot be moved or made.
    #[error("{path} cannot be used: {cause}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("the thread that writes the history cannot be started: {0}")]
    Thread(std::io::Error),
    /// A read took longer than it may.
    #[error("the history did not answer within two seconds")]
    Slow,
}

impl HistoryError {
    /// Whether the file itself is broken, rather than the disk full or busy.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    /// In words for whoever asked.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Slow => Problem::new(
                Code::TimedOut,
                "The history did not answer within two seconds.",
                "Ask for less at once; look whether the disk is busy.",
            )
            .retry_after(2),
            other => Problem::new(
                Code::Internal,
                format!("{}.", capital(&other.to_string())),
                "The server's log and `innkeeper status` say more.",
            ),
        }
    }

    /// In words for the snapshot, while writing fails.
    pub(crate) fn warning(&self, path: &Path, since: Time) -> Warning {
        let folder = path.parent().unwrap_or(path).display();
        let full = self.code() == Some(ErrorCode::DiskFull);
        let (message, hint) = if full {
            (
                "The disk is full: what happens is not being written down.".to_owned(),
                format!("Make room where {folder} is. Innkeeper goes on, and writes again when it can."),
            )
        } else {
            (
                format!("What happens is not being written down: {self}."),
                format!(
                    "Look at the disk and at who may write into {folder}. Innkeeper goes on, and tries again."
                ),
            )
        };
        Warning { code: "history_not_written".to_owned(), message, hint, since }
    }
}

/// Why a file was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aside {
    /// It cannot be read.
    Damaged,
    /// A newer Innkeeper wrote it, in this format.
    Newer(i32),
    /// It is a database of some other program.
    Foreign,
}

impl Aside {
    /// For the file's new name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Newer(_) => "newer",
            Self::Foreign => "foreign",
        }
    }

    /// In words for the snapshot, for the rest of this run.
    pub(crate) fn warning(self, kept_as: &Path, since: Time) -> Warning {
        let kept = kept_as.display();
        let (what, next) = match self {
            Self::Damaged => (
                "The history was damaged".to_owned(),
                format!("Nothing was overwritten: {kept} has what could be saved (`sqlite3 FILE .recover`)."),
            ),
            Self::Newer(version) => (
                format!("The history was written by a newer Innkeeper (format {version})"),
                format!(
                    "Nothing was overwritten: run the newer Innkeeper and put {kept} back as history.db."
                ),
            ),
            Self::Foreign => (
                "history.db was a database of another program".to_owned(),
                format!("Nothing was overwritten: it is {kept} now."),
            ),
        };
        Warning {
            code: "history_set_aside".to_owned(),
            message: format!("{what} and was set aside; a new one was begun."),
            hint: next,
            since,
        }
    }
}

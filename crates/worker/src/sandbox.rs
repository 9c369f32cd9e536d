//! What confines a worker. Done before the first thread and before the first byte of a model is read; says what it
//! reached, never what it hoped for.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Descriptors that a worker may have open: the parts of a split model, and a few.
const DESCRIPTORS: u64 = 256;

/// What was reached. Later ones include the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Something of [`Level::Basic`] is missing.
    Open,
    /// No new privileges, no core dump, nothing inherited but the channel, few descriptors.
    Basic,
}

impl Level {
    /// For a person.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Open => "not confined",
            Self::Basic => "no new privileges, nothing inherited",
        }
    }
}

/// Confines this process as far as it goes.
pub(crate) fn confine() -> Level {
    let limit =
        |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).is_ok();
    // The supervisor has set the first and the last before this program began; here they are looked at.
    let reached = rustix::thread::no_new_privs().unwrap_or(false)
        && limit(Resource::Core, 0)
        && limit(Resource::Nofile, DESCRIPTORS)
        && nothing_inherited();
    if reached { Level::Basic } else { Level::Open }
}

/// Whether only stdin, stdout, stderr and the channel are open, and the one by which this looks.
fn nothing_inherited() -> bool {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return false };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|&number| number > 3).count() <= 1
}

//! Control groups, as far as harm needs them: the freezer of version 1, and memory in either version.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};

use super::processes;

/// Where they are.
const ROOT: &str = "/sys/fs/cgroup";

/// A group of this run; gone with its value.
pub(super) struct Group(PathBuf);

impl Group {
    /// One of a controller (empty: version 2's only tree); `None`: this machine has no such thing, or it may not be used.
    fn new(controller: &str, proof: &str) -> Option<Self> {
        // Harms run side by side.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("innkeeper-harm-{}-{number}", std::process::id());
        let folder = PathBuf::from(ROOT).join(controller).join(name);
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        group.0.join(proof).exists().then_some(group)
    }

    /// Takes a process in; what it starts comes along.
    pub(super) fn take(&self, pid: u32) -> Result<()> {
        self.say("cgroup.procs", &pid.to_string())
    }

    fn say(&self, file: &str, word: &str) -> Result<()> {
        fs::write(self.0.join(file), word)
            .with_context(|| format!("the control group takes no {word} for {file}"))
    }

    fn number(&self, file: &str) -> Result<u64> {
        let text = fs::read_to_string(self.0.join(file))?;
        text.trim().parse().with_context(|| format!("{file} is no number: {text}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty only once what was in it has ended.
        drop(processes::until("an empty control group", Duration::from_secs(2), || {
            fs::remove_dir(&self.0).is_ok()
        }));
    }
}

/// What a process in the hands of a broken driver looks like: even SIGKILL waits.
pub(super) struct Freezer(Group);

impl Freezer {
    pub(super) fn new() -> Option<Self> {
        Group::new("freezer", "freezer.state").map(Self)
    }

    pub(super) fn freeze(&self, pid: u32) -> Result<()> {
        self.0.take(pid)?;
        self.0.say("freezer.state", "FROZEN")
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.0.say("freezer.state", "THAWED")
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(self.thaw());
    }
}

/// A group with a limit on its memory, by the files of its version.
pub(super) struct Memory {
    pub(super) group: Group,
    usage: &'static str,
    limit: &'static str,
}

impl Memory {
    pub(super) fn new() -> Option<Self> {
        let kinds = [
            ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes"),
            ("", "memory.current", "memory.max"),
        ];
        kinds.into_iter().find_map(|(controller, usage, limit)| {
            Some(Self { group: Group::new(controller, limit)?, usage, limit })
        })
    }

    /// Leaves the group so many bytes more than it has now.
    pub(super) fn leave_room(&self, bytes: u64) -> Result<()> {
        let limit = self.group.number(self.usage)? + bytes;
        self.group.say(self.limit, &limit.to_string())
    }
}

//! Other processes as `/proc` shows them, and what can be done to them.

use std::{fs, io, time::Duration};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::report::now;

fn id(pid: u32) -> Result<Pid> {
    Pid::from_raw(pid.cast_signed()).context("no process has that number")
}

/// Sends a signal; to one that has ended, nothing.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill_process(id(pid)?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(io::Error::from(errno)).context("a signal cannot be sent"),
    }
}

/// Sets another process's limit, and returns the one before. Its maximum stays; `name`: as `/proc/PID/limits` calls it.
pub(crate) fn limit(pid: u32, what: Resource, name: &str, most: Option<u64>) -> Result<Option<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such limit")?;
    let maximum = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let old = prlimit(Some(id(pid)?), what, Rlimit { current: most, maximum });
    Ok(old.context("a limit cannot be set")?.current)
}

fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Private bytes.
pub(crate) fn private_bytes(pid: u32) -> u64 {
    field(pid, "status", "RssAnon:").unwrap_or(0) * 1024
}

/// Threads.
pub(crate) fn threads(pid: u32) -> u64 {
    field(pid, "status", "Threads:").unwrap_or(0)
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Its state's letter: `R`, `S`, `T`, `Z`; `None` when it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whether it runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Its arguments, each ended by a zero.
pub(crate) fn arguments(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Children that this thread's process has made, zombies included.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .flat_map(|thread| {
            let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Every process that runs and has one of these words in its arguments.
pub(crate) fn with_words(words: &[String]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| {
        let has = arguments(pid);
        words.iter().any(|word| has.windows(word.len()).any(|part| part == word.as_bytes())) && runs(pid)
    })
    .collect()
}

/// A look at something that cannot be waited for from outside its process.
pub(crate) fn pause(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

/// Waits until it is so, and returns how long that took.
pub(crate) fn until(what: &str, most: Duration, mut is_so: impl FnMut() -> bool) -> Result<Duration> {
    let began = now();
    while !is_so() {
        if began.elapsed() > most {
            bail!("waited {most:?} for {what}");
        }
        pause(2);
    }
    Ok(began.elapsed())
}

//! Other processes as `/proc` shows them, what can be done to them, and waiting for them: the one place of these chores
//! that looks at the clock.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

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

/// Whether the server on this port has taken the connection from that one: until then the system has it, without an inode.
pub(crate) fn is_taken(server: u16, client: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is_it = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut ends_with =
            |port: u16| fields.next().is_some_and(|end| end.ends_with(&format!(":{port:04X}")));
        ends_with(server) && ends_with(client)
    };
    let row = table.lines().find(is_it);
    row.and_then(|row| row.split_ascii_whitespace().nth(9)).is_some_and(|inode| inode != "0")
}

/// Its state's letter: `R`, `S`, `T`, `Z`; `None` when it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    state_in(Path::new(&format!("/proc/{pid}")))
}

fn state_in(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Stops a process and waits until each of its threads stands: a signal takes a moment to reach them.
pub(crate) fn stand(pid: u32) -> Result<()> {
    signal(pid, Signal::STOP)?;
    let stands = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        threads.is_ok_and(|all| all.flatten().all(|one| state_in(&one.path()) == Some('T')))
    };
    until("a stopped process to stand", Duration::from_secs(2), stands)?;
    Ok(())
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

/// The worker that a server has started ahead and that waits for a model.
pub(crate) fn waiting(server: u32) -> Option<u32> {
    const WORD: &[u8] = b"(none yet)";
    let waits = |pid: &u32| arguments(*pid).windows(WORD.len()).any(|part| part == WORD);
    children(server).into_iter().find(waits)
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

#[expect(
    clippy::disallowed_methods,
    reason = "chores time their steps and measure from outside, on the clock of whoever waits"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The first line of what another process says; it has so long for it. Whoever gives up ends the process, and the thread
/// that reads goes with it.
pub(crate) fn first_line(from: impl Read + Send + 'static, most: Duration) -> Result<String> {
    let (told, line) = sync_channel(1);
    let read = move || {
        let mut line = String::new();
        let read = BufReader::new(from).read_line(&mut line);
        // Nobody may wait for it any more.
        drop(told.send(read.map(|_| line)));
    };
    thread::Builder::new().name("first line".to_owned()).spawn(read)?;
    match line.recv_timeout(most) {
        Ok(line) => Ok(line?),
        Err(_) => bail!("it said nothing within {most:?}"),
    }
}

/// Between two looks at something that cannot be waited for from outside its process.
pub(crate) fn pause(ms: u64) {
    pause_for(Duration::from_millis(ms));
}

/// The same, for a span.
pub(crate) fn pause_for(span: Duration) {
    let began = now();
    // A thread may be woken for no reason.
    while let Some(left) = span.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_as_taken_once_somebody_has_accepted_it() {
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = std::net::TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let ports = [door.local_addr().unwrap(), there.local_addr().unwrap()].map(|address| address.port());
        assert!(!is_taken(ports[0], ports[1]));
        let (_taken, _) = door.accept().unwrap();
        assert!(is_taken(ports[0], ports[1]));
    }

    #[test]
    fn a_process_that_says_nothing_is_not_waited_for_for_ever() {
        let (silent, _open) = io::pipe().unwrap();
        let error = first_line(silent, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("said nothing within"), "{error}");
        assert_eq!(first_line(io::Cursor::new("one\ntwo\n"), Duration::from_secs(5)).unwrap(), "one\n");
    }
}

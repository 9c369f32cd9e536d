//! What a worker holds before it goes, and what of it is still held after: processes that it started and shared memory
//! that somebody else maps. Blocks; call it from a blocking thread.

use std::{collections::HashMap, time::Duration};

use manager::ports::{Measured, Probe};
use protocol::Quality;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpgid, waitpid,
};

use crate::{
    procfs::{self, Piece, PieceKey},
    run_dir::wait_for_end,
    spawn::mark,
};

/// How long a worker's descendants may take to go after SIGKILL.
const DESCENDANT_WAIT: Duration = Duration::from_secs(1);

/// What a living worker holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) measured: Option<Measured>,
    shared: HashMap<PieceKey, Piece>,
}

impl Held {
    /// Measures a living worker.
    pub(crate) fn measure(probe: &dyn Probe, pid: u32) -> Self {
        Self { measured: probe.exact(pid).ok(), shared: procfs::shared_pieces(pid) }
    }

    /// The same numbers, said of a later moment.
    pub(crate) fn of_another_moment(self) -> Self {
        let measured = self.measured.map(|measured| Measured { quality: Quality::Derived, ..measured });
        Self { measured, ..self }
    }
}

/// What is still held by somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// One sentence for each holder.
    pub(crate) sentences: Vec<String>,
}

impl Left {
    fn add(&mut self, bytes: u64, sentence: String) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.sentences.push(sentence);
    }
}

/// After a worker is reaped: ends what it started, and looks for what it held.
pub(crate) fn look(held: &Held, pid: u32, nonce: &str, probe: &dyn Probe) -> Left {
    let mut left = Left::default();
    let assignment = {
        let (name, value) = mark(nonce);
        format!("{name}={value}")
    };
    // The group's number may be another's by now, but only a descendant of the worker can have become our child in it.
    let is_orphan = |stat: procfs::Stat| stat.group == pid && stat.parent == std::process::id();
    let is_descendant =
        |other: u32| procfs::has_variable(other, &assignment) || procfs::stat(other).is_some_and(is_orphan);
    for other in procfs::pids().into_iter().filter(|&other| is_descendant(other)) {
        if !end_descendant(other, is_descendant) {
            let bytes = probe.exact(other).map_or(0, |measured| measured.private_bytes);
            left.add(bytes, format!("{} that it had started still holds {}.", process(other), mib(bytes)));
        }
    }
    reap_group(pid);
    for (key, piece) in &held.shared {
        look_for_piece(key, piece, &mut left);
    }
    left
}

/// Whether it is gone.
fn end_descendant(pid: u32, is_it: impl Fn(u32) -> bool) -> bool {
    let Some(raw) = Pid::from_raw(pid.cast_signed()) else { return true };
    let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else { return true };
    if !is_it(pid) {
        return true;
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let gone = wait_for_end(&process, DESCENDANT_WAIT);
    // The server is a subreaper: an orphan is its child, and a zombie until it is reaped. Another's child is not ours.
    let _ = waitpid(Some(raw), WaitOptions::NOHANG);
    gone
}

/// Reaps those of the worker's group that ended before it, and became ours when it did.
fn reap_group(pid: u32) {
    let Some(group) = Pid::from_raw(pid.cast_signed()) else { return };
    while matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
}

fn look_for_piece(key: &PieceKey, piece: &Piece, left: &mut Left) {
    let holders: Vec<String> = procfs::pids()
        .into_iter()
        .filter(|&pid| procfs::mapped_pieces(pid).contains_key(key))
        .map(process)
        .collect();
    if !holders.is_empty() {
        let who = holders.join(", ");
        left.add(
            piece.bytes,
            format!("{} of shared memory {} are still mapped by {who}.", mib(piece.bytes), piece.name),
        );
    } else if procfs::lies_about(&piece.name, key.1) {
        left.add(piece.bytes, format!("{} of shared memory still lie in {}.", mib(piece.bytes), piece.name));
    }
}

fn process(pid: u32) -> String {
    match procfs::stat(pid) {
        Some(stat) => format!("process {pid} ({})", stat.name),
        None => format!("process {pid}"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

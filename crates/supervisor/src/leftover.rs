//! What a worker holds before it goes, and what of it is still held after: processes that it started and shared memory
//! that somebody else maps. Blocks; call it from a blocking thread.

use std::{collections::HashMap, time::Duration};

use manager::ports::{Measured, Probe, RamTotals};
use protocol::{Evidence, Quality};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpgid, waitpid,
};

use crate::{
    gpus::{self, OnGpu},
    procfs::{self, Key, Piece, PieceKey},
    run_dir::wait_for_end,
    spawn::mark,
};

/// How long a worker's descendants may take to go after SIGKILL.
const DESCENDANT_WAIT: Duration = Duration::from_secs(1);

/// What a living worker holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) measured: Option<Measured>,
    pub(crate) gpus: Vec<OnGpu>,
    shared: HashMap<PieceKey, Piece>,
    /// What it had started, where its sandbox could not keep it from that.
    descendants: Vec<Key>,
    /// The machine at that moment.
    machine: Option<RamTotals>,
}

impl Held {
    /// Measures a living worker.
    pub(crate) fn measure(probe: &dyn Probe, pid: u32) -> Self {
        let gpus = probe.gpus(pid).map(|reading| gpus::held(&reading, pid)).unwrap_or_default();
        let gpu_bytes = (!gpus.is_empty()).then(|| gpus.iter().map(OnGpu::bytes).sum());
        let measured = probe.exact(pid).ok().map(|measured| Measured { gpu_bytes, ..measured });
        Self {
            measured,
            gpus,
            shared: procfs::shared_pieces(pid),
            descendants: procfs::descendants(pid),
            machine: probe.machine(),
        }
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
    /// One sentence for each holder, and for each process that was ended.
    pub(crate) sentences: Vec<String>,
    pub(crate) evidence: Option<Evidence>,
}

impl Left {
    fn add(&mut self, bytes: u64, sentence: String) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.sentences.push(sentence);
    }
}

/// After a worker is reaped: ends what it started, and looks for what it held.
pub(crate) fn look(held: &Held, pid: u32, nonce: &str, probe: &dyn Probe) -> Left {
    let after = probe.machine();
    let evidence = held.machine.zip(after).map(|(before, after)| before.until(&after));
    let mut left = Left { evidence, ..Left::default() };
    let assignment = {
        let (name, value) = mark(nonce);
        format!("{name}={value}")
    };
    // The group's number may be another's by now, but only a descendant of the worker can have become our child in it.
    let is_orphan = |stat: procfs::Stat| stat.group == pid && stat.parent == std::process::id();
    // One that took a group of its own and threw its environment away is known by having been seen beneath the worker.
    let was_seen = |other: u32, start: u64| held.descendants.contains(&(other, start));
    let is_descendant = |other: u32| {
        procfs::has_variable(other, &assignment)
            || procfs::stat(other).is_some_and(|stat| was_seen(other, stat.start_time) || is_orphan(stat))
    };
    for other in procfs::pids().into_iter().filter(|&other| is_descendant(other)) {
        let (who, bytes) = (process(other), probe.exact(other).map_or(0, |measured| measured.private_bytes));
        match end_descendant(other, is_descendant) {
            // Nothing of it is left; that it was there is worth a word.
            End::Made if bytes > 0 => left
                .sentences
                .push(format!("{who} that it had started outlived it and was ended; it had held {}.", mib(bytes))),
            End::Made | End::Before => {}
            End::Refused => left.add(
                bytes,
                format!("{who} that it had started still holds {}; it cannot be ended, so look what it waits for.", mib(bytes)),
            ),
        }
    }
    reap_group(pid);
    for (key, piece) in &held.shared {
        look_for_piece(key, piece, &mut left);
    }
    left
}

/// What became of a descendant.
enum End {
    /// It was gone already.
    Before,
    /// It was killed.
    Made,
    /// It is there.
    Refused,
}

fn end_descendant(pid: u32, is_it: impl Fn(u32) -> bool) -> End {
    let Some(raw) = Pid::from_raw(pid.cast_signed()) else { return End::Before };
    let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else { return End::Before };
    if !is_it(pid) {
        return End::Before;
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let gone = wait_for_end(&process, DESCENDANT_WAIT);
    // The server is a subreaper: an orphan is its child, and a zombie until it is reaped. Another's child is not ours.
    let _ = waitpid(Some(raw), WaitOptions::NOHANG);
    if gone { End::Made } else { End::Refused }
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
            format!(
                "{} of shared memory {} are still mapped by {who}; they come back when that ends.",
                mib(piece.bytes),
                piece.name
            ),
        );
    } else if procfs::lies_about(&piece.name, key.1) {
        let (bytes, name) = (mib(piece.bytes), &piece.name);
        left.add(
            piece.bytes,
            format!(
                "{bytes} of shared memory still lie in {name}; they come back when that file is removed."
            ),
        );
    }
}

fn process(pid: u32) -> String {
    match procfs::stat(pid) {
        Some(stat) => format!("process {pid} ({})", stat.name),
        None => format!("process {pid}"),
    }
}

/// As sentences about what is left have it.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

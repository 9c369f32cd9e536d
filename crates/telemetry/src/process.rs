//! What one process holds: exactly from smaps_rollup, or cheaply from status.

use std::{fs, io, path::Path};

use manager::ports::{Measured, Probe};
use protocol::Quality;

use crate::{clock::wall_ms, ram::kib};

/// Manager's [`Probe`] on `/proc/PID/smaps_rollup`: exact, and it costs the page-table walk (9 to 33 ms a GiB).
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcProbe;

impl Probe for ProcProbe {
    fn exact(&self, pid: u32) -> io::Result<Measured> {
        exact(Path::new("/proc"), pid)
    }
}

/// What a process holds and how good the number is, before the time and the GPU are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) private_bytes: u64,
    pub(crate) mapped_bytes: u64,
}

/// From smaps_rollup: pages shared with others are shared out among them, so these numbers add up.
pub(crate) fn exact(proc: &Path, pid: u32) -> io::Result<Measured> {
    let text = fs::read_to_string(proc.join(pid.to_string()).join("smaps_rollup"))?;
    parse_rollup(&text).map(|held| measured(held, Quality::Exact)).ok_or_else(gone)
}

/// From status: two reads of a counter each, whatever the size (0.02 ms). A page shared with another process counts
/// in full and the kernel's counters may lag by some pages a thread, so the quality is `derived`.
pub(crate) fn cheap(proc: &Path, pid: u32) -> io::Result<Measured> {
    let text = fs::read_to_string(proc.join(pid.to_string()).join("status"))?;
    parse_status(&text).map(|held| measured(held, Quality::Derived)).ok_or_else(gone)
}

/// A zombie and a kernel thread have the files, but nothing in them.
fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process holds no memory: it has ended")
}

fn measured(held: Held, quality: Quality) -> Measured {
    Measured {
        private_bytes: held.private_bytes,
        mapped_bytes: held.mapped_bytes,
        gpu_bytes: None,
        quality,
        wall_ms: wall_ms(),
    }
}

/// `None`: no process with memory. Kernels before 5.9 lack the split of Pss.
pub(crate) fn parse_rollup(text: &str) -> Option<Held> {
    let private =
        kib(text, "Pss_Anon")?.checked_add(kib(text, "Pss_Shmem")?)?.checked_add(kib(text, "SwapPss")?)?;
    Some(Held { private_bytes: private, mapped_bytes: kib(text, "Pss_File")? })
}

/// `None`: no process with memory.
pub(crate) fn parse_status(text: &str) -> Option<Held> {
    let private =
        kib(text, "RssAnon")?.checked_add(kib(text, "RssShmem")?)?.checked_add(kib(text, "VmSwap")?)?;
    Some(Held { private_bytes: private, mapped_bytes: kib(text, "RssFile")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_rollup_gives_what_the_machine_gets_back() {
        let held = parse_rollup(include_str!("../tests/recorded/smaps_rollup")).unwrap();
        // Pss_Anon 2276 + Pss_Shmem 4 + SwapPss 8; Pss_File 1732.
        assert_eq!(held, Held { private_bytes: 2288 << 10, mapped_bytes: 1732 << 10 });
    }

    #[test]
    fn a_recorded_status_gives_the_resident_sums() {
        let held = parse_status(include_str!("../tests/recorded/status")).unwrap();
        assert_eq!(held, Held { private_bytes: (2276 + 4 + 8) << 10, mapped_bytes: 5304 << 10 });
    }

    #[test]
    fn a_zombie_holds_nothing_and_says_so() {
        let zombie = "Name:\tworker\nState:\tZ (zombie)\nPid:\t7\nThreads:\t1\n";
        assert_eq!(parse_status(zombie), None);
        assert_eq!(parse_rollup(""), None);
        assert_eq!(exact(Path::new("/proc"), u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(Pss_(Anon|File|Shmem): *[0-9]{0,22} ?(kB)?\n|SwapPss: [0-9]{1,21} kB\n|\\PC{0,20}\n){0,8}") {
            let _ = parse_rollup(&text);
            let _ = parse_status(&text.replace("Pss_", "Rss").replace("SwapPss", "VmSwap"));
        }
    }
}

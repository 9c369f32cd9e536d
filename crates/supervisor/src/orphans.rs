//! Children that nobody waits for. The server is a subreaper, and the first process of a container: whatever loses its
//! parent becomes its child, and stays a zombie until somebody waits for it. Whoever starts a process here waits for it
//! at once, so a zombie that stays is nobody's, and is reaped.

use std::{collections::HashMap, io, time::Duration};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::procfs::{self, Key};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at which a zombie is left to whoever may wait for it. Counted, not timed: a server that was stopped for a while
/// has looked no oftener.
const LOOKS: u32 = 5;

/// Listens for ended children. Whatever a parent that ignores them has handed on to us, from here on the system tells.
///
/// # Errors
/// When the signal cannot be listened for.
pub(crate) fn listen() -> io::Result<Signal> {
    signal(SignalKind::child())
}

/// Reaps orphans for ever.
pub(crate) async fn reap(mut ended: Signal) {
    while ended.recv().await.is_some() {
        let mut seen = HashMap::new();
        loop {
            tokio::time::sleep(PAUSE).await;
            let looked = tokio::task::spawn_blocking(move || look(&seen)).await;
            match looked {
                Ok(left) if !left.is_empty() => seen = left,
                _ => break,
            }
        }
    }
}

/// One look; `seen`: how often each zombie was seen before. Returns the same with this look.
fn look(seen: &HashMap<Key, u32>) -> HashMap<Key, u32> {
    let us = std::process::id();
    let zombie = |pid: u32| {
        let stat = procfs::stat(pid).filter(|stat| stat.is_zombie && stat.parent == us)?;
        Some((pid, stat.start_time))
    };
    let zombies = procfs::pids().into_iter().filter_map(zombie);
    let (nobodys, young): (Vec<_>, Vec<_>) = zombies
        .map(|key| (key, seen.get(&key).map_or(1, |looks| looks + 1)))
        .partition(|(_, looks)| *looks >= LOOKS);
    for ((pid, _), _) in nobodys {
        tracing::debug!(pid, "an orphan is reaped");
        let _ = waitpid(Pid::from_raw(pid.cast_signed()), WaitOptions::NOHANG);
    }
    young.into_iter().collect()
}

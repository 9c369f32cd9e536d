//! One worker process, by its pidfd: it cannot come to mean another process.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdRegisterError},
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Somebody else reaped it.
    Unknown,
}

/// A child of ours that nobody else reaps. Dropped alive, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    death: Option<Death>,
}

impl Process {
    /// Watches a fresh child, or ends it when the runtime cannot watch it.
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> io::Result<Self> {
        match watched(pidfd) {
            Ok(pidfd) => Ok(Self { pid, pidfd, death: None }),
            Err(refused) => {
                let (pidfd, error) = refused.into_parts();
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                reap(&pidfd);
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; to one that has ended, nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only other failure, a lack of permission, cannot be: it is our child.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
    }

    /// Waits until it has ended, and reaps it. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> Death {
        if let Some(death) = self.death {
            return death;
        }
        // A pidfd is readable from the end of its process on. Should the runtime refuse to watch it, it is shutting
        // down, and this drop kills the process.
        drop(self.pidfd.readable().await);
        let death = reap(self.pidfd.get_ref());
        self.death = Some(death);
        death
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.death.is_none() {
            self.signal(Signal::KILL);
        }
    }
}

#[expect(unsafe_code, reason = "tokio leaves the promise that the descriptor stays open to its caller")]
fn watched(pidfd: OwnedFd) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, names the same description, and is closed by nobody but the `AsyncFd` that owns it
    // from here on.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }
}

/// Reaps an ended child.
pub(crate) fn reap(pidfd: &OwnedFd) -> Death {
    use std::os::fd::AsFd;
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Death::Exited(code),
            (None, Some(signal)) => Death::Signalled(signal),
            (None, None) => Death::Unknown,
        },
        Ok(None) | Err(_) => Death::Unknown,
    }
}

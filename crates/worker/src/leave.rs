//! The two things that a worker does with the bare process: it takes over the channel that it was born with, and it
//! leaves without a destructor.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, sockopt};

/// Where the supervisor leaves the channel.
const CHANNEL: i32 = 3;

/// Ends the process now. Waits for no thread, takes no lock, runs no destructor and no exit handler: gigabytes go back
/// with the address space.
#[expect(unsafe_code, reason = "there is no safe _exit")]
pub(crate) fn now(code: i32) -> ! {
    // SAFETY: `_exit` takes no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the process when the thread that holds it ends, in whatever way: none of the three threads may be missing.
pub(crate) struct WithThread;

impl Drop for WithThread {
    fn drop(&mut self) {
        now(101);
    }
}

/// The channel, if the process was started with one. To be called once, before anything else is opened.
#[expect(unsafe_code, reason = "a descriptor that is inherited by number")]
pub(crate) fn channel() -> Option<OwnedFd> {
    // SAFETY: `fcntl` with F_GETFD only asks whether the number is open. If it is, it was inherited: nothing in this
    // process has opened a descriptor yet, so that nobody else owns it.
    let channel = unsafe {
        if libc::fcntl(CHANNEL, libc::F_GETFD) < 0 {
            return None;
        }
        OwnedFd::from_raw_fd(CHANNEL)
    };
    let is_ours = sockopt::socket_domain(channel.as_fd()) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(channel.as_fd()) == Ok(SocketType::STREAM);
    if is_ours {
        Some(channel)
    } else {
        // Not ours to close either.
        std::mem::forget(channel);
        None
    }
}

//! Leans against the walls: tries what is forbidden, and is content with a refusal alone. Each attempt would do nothing
//! even if it were let through.

use std::{fs::File, io::ErrorKind};

use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::{getppid, test_kill_process},
};

use super::kernel::ATTEMPTS;

/// Opens that every process may do otherwise.
pub(super) fn files() -> Result<(), String> {
    for path in ["/", "/proc/self/environ", "/dev/zero", "/proc/self/exe"] {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            _ => return Err(format!("{path} could be opened all the same")),
        }
    }
    Ok(())
}

/// Calls that would reach a program, a process or the network.
pub(super) fn calls() -> Result<(), String> {
    for attempt in &ATTEMPTS {
        if !matches!(attempt.errno(), libc::EPERM | libc::ENOSYS) {
            return Err(format!("{} was let through", attempt.what));
        }
    }
    for family in [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX, AddressFamily::NETLINK] {
        if socket(family, SocketType::DGRAM, None).is_ok() {
            return Err("a socket was let through".to_owned());
        }
    }
    // Signal 0 is none: it only asks whether one could be sent.
    if getppid().is_some_and(|server| test_kill_process(server).is_ok()) {
        return Err("a signal to the server was let through".to_owned());
    }
    Ok(())
}

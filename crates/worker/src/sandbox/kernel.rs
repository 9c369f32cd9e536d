//! The few system calls of the sandbox for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "Landlock and seccomp have no safe wrapper in the libraries that this house has"
)]

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use libc::{c_long, sock_filter, sock_fprog};

/// Asks for the version instead of a rule set.
const VERSION: u32 = 1;

/// What a rule set is about; what it is about and has no rule for is refused. Source: linux/landlock.h.
#[repr(C)]
#[derive(Default)]
struct RuleSet {
    files: u64,
    network: u64,
    scoped: u64,
}

impl RuleSet {
    /// All that this version knows: 13 rights from the start, then refer (2), truncate (3), TCP (4), device ioctl (5),
    /// abstract sockets and signals (6).
    fn of_version(version: c_long) -> Self {
        let from = |first: c_long, bits: u64| if version >= first { bits } else { 0 };
        Self {
            files: 0x1fff | from(2, 1 << 13) | from(3, 1 << 14) | from(5, 1 << 15),
            network: from(4, 0b11),
            scoped: from(6, 0b11),
        }
    }
}

/// From now on nothing is opened by a path: a rule set about everything, without a single rule. Descriptors that are
/// open, and those that come over the channel, work on.
pub(crate) fn no_paths() -> Result<(), String> {
    let failed = |what: &str| format!("{what}: {}", io::Error::last_os_error());
    // SAFETY: with this flag the kernel reads nothing and answers a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) };
    if version < 1 {
        return Err("the kernel has no Landlock".to_owned());
    }
    let rules = RuleSet::of_version(version);
    // SAFETY: the kernel reads as many bytes as it is told from a value that lives until it answers. An older kernel
    // takes the longer value, since what it does not know is zero in it.
    let set = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size_of::<RuleSet>(), 0_u32)
    };
    let Ok(set @ 0..) = i32::try_from(set) else { return Err(failed("Landlock makes no rule set")) };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let set = unsafe { OwnedFd::from_raw_fd(set) };
    // SAFETY: takes an open descriptor and no memory.
    let done = unsafe {
        libc::syscall(libc::SYS_landlock_restrict_self, std::os::fd::AsRawFd::as_raw_fd(&set), 0_u32)
    };
    if done == 0 { Ok(()) } else { Err(failed("Landlock does not hold")) }
}

/// From now on each system call of this thread, and of those that it starts, is judged by this program.
pub(crate) fn filter_calls(lines: &[sock_filter]) -> Result<(), String> {
    let len = u16::try_from(lines.len()).map_err(|_| "the filter is too long".to_owned())?;
    let program = sock_fprog { len, filter: lines.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` lines, which are there, before it answers, and writes nothing.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if done == 0 {
        Ok(())
    } else {
        Err(format!("the kernel takes no filter: {}", io::Error::last_os_error()))
    }
}

/// A call that nobody behind these walls may make, with arguments with which no kernel can do anything.
pub(crate) struct Attempt {
    /// What it would be, for a person.
    pub(crate) what: &'static str,
    call: c_long,
    first: c_long,
    second: c_long,
}

const fn attempt(what: &'static str, call: c_long, first: c_long) -> Attempt {
    Attempt { what, call, first, second: NOTHING }
}

/// A null pointer where a path or a structure belongs.
const NOTHING: c_long = 0;
/// Flags that do not exist.
const ALL: c_long = -1;
/// A new process that shares signal handlers but no memory, which no kernel makes.
const HALF_A_PROCESS: c_long = 0x800;

/// How fcntl is asked to send somebody else its signals. Source: asm-generic/fcntl.h.
const F_SETOWN: c_long = 8;

/// Each would do nothing even if it were let through.
pub(crate) const ATTEMPTS: [Attempt; 19] = [
    attempt("another program", libc::SYS_execve, NOTHING),
    attempt("another process", libc::SYS_clone, HALF_A_PROCESS),
    attempt("another process in the new way", libc::SYS_clone3, NOTHING),
    attempt("a look into another process", libc::SYS_process_vm_readv, NOTHING),
    attempt("the limits of another process", libc::SYS_prlimit64, ALL),
    attempt("the cores of another process", libc::SYS_sched_setaffinity, ALL),
    attempt("the turn of another process", libc::SYS_sched_setscheduler, ALL),
    attempt("the rank of another process", libc::SYS_setpriority, ALL),
    attempt("the pages of another process", libc::SYS_migrate_pages, ALL),
    attempt("memory that is shared by number", libc::SYS_shmget, NOTHING),
    attempt("the mode of a path", libc::SYS_fchmodat, ALL),
    attempt("the owner of a path", libc::SYS_fchownat, ALL),
    attempt("the length of a path", libc::SYS_truncate, NOTHING),
    attempt("a watch on a path", libc::SYS_inotify_add_watch, ALL),
    Attempt { what: "signals by a descriptor", call: libc::SYS_fcntl, first: ALL, second: F_SETOWN },
    attempt("the kernel's own programs", libc::SYS_bpf, ALL),
    attempt("an I/O ring", libc::SYS_io_uring_setup, NOTHING),
    attempt("page faults of its own", libc::SYS_userfaultfd, ALL),
    attempt("another namespace", libc::SYS_unshare, NOTHING),
];

impl Attempt {
    /// Makes the call. Returns its error; 0: it was carried out.
    pub(crate) fn errno(&self) -> i32 {
        // SAFETY: the calls are those of the table above: they read and write through null pointers alone, which the
        // kernel answers with an error, and start nothing with the flags, processes and descriptors that they are given,
        // of which there are none.
        let done = unsafe { libc::syscall(self.call, self.first, self.second, 0_usize, 0_usize, 0_usize) };
        if done < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
    }
}

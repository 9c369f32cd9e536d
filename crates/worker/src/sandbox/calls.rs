//! The system calls that a worker is refused, as a program for the kernel's filter. Pure; the order of its questions is
//! the order of its lines.
//!
//! A list of what is refused, not of what is allowed: what a C library calls for memory, threads and clocks differs
//! between versions, and a worker that dies of an unknown harmless call on somebody's machine is no gain. The
//! strength lies in that it starts with nothing in its hands: no path can be opened (Landlock), no socket but its
//! channel. What Landlock leaves open about a path is closed here as far as it changes anything; that a file is there,
//! and how large it is, can still be asked.

use libc::{c_long, sock_filter};

/// How the kernel names the processor whose calls the numbers below are. Source: linux/audit.h.
#[cfg(target_arch = "x86_64")]
const PROCESSOR: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const PROCESSOR: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const PROCESSOR: Option<u32> = None;

/// On x86-64, numbers from here on are a second way into the same calls (x32).
const SECOND_WAY: u32 = 0x4000_0000;

/// Where a call's facts lie. Source: linux/seccomp.h, `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The lower halves of the first two arguments, on a little-endian processor.
const FIRST: u32 = 16;
const SECOND: u32 = 24;

/// Refused whatever their arguments. The number of each is the processor's own.
const REFUSED: &[c_long] = &[
    // other programs
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // the network, and any other socket than the channel
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_perf_event_open,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // memory and messages that any process of the user shares by a number
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // files that it has not opened, which Landlock does not cover; and what it was handed stays as it is
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_fanotify_init,
    // parts of the kernel that a worker has no use for, and that many a way out went through
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // other places
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // the machine
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_syslog,
    libc::SYS_acct,
];

/// The number is the same on all processors that have a filter here. Source: linux/unistd.h (from Linux 6.6 on).
const FCHMODAT2: c_long = 452;

/// About this process or thread alone, which is what a first argument of 0 means.
const ABOUT_ITSELF: &[c_long] = &[
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
];

/// Requests by which a descriptor's owner is chosen: whom the kernel sends a signal when something comes, past the
/// calls for that. Sources: asm-generic/fcntl.h, asm-generic/sockios.h.
const OWNERS: [(c_long, &[u32]); 2] = [
    (libc::SYS_fcntl, &[F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY]),
    (libc::SYS_ioctl, &[FIOSETOWN, SIOCSPGRP]),
];
const F_SETOWN: u32 = 8;
const F_SETSIG: u32 = 10;
const F_SETOWN_EX: u32 = 15;
const F_SETLEASE: u32 = 1024;
const F_NOTIFY: u32 = 1026;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

/// The program; `None`: nobody has written one for this processor.
pub(crate) fn filter() -> Option<Vec<sock_filter>> {
    program(PROCESSOR?, std::process::id())
}

fn program(processor: u32, this_process: u32) -> Option<Vec<sock_filter>> {
    let mut lines = vec![
        load(ARCHITECTURE),
        skip_if(libc::BPF_JEQ, processor, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        lines.extend([skip_if(libc::BPF_JGE, SECOND_WAY, 0, 1), refusal(libc::EPERM)]);
    }
    // Its flags lie behind a pointer, where a filter cannot look. The C library then takes the older call.
    lines.extend([skip_if(libc::BPF_JEQ, number(libc::SYS_clone3)?, 0, 1), refusal(libc::ENOSYS)]);
    for &refused in REFUSED {
        lines.extend([skip_if(libc::BPF_JEQ, number(refused)?, 0, 1), refusal(libc::EPERM)]);
    }
    // A thread, and nothing that would be a process of its own.
    lines.extend(only_with(libc::SYS_clone, libc::BPF_JSET, libc::CLONE_THREAD.cast_unsigned())?);
    // Nobody but itself: that is how it aborts.
    for signal in [libc::SYS_kill, libc::SYS_tgkill] {
        lines.extend(only_with(signal, libc::BPF_JEQ, this_process)?);
    }
    for &call in ABOUT_ITSELF {
        lines.extend(only_with(call, libc::BPF_JEQ, 0)?);
    }
    // The signal that comes with the server's death stays as the supervisor set it.
    lines.extend(never_with(libc::SYS_prctl, FIRST, &[libc::PR_SET_PDEATHSIG.cast_unsigned()])?);
    for (call, requests) in OWNERS {
        lines.extend(never_with(call, SECOND, requests)?);
    }
    lines.push(answer(libc::SECCOMP_RET_ALLOW));
    Some(lines)
}

fn number(call: c_long) -> Option<u32> {
    u32::try_from(call).ok()
}

fn load(from: u32) -> sock_filter {
    line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, from)
}

fn skip_if(test: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    line(libc::BPF_JMP | test | libc::BPF_K, then, otherwise, value)
}

fn answer(value: u32) -> sock_filter {
    line(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn refusal(errno: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// A call that is allowed if the test of its first argument says yes, else refused.
fn only_with(call: c_long, test: u32, value: u32) -> Option<[sock_filter; 5]> {
    Some([
        skip_if(libc::BPF_JEQ, number(call)?, 0, 4),
        load(FIRST),
        skip_if(test, value, 1, 0),
        refusal(libc::EPERM),
        answer(libc::SECCOMP_RET_ALLOW),
    ])
}

/// A call that is refused if this argument has one of these values, else allowed.
fn never_with(call: c_long, argument: u32, values: &[u32]) -> Option<Vec<sock_filter>> {
    let beyond = u8::try_from(1 + 2 * values.len() + 1).ok()?;
    let mut lines = vec![skip_if(libc::BPF_JEQ, number(call)?, 0, beyond), load(argument)];
    for &value in values {
        lines.extend([skip_if(libc::BPF_JEQ, value, 0, 1), refusal(libc::EPERM)]);
    }
    lines.push(answer(libc::SECCOMP_RET_ALLOW));
    Some(lines)
}

#[expect(clippy::cast_possible_truncation, reason = "the operations of the filter are numbers below 256")]
fn line(operation: u32, then: u8, otherwise: u8, value: u32) -> sock_filter {
    sock_filter { code: operation as u16, jt: then, jf: otherwise, k: value }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: u32 = 4711;

    /// What the kernel's interpreter would answer.
    fn ask(processor: u32, call: u32, first: u32) -> u32 {
        ask_of_two(processor, call, first, 0)
    }

    fn ask_of_two(processor: u32, call: u32, first: u32, second: u32) -> u32 {
        let program = program(PROCESSOR.unwrap(), THIS).unwrap();
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    value = match k {
                        NUMBER => call,
                        ARCHITECTURE => processor,
                        FIRST => first,
                        SECOND => second,
                        other => panic!("it looks at {other}"),
                    }
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(value == k),
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(value >= k),
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => at += jump(value & k != 0),
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                other => panic!("no such operation: {other}"),
            }
        }
    }

    fn here(call: c_long, first: u32) -> u32 {
        ask(PROCESSOR.unwrap(), number(call).unwrap(), first)
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSAL: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

    #[test]
    fn every_call_of_the_list_is_refused_and_what_a_worker_needs_is_not() {
        for &call in REFUSED {
            assert_eq!(here(call, 0), REFUSAL, "call {call}");
        }
        for call in [
            libc::SYS_read,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_clock_gettime,
            libc::SYS_getrandom,
            libc::SYS_exit_group,
        ] {
            assert_eq!(here(call, 0), ALLOWED, "call {call}");
        }
    }

    #[test]
    fn a_thread_is_allowed_and_a_process_is_not() {
        assert_eq!(here(libc::SYS_clone, 0x3d_0f00), ALLOWED, "what pthread_create asks for");
        assert_eq!(here(libc::SYS_clone, libc::SIGCHLD.cast_unsigned()), REFUSAL);
        assert_eq!(here(libc::SYS_clone3, 0), libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    }

    #[test]
    fn a_worker_may_signal_itself_alone_and_keeps_the_signal_of_its_servers_death() {
        for call in [libc::SYS_kill, libc::SYS_tgkill] {
            assert_eq!(here(call, THIS), ALLOWED);
            assert_eq!(here(call, 1), REFUSAL);
            assert_eq!(here(call, u32::MAX), REFUSAL, "everybody");
        }
        assert_eq!(here(libc::SYS_prctl, libc::PR_SET_NAME.cast_unsigned()), ALLOWED);
        assert_eq!(here(libc::SYS_prctl, libc::PR_SET_PDEATHSIG.cast_unsigned()), REFUSAL);
    }

    #[test]
    fn limits_and_cores_are_a_workers_own_and_nobody_elses() {
        for &call in ABOUT_ITSELF {
            assert_eq!(here(call, 0), ALLOWED, "call {call}");
            assert_eq!(here(call, 1), REFUSAL, "call {call}");
            assert_eq!(here(call, u32::MAX), REFUSAL, "call {call}");
        }
    }

    #[test]
    fn a_descriptor_sends_nobody_a_signal_and_is_otherwise_free() {
        let ask = |call, second| ask_of_two(PROCESSOR.unwrap(), number(call).unwrap(), 3, second);
        for (call, requests) in OWNERS {
            for &request in requests {
                assert_eq!(ask(call, request), REFUSAL, "call {call}, request {request}");
            }
        }
        for request in [libc::F_GETFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL, libc::F_ADD_SEALS] {
            assert_eq!(ask(libc::SYS_fcntl, request.cast_unsigned()), ALLOWED);
        }
        assert_eq!(ask(libc::SYS_ioctl, 0x5421), ALLOWED, "FIONBIO");
    }

    #[test]
    fn what_an_engine_asks_of_its_processor_is_not_refused() {
        // ARCH_REQ_XCOMP_PERM, for the tiles of AMX.
        #[cfg(target_arch = "x86_64")]
        assert_eq!(here(libc::SYS_arch_prctl, 0x1023), ALLOWED);
        assert_eq!(here(libc::SYS_memfd_create, 0), ALLOWED);
        assert_eq!(here(libc::SYS_ftruncate, 0), ALLOWED);
    }

    #[test]
    fn another_processors_numbers_and_the_second_way_in_are_no_way_around() {
        assert_eq!(ask(0x4000_0003, 11, 0), libc::SECCOMP_RET_KILL_PROCESS);
        if cfg!(target_arch = "x86_64") {
            let open = number(libc::SYS_read).unwrap();
            assert_eq!(ask(PROCESSOR.unwrap(), SECOND_WAY | open, 0), REFUSAL);
        }
    }
}

//! The system calls that a worker is refused, as a program for the kernel's filter. Pure; the order of its questions is
//! the order of its lines.
//!
//! A list of what is refused, not of what is allowed: what a C library calls for memory, threads and clocks differs
//! between versions, and a worker that dies of an unknown harmless call on somebody's machine is no gain. The
//! strength lies in that it starts with nothing in its hands: no path (Landlock), no socket but its channel.

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
/// The lower half of the first argument, on a little-endian processor.
const FIRST: u32 = 16;

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
    lines.extend(unless(libc::SYS_clone, libc::BPF_JSET, libc::CLONE_THREAD.cast_unsigned(), true)?);
    // Nobody but itself: that is how it aborts.
    for signal in [libc::SYS_kill, libc::SYS_tgkill] {
        lines.extend(unless(signal, libc::BPF_JEQ, this_process, true)?);
    }
    // The signal that comes with the server's death stays as the supervisor set it.
    lines.extend(unless(libc::SYS_prctl, libc::BPF_JEQ, libc::PR_SET_PDEATHSIG.cast_unsigned(), false)?);
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

/// Of a call whose first argument decides: allowed if the test of it comes out as wanted, else refused.
fn unless(call: c_long, test: u32, value: u32, wanted: bool) -> Option<[sock_filter; 5]> {
    let (then, otherwise) = if wanted { (1, 0) } else { (0, 1) };
    Some([
        skip_if(libc::BPF_JEQ, number(call)?, 0, 4),
        load(FIRST),
        skip_if(test, value, then, otherwise),
        refusal(libc::EPERM),
        answer(libc::SECCOMP_RET_ALLOW),
    ])
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
    fn another_processors_numbers_and_the_second_way_in_are_no_way_around() {
        assert_eq!(ask(0x4000_0003, 11, 0), libc::SECCOMP_RET_KILL_PROCESS);
        if cfg!(target_arch = "x86_64") {
            let open = number(libc::SYS_read).unwrap();
            assert_eq!(ask(PROCESSOR.unwrap(), SECOND_WAY | open, 0), REFUSAL);
        }
    }
}

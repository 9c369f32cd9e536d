//! What a worker is given, and what it is not.

use std::{collections::HashSet, fs, thread};

use protocol::Code;

use crate::rig::{Rig, ask, children, program, run, runs, to_done};

async fn refused_with(kind: &str, words: &str) {
    let mut rig = Rig::with(program(&["@impostor", kind]));
    rig.put("any", "ballast 1");
    let epoch = rig.start("any");
    let pid = rig.spawned(epoch).await;
    let failure = rig.failed(epoch).await;
    assert_eq!(failure.code, Code::WorkerDied.word());
    assert!(failure.message.contains(words), "{}", failure.message);
    rig.released(epoch).await;
    assert!(!runs(pid));
    rig.close().await;
}

pub(crate) fn a_hello_with_a_wrong_nonce_is_refused() {
    run(refused_with("wrong-nonce", "does not know its word"));
}

pub(crate) fn a_hello_of_another_build_is_refused() {
    run(refused_with("wrong-build", "another build"));
}

pub(crate) fn a_worker_that_says_nothing_is_given_up() {
    run(refused_with("silent", "did not report in time"));
}

pub(crate) fn a_worker_that_is_called_by_hand_says_what_it_is_and_leaves() {
    let called = std::process::Command::new("/proc/self/exe")
        .args(["@worker", "--nonce", "guessed"])
        .output()
        .unwrap();
    assert_eq!(called.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&called.stderr).contains("starts its own workers"), "{called:?}");
}

fn descriptors(pid: &str) -> Vec<(u32, String)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    open.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    })
    .collect()
}

fn sockets(pid: &str) -> HashSet<String> {
    descriptors(pid)
        .into_iter()
        .map(|(_, target)| target)
        .filter(|target| target.starts_with("socket:"))
        .collect()
}

pub(crate) fn a_worker_inherits_nothing_from_the_server_or_another_worker() {
    run(async {
        let mut rig = Rig::new();
        // One that is open on purpose, as a careless library would leave it.
        let careless = fs::File::open("/dev/zero").unwrap();
        rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
        let (_, first, _) = rig.load(1).await;
        let (_, second, _) = rig.load(1).await;
        let mut seen = sockets("self");
        for instance in [first, second] {
            let pid = instance.pid().to_string();
            let open = descriptors(&pid);
            // stdin, stdout, stderr, the channel and the writer's copy of it, and what the worker counts itself by.
            assert!(open.len() == 6 && open.iter().all(|(number, _)| *number < 6), "{open:?}");
            let own = format!("/proc/{pid}/statm");
            assert_eq!(open.iter().filter(|(_, target)| *target == own).count(), 1, "{open:?}");
            assert_eq!(open.iter().filter(|(_, target)| target == "/dev/null").count(), 2, "{open:?}");
            let its = sockets(&pid);
            assert_eq!(its.len(), 1);
            assert!(its.is_disjoint(&seen), "a socket is shared");
            seen.extend(its);
        }
        rig.close().await;
    });
}

pub(crate) fn a_worker_is_confined_from_its_first_moment() {
    run(async {
        let mut rig = Rig::new();
        let (_, _, facts) = rig.load(1).await;
        let read = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", facts.pid)).unwrap();
        assert_eq!(read("oom_score_adj").trim(), "500");
        assert!(read("status").contains("NoNewPrivs:\t1"));
        let limits = read("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        assert_eq!(fs::read_link(format!("/proc/{}/cwd", facts.pid)).unwrap().to_str(), Some("/"));
        let group =
            rustix::process::getpgid(rustix::process::Pid::from_raw(facts.pid.cast_signed())).unwrap();
        assert_eq!(group.as_raw_nonzero().get().cast_unsigned(), facts.pid);
        let environment = read("environ");
        let names: HashSet<&str> =
            environment.split('\0').filter_map(|one| Some(one.split_once('=')?.0)).collect();
        let known = [
            "INNKEEPER_WORKER",
            "RAYON_NUM_THREADS",
            "RUST_BACKTRACE",
            "LD_LIBRARY_PATH",
            "CUDA_VISIBLE_DEVICES",
        ];
        assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
        rig.close().await;
    });
}

pub(crate) fn no_thread_of_a_worker_finds_a_way_out() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, facts) = rig.load(1).await;
        // As many tokens as ways out, which the engine's own thread looks for.
        assert_eq!(to_done(&mut instance.generate(ask("escape"))).await, 0);
        assert!(!facts.sandbox.contains("NOT"), "{}", facts.sandbox);
        for thread in fs::read_dir(format!("/proc/{}/task", facts.pid)).unwrap().flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap();
            assert!(status.contains("Seccomp:\t2"), "a thread without a filter: {status}");
        }
        rig.close().await;
    });
}

pub(crate) fn a_worker_outlives_the_thread_that_asked_for_it() {
    run(async {
        let mut rig = Rig::new();
        rig.put("ballast", "ballast 1");
        // The order comes from a thread that ends at once; many others come and go after it.
        let epoch = thread::scope(|scope| scope.spawn(|| rig.start("ballast")).join().unwrap());
        let (instance, facts) = rig.ready(epoch).await;
        for _ in 0..100 {
            tokio::task::spawn_blocking(|| thread::spawn(|| {}).join().unwrap()).await.unwrap();
        }
        assert_eq!(to_done(&mut instance.generate(ask("tokens 10"))).await, 10);
        assert!(children().contains(&facts.pid) && runs(facts.pid));
        rig.close().await;
    });
}

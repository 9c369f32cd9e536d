//! A worker that is started ahead.

use std::{collections::HashSet, time::Duration};

use protocol::{Code, Method};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::rig::{Rig, ask, children, program, run, runs, soon, stands, to_done, until};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// The model that the system's list of processes shows.
fn shown(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let mut arguments = text.split('\0').skip_while(|argument| *argument != "--model");
    arguments.nth(1).unwrap().trim().to_owned()
}

impl Rig {
    /// The one that waits; another one than this.
    async fn waiting(&self, but: u32) -> u32 {
        let mut spare = self.supervisor.spare();
        let other = spare.wait_for(|pid| pid.is_some_and(|pid| pid != but));
        soon("a worker that waits", other).await.unwrap().unwrap()
    }

    /// What stands on record, by process.
    fn record(&self, pid: u32) -> Option<(String, bool)> {
        let of = |text: String| {
            let told = text.contains(&format!("\"pid\":{pid},"));
            let model = text.split("\"model\":\"").nth(1)?.split('"').next()?.to_owned();
            told.then(|| (model, text.contains("\"waits\":true")))
        };
        self.records().into_iter().find_map(of)
    }
}

pub(crate) fn a_load_takes_the_worker_that_waits_and_another_takes_its_place() {
    run(async {
        let mut rig = Rig::ahead();
        let first = rig.waiting(0).await;
        assert_eq!(children(), HashSet::from([first]));
        assert_eq!(shown(first), "(none yet)");
        assert_eq!(rig.record(first), Some((String::new(), true)));
        let (epoch, instance, facts) = rig.load(8).await;
        assert_eq!((facts.pid, instance.pid()), (first, first));
        assert_eq!(facts.sandbox, "nothing inherited, no files, no programs and no network");
        assert_eq!(shown(first), "ballast");
        let told = || rig.record(first) == Some(("ballast".to_owned(), false));
        until("its model on record", told).await;
        assert_eq!(to_done(&mut instance.generate(ask("tokens 100"))).await, 100);
        let second = rig.waiting(first).await;
        assert_eq!(children(), HashSet::from([first, second]));
        rig.stop(epoch);
        let release = rig.released(epoch).await;
        assert_eq!((release.pid, release.method), (Some(first), Method::Exit));
        assert_eq!((release.residual_bytes, release.left.len()), (0, 0), "{release:?}");
        assert!(release.held.unwrap().private_bytes > 8 << 20);
        assert_eq!(children(), HashSet::from([second]), "the one that waits is nobody's to unload");
        let lines = rig.supervisor.log(&"ballast".parse().unwrap());
        assert!(lines.iter().any(|line| line == "loaded 8 MiB"), "{lines:?}");
        rig.close().await;
    });
}

pub(crate) fn of_several_loads_at_once_one_gets_the_worker_that_waits_and_all_are_served() {
    run(async {
        let mut rig = Rig::ahead();
        let waiting = rig.waiting(0).await;
        rig.put("ballast", "ballast 1");
        let epochs: Vec<_> = (0..4).map(|_| rig.start("ballast")).collect();
        let mut pids = HashSet::new();
        for epoch in &epochs {
            let (instance, _) = rig.ready(*epoch).await;
            assert_eq!(to_done(&mut instance.generate(ask("tokens 3"))).await, 3);
            pids.insert(instance.pid());
        }
        assert!(pids.len() == 4 && pids.contains(&waiting), "{pids:?} and {waiting}");
        assert!(pids.iter().all(|pid| shown(*pid) == "ballast"));
        for epoch in epochs {
            rig.stop(epoch);
            assert_eq!(rig.released(epoch).await.method, Method::Exit);
        }
        rig.close().await;
    });
}

pub(crate) fn fifty_loads_with_a_worker_that_waits_leave_no_descriptor_and_no_zombie() {
    run(async {
        let mut rig = Rig::ahead();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (mut before, mut waiting) = (0, rig.waiting(0).await);
        for cycle in 0..50 {
            let (epoch, instance, _) = rig.load(1).await;
            assert_eq!(instance.pid(), waiting, "in cycle {cycle}");
            waiting = rig.waiting(waiting).await;
            rig.stop(epoch);
            assert_eq!(rig.released(epoch).await.method, Method::Exit);
            assert_eq!(children(), HashSet::from([waiting]), "in cycle {cycle}");
            assert_eq!(rig.intents(), 1);
            // The first cycle opens what the runtime keeps.
            if cycle == 0 {
                before = descriptors();
            }
        }
        // Whoever looks for orphans, about once a second, has a file or two open meanwhile; what is lost never comes back.
        until("the descriptors of before", || descriptors() == before).await;
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_waits_and_is_killed_is_reaped_and_replaced() {
    run(async {
        let mut rig = Rig::ahead();
        let first = rig.waiting(0).await;
        signal(first, Signal::KILL);
        until("its end", || children().is_empty()).await;
        // It cannot be replaced yet, and a load does not wait for that: it has a worker of its own.
        let began = Instant::now();
        let (epoch, instance, _) = rig.load(1).await;
        assert!(instance.pid() != first && began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let second = rig.waiting(first).await;
        assert_eq!(children(), HashSet::from([instance.pid(), second]));
        rig.stop(epoch);
        rig.released(epoch).await;
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_waits_and_was_stopped_holds_no_load_up() {
    run(async {
        let mut rig = Rig::ahead();
        let stopped = rig.waiting(0).await;
        signal(stopped, Signal::STOP);
        // A signal takes a moment to reach the thread that would answer.
        until("it to stand", || stands(stopped)).await;
        let (epoch, instance, _) = rig.load(1).await;
        assert_ne!(instance.pid(), stopped);
        until("its end", || !runs(stopped)).await;
        let second = rig.waiting(stopped).await;
        rig.stop(epoch);
        rig.released(epoch).await;
        let (_, instance, _) = rig.load(1).await;
        assert_eq!(instance.pid(), second);
        rig.close().await;
    });
}

pub(crate) fn a_load_that_fails_in_a_worker_that_waited_is_told_and_another_one_waits() {
    run(async {
        let mut rig = Rig::ahead();
        let first = rig.waiting(0).await;
        rig.put("bad", "ballast 1 crash");
        let epoch = rig.start("bad");
        let failure = rig.failed(epoch).await;
        assert_eq!(failure.code, Code::WorkerDied.word());
        assert!(failure.log_tail.iter().any(|line| line == "the ballast shifts"), "{failure:?}");
        let release = rig.released(epoch).await;
        assert_eq!(release.pid, Some(first));
        let second = rig.waiting(first).await;
        assert_eq!(children(), HashSet::from([second]));
        rig.close().await;
    });
}

pub(crate) fn where_no_worker_can_wait_a_load_says_why_and_no_crowd_is_started() {
    run(async {
        let mut rig = Rig::ahead_with(program(&["@impostor", "wrong-build"]));
        rig.put("one", "ballast 1");
        for _ in 0..3 {
            let epoch = rig.start("one");
            let failure = rig.failed(epoch).await;
            assert!(failure.message.contains("another build"), "{failure:?}");
            rig.released(epoch).await;
        }
        assert_eq!(*rig.supervisor.spare().borrow(), None);
        assert!(children().len() <= 1, "{:?}", children());
        rig.close().await;
    });
}

pub(crate) fn a_supervisor_that_is_dropped_leaves_no_worker_waiting() {
    run(async {
        let rig = Rig::ahead();
        let waiting = rig.waiting(0).await;
        drop(rig);
        until("its end", || !runs(waiting)).await;
    });
}

pub(crate) fn a_stop_at_any_moment_of_its_start_leaves_nobody() {
    run(async {
        // Before the fork, between fork and exec, before the hello, while it waits. A machine may stand still for a second, once.
        let mut late = Vec::new();
        for round in 0..40 {
            let rig = Rig::ahead();
            tokio::time::sleep(Duration::from_micros(round * 200)).await;
            let began = Instant::now();
            rig.close().await;
            late.extend(Some((round, began.elapsed())).filter(|(_, took)| *took >= Duration::from_secs(1)));
        }
        assert!(late.len() <= 1, "{late:?}");
    });
}

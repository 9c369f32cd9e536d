//! The rungs: Shutdown, SIGTERM, SIGKILL.

use std::{fs, path::PathBuf, time::Duration};

use manager::ports::News;
use protocol::{Code, Method, Quality};
use tokio::time::Instant;

use crate::rig::{
    Rig, Stalled, ask, children, program, run, runs, skip, soon, to_done, to_error, to_first_token, until,
};

async fn stop_and_time(rig: &mut Rig, epoch: manager::ports::Epoch) -> (Method, Duration) {
    let begin = Instant::now();
    rig.stop(epoch);
    (rig.released(epoch).await.method, begin.elapsed())
}

pub(crate) fn a_worker_that_hears_leaves_by_itself() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        // Busy, so that the engine's thread is in a step most of the time.
        let mut generation = instance.generate(ask("slow 1000000"));
        to_first_token(&mut generation).await;
        let (method, took) = stop_and_time(&mut rig, epoch).await;
        assert!(method == Method::Exit && took < Duration::from_secs(2), "{method:?} after {took:?}");
        to_error(&mut generation).await;
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_does_not_hear_is_terminated() {
    run(async {
        let mut rig = Rig::with(program(&["@impostor", "deaf"]));
        let (epoch, ..) = rig.load(1).await;
        let (method, took) = stop_and_time(&mut rig, epoch).await;
        assert_eq!(method, Method::Terminated);
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_neither_hears_nor_ends_is_killed() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        // It stops itself with SIGSTOP, after which neither a message nor SIGTERM reaches it.
        let mut generation = instance.generate(ask("stop"));
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", instance.pid())).unwrap();
        until("it to stop", || stat().contains(") T ")).await;
        let (method, took) = stop_and_time(&mut rig, epoch).await;
        assert_eq!(method, Method::Killed);
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(to_error(&mut generation).await.code, Code::CutOff);
        rig.close().await;
    });
}

pub(crate) fn a_worker_whose_memory_cannot_be_read_goes_all_the_same() {
    run(async {
        let mut rig = Rig::new();
        // A second for the measurement, and nobody in a hurry waits for it. A busy machine may be late, but not each time.
        for (hurry, most) in [(false, 2500), (true, 900)] {
            let mut took = Vec::new();
            while took.last().is_none_or(|took| *took >= Duration::from_millis(most)) {
                assert!(took.len() < 5, "in a hurry: {hurry}, {took:?}");
                let (epoch, _, facts) = rig.load(8).await;
                let stalled = Stalled::begin();
                let begin = Instant::now();
                rig.stop(epoch);
                if hurry {
                    rig.stop_at_once(epoch);
                }
                let release = rig.released(epoch).await;
                took.push(begin.elapsed());
                drop(stalled);
                assert_eq!(release.pid, Some(facts.pid));
                if !hurry {
                    assert_eq!(release.method, Method::Exit);
                    assert_eq!(release.held.unwrap().quality, Quality::Derived);
                }
            }
        }
        rig.close().await;
    });
}

/// Control group v1 can freeze a process so that even SIGKILL waits: what a process in the hands of a broken driver
/// looks like. There is no other way to make one, so that a machine without it cannot try this.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/freezer/innkeeper-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        folder.join("freezer.state").exists().then_some(Self(folder))
    }

    fn freeze(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        drop(fs::remove_dir(&self.0));
    }
}

pub(crate) fn a_worker_that_cannot_be_killed_is_stuck_until_it_goes() {
    let freezer = Freezer::new().unwrap_or_else(|| skip("no control group v1 freezer"));
    run(async {
        let mut rig = Rig::new();
        let (epoch, _, facts) = rig.load(1).await;
        let (_, other, _) = rig.load(1).await;
        freezer.freeze(facts.pid);
        let begin = Instant::now();
        rig.stop_at_once(epoch);
        let stuck = rig.news(epoch, |news| match news {
            News::Stuck { pid } => Some(*pid),
            other => panic!("{other:?} of a frozen worker"),
        });
        assert_eq!(stuck.await, facts.pid);
        assert!(begin.elapsed() >= Duration::from_secs(8));
        assert_eq!(to_done(&mut other.generate(ask("tokens 9"))).await, 9);
        assert!(runs(facts.pid) && rig.intents() == 2, "it stays on record");
        freezer.thaw();
        let release = rig.released(epoch).await;
        assert_eq!((release.pid, release.method), (Some(facts.pid), Method::Killed));
        rig.close().await;
    });
}

pub(crate) fn a_look_whose_worker_cannot_be_killed_has_an_answer_and_a_name() {
    let freezer = Freezer::new().unwrap_or_else(|| skip("no control group v1 freezer"));
    run(async {
        let rig = Rig::new();
        rig.put("tarry", "tarry");
        let is_worker = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--nonce"))
        };
        let found = || children().into_iter().find(is_worker);
        let freezing = async {
            until("its worker", || found().is_some()).await;
            let worker = found().unwrap();
            freezer.freeze(worker);
            worker
        };
        let looking = rig.supervisor.inspect(rig.open("tarry"));
        // Ten seconds for the look at most, eight for the end.
        let (answer, worker) = soon("an answer", async { tokio::join!(looking, freezing) }).await;
        let problem = answer.unwrap_err();
        assert!(problem.message.contains("could not be looked into"), "{}", problem.message);
        assert!(runs(worker) && rig.intents() == 1, "it stays on record");
        // Whoever stops meanwhile is not kept, and hears who is left.
        let begin = Instant::now();
        assert_eq!(rig.supervisor.shut_down(Duration::from_millis(300)).await, Err(vec![worker]));
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        freezer.thaw();
        rig.close().await;
    });
}

pub(crate) fn somebody_in_a_hurry_skips_the_words() {
    run(async {
        let mut rig = Rig::with(program(&["@impostor", "deaf"]));
        let (first, ..) = rig.load(1).await;
        let (second, ..) = rig.load(1).await;
        let begin = Instant::now();
        rig.stop_at_once(first);
        assert_eq!(rig.released(first).await.method, Method::Killed);
        // And in the middle of the ladder.
        rig.stop(second);
        rig.stop_at_once(second);
        assert_eq!(rig.released(second).await.method, Method::Killed);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        rig.close().await;
    });
}

pub(crate) fn requests_in_flight_are_cut_off_with_the_reason() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        let (other_epoch, other, _) = rig.load(1).await;
        let mut generation = instance.generate(ask("slow 1000000"));
        to_first_token(&mut generation).await;
        rig.stop(epoch);
        let problem = to_error(&mut generation).await;
        assert_eq!(problem.code, Code::CutOff);
        assert!(problem.message.contains("unloaded"), "{}", problem.message);
        rig.released(epoch).await;
        assert_eq!(to_done(&mut other.generate(ask("tokens 9"))).await, 9);
        rig.stop(other_epoch);
        rig.released(other_epoch).await;
        rig.close().await;
    });
}

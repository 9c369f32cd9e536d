//! Workers that end without being asked, and what is found of them.

use std::{collections::HashSet, fs::File, os::unix::process::CommandExt, process::Command};

use manager::ports::{Epoch, News};
use protocol::{Code, Method};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_getfd, pidfd_open,
    prlimit,
};
use supervisor::{CREDITS, Instance};

use crate::{
    ballast,
    rig::{Rig, ask, children, program, run, runs, soon, to_done, to_error, to_first_token, until},
};

fn pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}

/// Failed, then released, and in between and after nothing else.
async fn failed_and_released(rig: &mut Rig, epoch: Epoch) -> (protocol::Failure, manager::ports::Release) {
    let failure = rig.failed(epoch).await;
    let release = rig.news(epoch, |news: &News<Instance>| match news {
        News::Released(release) => Some(release.clone()),
        other => panic!("{other:?} after it failed"),
    });
    (failure, release.await)
}

pub(crate) fn a_worker_killed_in_mid_stream_ends_every_request_once_with_the_reason() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(16).await;
        let (_, other, _) = rig.load(1).await;
        let mut several: Vec<_> = (0..5).map(|_| instance.generate(ask("slow 1000000"))).collect();
        for generation in &mut several {
            to_first_token(generation).await;
        }
        kill_process(pid(facts.pid), Signal::KILL).unwrap();
        for generation in &mut several {
            let problem = to_error(generation).await;
            assert_eq!(problem.code, Code::WorkerDied);
            assert!(problem.message.contains("killed from outside (signal 9)"), "{}", problem.message);
        }
        let (failure, release) = failed_and_released(&mut rig, epoch).await;
        assert!(failure.message.contains("signal 9"), "{}", failure.message);
        assert_eq!(failure.log_tail[0], "loaded 16 MiB");
        assert_eq!(
            (release.pid, release.method, release.residual_bytes),
            (Some(facts.pid), Method::Killed, 0)
        );
        // Measured when it was ready, since nobody could measure it any more.
        assert_eq!(release.held.unwrap().quality, protocol::Quality::Derived);
        assert_eq!(to_done(&mut other.generate(ask("tokens 5"))).await, 5);
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_crashes_says_how_and_is_released() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        let problem = to_error(&mut instance.generate(ask("crash"))).await;
        assert!(problem.message.contains("crashed (signal 6)"), "{}", problem.message);
        failed_and_released(&mut rig, epoch).await;
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_exits_says_with_which_code() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        let problem = to_error(&mut instance.generate(ask("exit 7"))).await;
        assert!(problem.message.contains("exit code 7"), "{}", problem.message);
        assert_eq!(failed_and_released(&mut rig, epoch).await.1.method, Method::Exit);
        rig.close().await;
    });
}

pub(crate) fn what_a_worker_said_before_it_ended_is_heard() {
    run(async {
        let mut rig = Rig::with(program(&["@impostor", "last-words"]));
        let (epoch, instance, _) = rig.load(1).await;
        assert_eq!(to_done(&mut instance.generate(ask("anything"))).await, CREDITS as usize);
        let (failure, _) = failed_and_released(&mut rig, epoch).await;
        assert!(failure.message.contains("exit code 0"), "{}", failure.message);
        rig.close().await;
    });
}

pub(crate) fn a_worker_without_memory_says_so_and_not_that_it_crashed() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(1).await;
        let most = Rlimit { current: Some(64 << 20), maximum: Some(64 << 20) };
        prlimit(Some(pid(facts.pid)), Resource::Data, most).unwrap();
        let problem = to_error(&mut instance.generate(ask("grow 200"))).await;
        assert_eq!(problem.code, Code::OutOfMemory);
        assert!(problem.message.ends_with("The worker ran out of memory."), "{}", problem.message);
        assert_eq!(failed_and_released(&mut rig, epoch).await.0.code, Code::OutOfMemory.word());
        rig.close().await;
    });
}

pub(crate) fn a_garbage_frame_kills_the_worker() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(1).await;
        let problem = to_error(&mut instance.generate(ask("garbage"))).await;
        assert!(problem.message.contains("broke the protocol"), "{}", problem.message);
        let (_, release) = failed_and_released(&mut rig, epoch).await;
        assert_eq!(release.method, Method::Killed);
        assert!(!runs(facts.pid));
        rig.close().await;
    });
}

pub(crate) fn a_word_about_a_request_that_is_not_there_kills_the_worker() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        let mut bystander = instance.generate(ask("slow 1000000"));
        to_first_token(&mut bystander).await;
        let mut liar = instance.generate(ask("stranger"));
        let problem = to_error(&mut bystander).await;
        assert!(problem.message.contains("a request that it does not have"), "{}", problem.message);
        assert_eq!(failed_and_released(&mut rig, epoch).await.1.method, Method::Killed);
        to_error(&mut liar).await;
        rig.close().await;
    });
}

pub(crate) fn a_request_to_an_ended_instance_hears_the_reason() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        rig.stop(epoch);
        rig.released(epoch).await;
        assert_eq!(to_error(&mut instance.generate(ask("tokens 1"))).await.code, Code::CutOff);
        assert_eq!(
            instance.embed(vec!["x".into()], std::future::pending()).await.unwrap_err().code,
            Code::CutOff
        );
        rig.close().await;
    });
}

pub(crate) fn the_log_of_a_dead_worker_can_still_be_read_and_followed() {
    run(async {
        let mut rig = Rig::new();
        let model = "ballast".parse().unwrap();
        let mut follower = rig.supervisor.follow_log(&model);
        let (epoch, ..) = rig.load(3).await;
        rig.stop(epoch);
        rig.released(epoch).await;
        let expected = ["loaded 3 MiB", "Ready: ballast, 2 threads, context 512."];
        assert_eq!(rig.supervisor.log(&model), expected);
        for line in expected {
            assert_eq!(soon("a line", follower.next()).await.as_deref(), Some(line));
        }
        rig.close().await;
    });
}

pub(crate) fn memory_that_somebody_else_still_maps_is_named() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(1).await;
        to_done(&mut instance.generate(ask("memfd 8"))).await;
        let worker = pidfd_open(pid(facts.pid), PidfdFlags::empty()).unwrap();
        let numbers = std::fs::read_dir(format!("/proc/{}/fd", facts.pid)).unwrap().flatten();
        let memory = numbers
            .filter(|entry| {
                std::fs::read_link(entry.path()).unwrap().to_string_lossy().contains("shared-ballast")
            })
            .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
            .next()
            .unwrap();
        let held_here =
            ballast::map(&File::from(pidfd_getfd(&worker, memory, PidfdGetfdFlags::empty()).unwrap()));
        rig.stop(epoch);
        let release = rig.released(epoch).await;
        assert_eq!(release.residual_bytes, 8 << 20, "{release:?}");
        let sentence = &release.left[0];
        let me = format!("process {}", std::process::id());
        assert!(
            sentence.contains("8.0 MiB") && sentence.contains(&me) && sentence.contains("shared-ballast"),
            "{sentence}"
        );
        drop(held_here);
        rig.close().await;
    });
}

/// Before the sandbox: two children out of the worker's group, without the worker's channel, and reaped by nobody in its
/// process. Only its environment tells whose the first is, and the second has none.
pub(crate) fn start_children() {
    for hides in [false, true] {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 3>&-; exec sleep 1000"]).process_group(0);
        if hides {
            command.env_clear();
        }
        std::mem::forget(command.spawn().unwrap());
    }
}

/// Before the sandbox: a grandchild that nothing connects with the worker any more.
pub(crate) fn leave_an_orphan() {
    let script = "exec 3>&-; sleep 0.7 &";
    assert!(Command::new("sh").args(["-c", script]).env_clear().process_group(0).status().unwrap().success());
}

pub(crate) fn processes_that_the_worker_started_are_ended_with_it() {
    run(async {
        let mut rig = Rig::with(program(&["@parent"]));
        let (epoch, _, facts) = rig.load(1).await;
        let path = format!("/proc/{0}/task/{0}/children", facts.pid);
        let started = std::fs::read_to_string(path).unwrap();
        let started: Vec<u32> = started.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(started.len(), 2);
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        until("both to be what they become", || started.iter().all(|pid| name(*pid) == "sleep\n")).await;
        rig.stop(epoch);
        let release = rig.released(epoch).await;
        assert_eq!((release.left.len(), release.residual_bytes), (2, 0), "{release:?}");
        for child in started {
            let named = |sentence: &String| {
                sentence.contains(&format!("process {child} (sleep)")) && sentence.contains("was ended")
            };
            assert!(release.left.iter().any(named), "{child}: {release:?}");
            assert!(!runs(child));
        }
        rig.close().await;
    });
}

pub(crate) fn an_orphan_that_nobody_knows_is_reaped_and_a_worker_is_not() {
    run(async {
        let mut rig = Rig::with(program(&["@grandparent"]));
        let (epoch, instance, _) = rig.load(1).await;
        // A shell left it behind: it came to us, who have never heard of it, as it would to a container's first process.
        let worker = instance.pid();
        assert!(children().len() == 2, "the orphan is not there: {:?}", children());
        until("the orphan to be reaped", || children() == HashSet::from([worker])).await;
        // A worker that ends is waited for by its owner alone, who hears how.
        let problem = to_error(&mut instance.generate(ask("exit 7"))).await;
        assert!(problem.message.contains("exit code 7"), "{}", problem.message);
        failed_and_released(&mut rig, epoch).await;
        rig.close().await;
    });
}

//! Loading, unloading, looking into files.

use std::{sync::atomic::Ordering, time::Duration};

use manager::ports::News;
use protocol::{Code, Method, Quality};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::rig::{ASKED, PATIENCE, Rig, ask, children, run, runs, to_done, until};

pub(crate) fn a_load_a_generation_and_an_unload_give_back_what_was_held() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(64).await;
        assert_eq!((facts.pid, facts.context, facts.threads), (instance.pid(), 512, 2));
        assert_eq!(facts.sandbox, "nothing inherited, no files, no programs and no network");
        assert_eq!(facts.served_by, "ballast");
        assert_eq!(to_done(&mut instance.generate(ask("tokens 100"))).await, 100);
        rig.stop(epoch);
        let release = rig.released(epoch).await;
        assert_eq!((release.pid, release.method), (Some(facts.pid), Method::Exit));
        assert_eq!((release.residual_bytes, release.left.len()), (0, 0), "{release:?}");
        for measured in [facts.memory.unwrap(), release.held.unwrap()] {
            let ballast = 64_u64 << 20;
            assert_eq!(measured.quality, Quality::Exact);
            assert!(measured.private_bytes.abs_diff(ballast) < 4 << 20, "{measured:?}");
        }
        assert!(!runs(facts.pid));
        rig.close().await;
    });
}

pub(crate) fn fifty_loads_and_unloads_leave_no_descriptor_and_no_zombie() {
    run(async {
        let mut rig = Rig::new();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut before = 0;
        for cycle in 0..50 {
            let (epoch, instance, _) = rig.load(1).await;
            assert_eq!(to_done(&mut instance.generate(ask("tokens 1"))).await, 1);
            rig.stop(epoch);
            assert_eq!(rig.released(epoch).await.method, Method::Exit);
            assert!(children().is_empty(), "a zombie in cycle {cycle}");
            assert_eq!(rig.intents(), 0);
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

pub(crate) fn a_load_that_is_stopped_is_killed_and_released() {
    run(async {
        let mut rig = Rig::new();
        rig.put("slow", "ballast 1 slow");
        let epoch = rig.start("slow");
        let pid = rig.spawned(epoch).await;
        let stage = rig.news(epoch, |news| match news {
            News::Progress(progress) => Some(progress.stage.clone()),
            _ => None,
        });
        assert_eq!(stage.await, "reading weights");
        rig.stop(epoch);
        let release = rig.released(epoch).await;
        assert_eq!((release.pid, release.method, release.held), (Some(pid), Method::Killed, None));
        rig.close().await;
    });
}

pub(crate) fn a_load_that_the_engine_refuses_fails_with_its_words() {
    run(async {
        let mut rig = Rig::new();
        rig.put("water", "water 1");
        let epoch = rig.start("water");
        let failure = rig.failed(epoch).await;
        assert_eq!(failure.code, Code::UnsupportedModel.word());
        assert_eq!(failure.message, "It begins with \"water 1\", not with ballast.");
        // A worker that lives is not waited for: its words may come a moment after its answer.
        assert!(failure.log_tail.iter().all(|line| *line == failure.message), "{:?}", failure.log_tail);
        rig.released(epoch).await;
        rig.close().await;
    });
}

pub(crate) fn a_load_that_crashes_fails_with_the_last_words_of_the_worker() {
    run(async {
        let mut rig = Rig::new();
        rig.put("loose", "ballast 1 crash");
        let epoch = rig.start("loose");
        let failure = rig.failed(epoch).await;
        assert_eq!(failure.code, Code::WorkerDied.word());
        assert!(failure.message.contains("signal 6"), "{}", failure.message);
        assert_eq!(failure.log_tail, ["the ballast shifts"]);
        assert!(!failure.hint.is_empty());
        rig.released(epoch).await;
        rig.close().await;
    });
}

pub(crate) fn a_model_that_cannot_be_opened_fails_and_leaves_no_process() {
    run(async {
        let mut rig = Rig::new();
        let epoch = rig.start("nowhere");
        assert_eq!(rig.failed(epoch).await.message, "nowhere is not there.");
        rig.released(epoch).await;
        rig.close().await;
    });
}

pub(crate) fn a_worker_that_ends_while_its_files_are_being_opened_is_missed_at_once() {
    run(async {
        let mut rig = Rig::new();
        // Opening a pipe takes until somebody writes to it, as a disk that is away takes until it is back.
        let pipe = rig.path("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let epoch = rig.start("pipe");
        let worker = Pid::from_raw(rig.spawned(epoch).await.cast_signed()).unwrap();
        until("the shelf to be asked", || ASKED.load(Ordering::Acquire) == 1).await;
        kill_process(worker, Signal::KILL).unwrap();
        assert!(rig.failed(epoch).await.message.contains("signal 9"));
        assert_eq!(rig.released(epoch).await.method, Method::Killed);
        // Both ends at once wait for nobody.
        drop(std::fs::File::options().read(true).write(true).open(pipe).unwrap());
        rig.close().await;
    });
}

/// A child that is still a copy of this process.
fn unborn() -> Option<Pid> {
    let arguments = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours = arguments("self");
    let child = children().into_iter().find(|child| arguments(&child.to_string()) == ours)?;
    Pid::from_raw(child.cast_signed())
}

/// Stops it, and says whether it stands before its program; one that is too far lives on.
fn stands_unborn(child: Pid) -> bool {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
    };
    let _ = kill_process(child, Signal::STOP);
    while state().is_some_and(|state| !matches!(state, 'T' | 'Z' | 'X')) {}
    let stands = unborn() == Some(child);
    if !stands {
        let _ = kill_process(child, Signal::CONT);
    }
    stands
}

pub(crate) fn one_that_is_held_before_its_program_is_ended_when_it_is_not_wanted_and_holds_nobody_else() {
    run(async {
        let mut rig = Rig::new();
        rig.put("one", "ballast 1");
        // The moment is short, so there are many.
        let mut held = None;
        for _ in 0..500 {
            let epoch = rig.start("one");
            let began = Instant::now();
            while held.is_none() && began.elapsed() < Duration::from_millis(20) {
                held = unborn().filter(|child| stands_unborn(*child));
            }
            let asked = Instant::now();
            rig.stop(epoch);
            let release = rig.released(epoch).await;
            if held.is_some() {
                assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
                assert_eq!(release.pid, None, "nobody has seen it");
                break;
            }
        }
        let held =
            held.unwrap_or_else(|| panic!("none was caught before its program")).as_raw_pid().cast_unsigned();
        until("its end", || !runs(held) && rig.intents() == 0 && children().is_empty()).await;
        rig.load(1).await;
        rig.close().await;
    });
}

pub(crate) fn inspection_of_a_good_file_gives_its_facts() {
    run(async {
        let rig = Rig::new();
        rig.put("good", "ballast 7");
        let facts = rig.supervisor.inspect(rig.open("good")).await.unwrap();
        assert_eq!((facts.family.as_str(), facts.footprint.weights_bytes), ("ballast", 7 << 20));
        assert!(children().is_empty(), "its worker is reaped before the answer");
        rig.close().await;
    });
}

pub(crate) fn inspection_of_a_bad_file_gives_the_words_of_the_refusal() {
    run(async {
        let rig = Rig::new();
        rig.put("bad", "GGUF but not quite");
        let problem = rig.supervisor.inspect(rig.open("bad")).await.unwrap_err();
        assert_eq!(problem.code, Code::UnsupportedModel);
        assert_eq!(problem.message, "It begins with \"GGUF but not quite\", not with ballast.");
        rig.close().await;
    });
}

pub(crate) fn a_look_whose_worker_was_killed_says_nothing_about_the_file() {
    run(async {
        let rig = Rig::new();
        rig.put("tarry", "tarry");
        let looking = rig.supervisor.inspect(rig.open("tarry"));
        let killing = async {
            until("its worker", || children().len() == 1).await;
            let worker = children().into_iter().next().unwrap().cast_signed();
            kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        };
        let (answer, ()) = tokio::join!(looking, killing);
        let problem = answer.unwrap_err();
        // What is said to be unsupported is never looked into again.
        assert_eq!(problem.code, Code::LoadFailed, "{problem}");
        rig.close().await;
    });
}

pub(crate) fn a_look_that_takes_too_long_says_nothing_about_the_file() {
    run(async {
        let rig = Rig::new();
        rig.put("tarry", "tarry");
        let problem = rig.supervisor.inspect(rig.open("tarry")).await.unwrap_err();
        assert!(problem.message.contains("10 seconds"), "{problem}");
        // What is said to be unsupported is never looked into again.
        assert_eq!(problem.code, Code::LoadFailed, "{problem}");
        rig.close().await;
    });
}

pub(crate) fn a_look_that_takes_long_is_ended_when_the_server_stops() {
    run(async {
        let rig = Rig::new();
        rig.put("tarry", "tarry");
        let looking = rig.supervisor.inspect(rig.open("tarry"));
        let stopping = async {
            until("its worker", || children().len() == 1).await;
            let begin = tokio::time::Instant::now();
            assert_eq!(rig.supervisor.shut_down(PATIENCE).await, Ok(()));
            assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        };
        let (answer, ()) = tokio::join!(looking, stopping);
        assert_eq!(answer.unwrap_err().code, Code::Draining);
        rig.close().await;
    });
}

pub(crate) fn inspection_that_crashes_is_an_answer_too() {
    run(async {
        let rig = Rig::new();
        rig.put("hostile", "crash");
        let problem = rig.supervisor.inspect(rig.open("hostile")).await.unwrap_err();
        assert_eq!(problem.code, Code::UnsupportedModel);
        assert!(problem.message.contains("signal 6"), "{}", problem.message);
        rig.close().await;
    });
}

//! Loading, unloading, looking into files.

use manager::ports::News;
use protocol::{Code, Method, Quality};

use crate::rig::{Rig, ask, children, run, runs, to_done};

pub(crate) fn a_load_a_generation_and_an_unload_give_back_what_was_held() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, facts) = rig.load(64).await;
        assert_eq!((facts.pid, facts.context, facts.threads), (instance.pid(), 512, 2));
        assert_eq!(facts.sandbox, "nothing inherited, no files, no programs and no network");
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
        assert_eq!(descriptors(), before);
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

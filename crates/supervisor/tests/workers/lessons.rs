//! What a worker counts of itself, from its own count to what the manager has learned of its file.

use manager::LoadWish;
use protocol::{Lesson, ModelId};

use crate::{
    house,
    rig::{Rig, ask, run, soon, to_done, until},
};

const MIB: u64 = 1 << 20;

pub(crate) fn a_peak_that_nobody_else_saw_comes_from_the_workers_own_count_into_what_was_learned() {
    run(async {
        let rig = Rig::new();
        rig.put("a", "ballast 8");
        let shelf = vec![house::inspected(&rig, "a").await];
        // Nothing is measured in this house: what is learned after the load is the worker's own word.
        let (handle, samples, actor) = house::open(&rig, house::config(1 << 30));
        let desk = handle.desk().clone();
        let model: ModelId = "a".parse().unwrap();
        let lesson = || -> Option<Lesson> { desk.lessons().borrow().get("a")?.first().cloned() };
        let working = async {
            desk.stock(shelf).await;
            let (idle_timeout, by) = (None, "a test".to_owned());
            let wish = LoadWish { idle_timeout, context: Some(512), wait: true, anyway: false, by };
            soon("the load", desk.load(model.clone(), wish)).await.unwrap();
            let at_ready = lesson().unwrap();
            assert_eq!((at_ready.device.as_str(), at_ready.context), ("cpu", 512));
            assert_eq!(at_ready.peak_bytes, at_ready.ready_bytes);
            let lease = soon("a lease", handle.lease(house::lease(&model))).await.unwrap();
            assert_eq!(to_done(&mut lease.instance().generate(ask("spike 48"))).await, 1);
            until("the peak", || lesson().unwrap().peak_bytes > at_ready.peak_bytes + 40 * MIB).await;
            let pid = desk.snapshot().models[0].instances[0].pid;
            let held = crate::rig::private_bytes(pid).unwrap();
            let learned = lesson().unwrap();
            assert!(held < at_ready.ready_bytes + 8 * MIB, "{held}: it was given back");
            assert!(learned.peak_bytes < at_ready.ready_bytes + 56 * MIB, "{learned:?}");
            assert_eq!(learned.ready_bytes, at_ready.ready_bytes);
            let plan = desk.plan(model.clone(), Some(512)).await.unwrap();
            assert_eq!(plan.reserve_bytes, learned.peak_bytes, "the next load is expected to take as much");
            drop(lease);
            desk.shut_down().await;
        };
        tokio::select! {
            () = actor => panic!("the manager ended"),
            () = working => {}
        }
        drop(samples);
        rig.close().await;
    });
}

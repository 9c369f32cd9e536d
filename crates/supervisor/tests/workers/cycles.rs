//! Manager, supervisor and the ways between them in one process, with the ballast worker: what this process holds after a
//! cycle of load, use and unload is what it held before.
//!
//! 200 cycles by default; `INNKEEPER_CYCLES=1000` is the promise in full. The figures are printed where the test is run alone:
//! `cargo test -p supervisor --test workers -- @one NAME`.

use std::fs;

use fixtures::{Held, assert_flat};
use manager::Handle;
use protocol::{ModelId, Verdict};
use supervisor::Instance;

use crate::{
    house,
    rig::{Rig, ask, children, private_bytes, run, runs, soon, to_done},
};

fn held() -> Held {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    Held {
        private: private_bytes(std::process::id()).unwrap(),
        descriptors: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        zombies: children().into_iter().filter(|child| !runs(*child)).count(),
    }
}

async fn cycle(handle: &Handle<Instance>, model: &ModelId) {
    // The request loads its model.
    let lease = soon("a lease", handle.lease(house::lease(model))).await.unwrap();
    assert_eq!(to_done(&mut lease.instance().generate(ask("tokens 5"))).await, 5);
    drop(lease);
    let gone = handle.desk().unload(model.clone(), false, "a test".to_owned());
    let receipt = soon("the receipt", gone).await.unwrap();
    assert_eq!((receipt.verdict, receipt.ram.residual_bytes), (Verdict::Returned, 0), "{receipt:?}");
    assert!(receipt.ram.returned_bytes >= 8 << 20, "{receipt:?}");
}

pub(crate) fn a_thousand_cycles_with_ballast_leave_this_process_as_it_was() {
    let cycles: usize = std::env::var("INNKEEPER_CYCLES").map_or(200, |cycles| cycles.parse().unwrap());
    run(async {
        let rig = Rig::new();
        rig.put("a", "ballast 8");
        let shelf = vec![house::inspected(&rig, "a").await];
        let (handle, _samples, actor) = house::open(&rig, house::config(1 << 30));
        let model: ModelId = "a".parse().unwrap();
        let mut after = Vec::with_capacity(cycles);
        let working = async {
            handle.desk().stock(shelf).await;
            for _ in 0..cycles {
                cycle(&handle, &model).await;
                after.push(held());
            }
            handle.desk().shut_down().await;
        };
        tokio::select! {
            () = actor => panic!("the manager ended"),
            () = working => {}
        }
        assert_flat(&after);
        rig.close().await;
    });
}

//! Manager, supervisor and the ways between them in one process, with the ballast worker: what this process holds after a
//! cycle of load, use and unload is what it held before.
//!
//! 200 cycles by default; `INNKEEPER_CYCLES=1000` is the promise in full. The figures are printed where the test is run alone:
//! `cargo test -p supervisor --test workers -- @one NAME`.

use std::fs;

use manager::{Handle, LeaseWish};
use protocol::{ModelId, Verdict};
use supervisor::Instance;

use crate::{
    house,
    rig::{Rig, ask, children, private_bytes, run, runs, soon, to_done},
};

/// What this process holds between two cycles.
#[derive(Clone, Copy, Debug)]
struct Held {
    private: u64,
    descriptors: usize,
    threads: usize,
    zombies: usize,
}

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
    let wish = LeaseWish {
        model: model.clone(),
        request: "r".to_owned(),
        client: "a test".to_owned(),
        session: None,
        idle_timeout: None,
        context: None,
    };
    // The request loads its model.
    let lease = soon("a lease", handle.lease(wish)).await.unwrap();
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
        is_flat(&after);
        rig.close().await;
    });
}

fn is_flat(after: &[Held]) {
    let cycles = after.len();
    // The first tenth fills what is kept on purpose: pools, the newest receipts.
    let settled = &after[cycles / 10..];
    let bytes: Vec<(f64, f64)> =
        settled.iter().enumerate().map(|(cycle, held)| (cycle as f64, held.private as f64)).collect();
    let (slope, most) = fixtures::slope(&bytes);
    let (first, last) = (settled[0], settled[settled.len() - 1]);
    println!("{cycles} cycles: {slope:.0} B a cycle, at most {most:.0} (95 %); {first:?} -> {last:?}");
    // Over fewer cycles a page or two weigh more.
    let allowed = if cycles >= 1000 { 1024.0 } else { 4096.0 };
    assert!(most <= allowed, "this process grows by up to {most:.0} B a cycle");
    assert!(settled.iter().all(|held| held.zombies == 0), "zombies are left");
    let (early, late) = settled.split_at(settled.len() / 2);
    for (what, number) in [("descriptors", 0), ("threads", 1)] {
        let most = |part: &[Held]| part.iter().map(|held| [held.descriptors, held.threads][number]).max();
        let (early, late) = (most(early).unwrap(), most(late).unwrap());
        assert!(late <= early + 1, "{what}: {early} in the first half, {late} in the second");
    }
}

//! The manager with real processes: whatever is asked at once, what the workers hold together stays within the limit.
//! What a model will take is known from its inspection alone, what it took from the kernel.

use std::time::Duration;

use manager::{Config, Deadlines, Desk, LoadWish};
use protocol::{ModelId, Reason};

use crate::{
    house,
    rig::{Rig, children, private_bytes, run, soon},
};

async fn load(desk: &Desk, model: &str) -> bool {
    let id: ModelId = model.parse().unwrap();
    let wish =
        LoadWish { idle_timeout: None, context: None, wait: true, anyway: false, by: "a test".to_owned() };
    soon("a load", desk.load(id, wish)).await.is_ok()
}

/// Looks at what all workers hold, for ever.
async fn stays_within(limit: u64) {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    loop {
        tick.tick().await;
        let held: u64 = children().into_iter().filter_map(private_bytes).sum();
        // Each process holds a few MiB of its own beside its ballast.
        assert!(held < limit + (16 << 20), "{held} bytes are held");
    }
}

pub(crate) fn loads_at_once_stay_within_the_limit_as_the_kernel_counts() {
    run(async {
        const LIMIT: u64 = 150 << 20;
        let rig = Rig::new();
        let names = ["a", "b", "c", "d"];
        let mut shelf = Vec::new();
        for (name, mib) in names.into_iter().zip([60, 60, 90, 40]) {
            rig.put(name, &format!("ballast {mib}"));
            shelf.push(house::inspected(&rig, name).await);
        }
        // Nobody has to stay here: the test goes round quickly.
        let deadlines = Deadlines { min_stay: Duration::ZERO, ..Deadlines::default() };
        let config = Config { deadlines, ..house::config(LIMIT) };
        let (handle, _samples, actor) = house::open(&rig, config);
        let desk = handle.desk().clone();
        let working = async {
            desk.stock(shelf).await;
            for _ in 0..6 {
                let all =
                    tokio::join!(load(&desk, "a"), load(&desk, "b"), load(&desk, "c"), load(&desk, "d"));
                assert_eq!(all, (true, true, true, true), "each of them had its turn");
            }
            let evicted = desk.snapshot().receipts.iter().filter(|r| r.reason == Reason::Evicted).count();
            assert!(evicted > 5, "{evicted} were pushed out");
            desk.shut_down().await;
        };
        tokio::select! {
            () = actor => panic!("the manager ended"),
            () = stays_within(LIMIT) => {}
            () = working => {}
        }
        rig.close().await;
    });
}

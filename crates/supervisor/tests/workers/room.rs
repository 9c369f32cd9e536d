//! The manager with real processes: whatever is asked at once, what the workers hold together stays within the limit.
//! What a model will take is known from its inspection alone, what it took from the kernel.

use std::{sync::Arc, time::Duration};

use manager::{
    Config, Deadlines, Desk, LoadWish, ServerFacts,
    ports::{Archive, Clock, Expectation, Feeds, Now, ShelfModel},
};
use protocol::{LedgerEvent, ModelId, ModelKind, Reason};
use tokio::{sync::watch, time::Instant};

use crate::rig::{Rig, children, private_bytes, run, soon};

struct Since(Instant);

impl Clock for Since {
    fn now(&self) -> Now {
        let since = self.0.elapsed();
        Now { boot: since, mono: since, wall_ms: i64::try_from(since.as_millis()).unwrap() }
    }

    async fn sleep_until(&self, boot: Duration) {
        tokio::time::sleep_until(self.0 + boot).await;
    }
}

struct Nowhere;

impl Archive for Nowhere {
    fn keep(&self, _event: &Arc<LedgerEvent>) {}
}

/// What the worker itself says that the file will take.
async fn inspected(rig: &Rig, model: &str) -> ShelfModel {
    let facts = rig.supervisor.inspect(rig.open(model)).await.unwrap();
    let print = facts.footprint;
    ShelfModel {
        id: model.parse().unwrap(),
        kind: ModelKind::Chat,
        family: facts.family,
        quantization: facts.quantization,
        size_bytes: 1,
        files: model.to_owned(),
        lessons: Vec::new(),
        expected: Some(Expectation {
            weights_bytes: print.weights_bytes,
            runtime_bytes: print.runtime_bytes,
            kv_bytes_per_token: print.kv_bytes_per_token,
            scratch_bytes: print.scratch_bytes,
            mapped_bytes: print.mapped_bytes,
            context: 512,
            longest: facts.context,
        }),
        trouble: None,
        pinned: false,
        idle_timeout: None,
        context: None,
    }
}

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
            shelf.push(inspected(&rig, name).await);
        }
        let facts = ServerFacts {
            version: "1".to_owned(),
            pid: std::process::id(),
            started_at_ms: 0,
            models_dir: String::new(),
        };
        // Nobody has to stay here: the test goes round quickly.
        let deadlines = Deadlines { min_stay: Duration::ZERO, ..Deadlines::default() };
        let config = Config { deadlines, ..Config::new(facts, LIMIT) };
        let (_samples, samples) = watch::channel(None);
        let (_downloads, downloads) = watch::channel(Vec::new());
        let (_warnings, warnings) = watch::channel(Vec::new());
        let feeds = Feeds { samples, downloads, warnings, archive: Arc::new(Nowhere) };
        let clock = Arc::new(Since(Instant::now()));
        let (handle, actor) = manager::open(config, Arc::new(rig.supervisor.clone()), clock, feeds);
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

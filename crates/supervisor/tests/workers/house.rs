//! A manager above the rig: models that its workers inspected, a clock, and measurements where a test makes some.

use std::{sync::Arc, time::Duration};

use manager::{
    Config, Handle, LeaseWish, ServerFacts,
    ports::{Archive, Clock, Expectation, Feeds, MemorySample, Now, ShelfModel},
};
use protocol::{LedgerEvent, ModelId, ModelKind};
use supervisor::Instance;
use tokio::{sync::watch, time::Instant};

use crate::rig::Rig;

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

/// How the manager of a test is told of what is measured.
pub(crate) type Samples = watch::Sender<Option<Arc<MemorySample>>>;

/// As usual, with so much for models.
pub(crate) fn config(ram_limit_bytes: u64) -> Config {
    let facts = ServerFacts {
        version: "1".to_owned(),
        pid: std::process::id(),
        started_at_ms: 0,
        models_dir: String::new(),
    };
    Config::new(facts, ram_limit_bytes)
}

/// A test's request for a model.
pub(crate) fn lease(model: &ModelId) -> LeaseWish {
    LeaseWish {
        model: model.clone(),
        request: "r".to_owned(),
        client: "a test".to_owned(),
        session: None,
        idle_timeout: None,
        context: None,
    }
}

/// A manager over the rig's supervisor, and its work, which the caller runs.
pub(crate) fn open(
    rig: &Rig,
    config: Config,
) -> (Handle<Instance>, Samples, impl Future<Output = ()> + use<>) {
    let (samples, sampled) = watch::channel(None);
    let (_, downloads) = watch::channel(Vec::new());
    let (_, warnings) = watch::channel(Vec::new());
    let feeds = Feeds { samples: sampled, downloads, warnings, archive: Arc::new(Nowhere) };
    let clock = Arc::new(Since(Instant::now()));
    let (handle, actor) = manager::open(config, Arc::new(rig.supervisor.clone()), clock, feeds);
    (handle, samples, actor)
}

/// What the worker itself says that the file will take.
pub(crate) async fn inspected(rig: &Rig, model: &str) -> ShelfModel {
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
            gpu: None,
            context: 512,
            longest: facts.context,
        }),
        trouble: None,
        pinned: false,
        weight: manager::Weight::USUAL,
        idle_timeout: None,
        context: None,
    }
}

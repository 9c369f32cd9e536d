//! The owner of the life cycle's state: carries out what the core decided, and never waits for work.

use std::sync::Arc;

use protocol::{Budget, Download, Sample, Server, ServerState, Snapshot, Time};
use tokio::sync::{mpsc, watch};

use crate::{
    config::Config,
    desk::Desk,
    gate::{Gate, Message},
    handle::Handle,
    ledger::Ledger,
    ports::{Clock, Launcher, MemorySample},
};

/// Makes the manager: the way in, and the actor that the caller runs. The actor ends when nobody can reach it any
/// more: no desk, no handle, no lease, no instance.
pub fn open<L: Launcher, C: Clock>(
    config: Config,
    launcher: Arc<L>,
    clock: Arc<C>,
    samples: watch::Receiver<Option<Arc<MemorySample>>>,
    downloads: watch::Receiver<Vec<Download>>,
) -> (Handle<L::Instance>, impl Future<Output = ()> + Send) {
    let (queue, mut messages) = mpsc::unbounded_channel::<Message<L::Instance>>();
    let started = u64::try_from(config.server.started_at_ms).unwrap_or(0);
    let at = Time::from_unix_ms(clock.now().wall_ms);
    let first = Snapshot {
        sequence: started,
        at,
        server: Server {
            version: config.server.version.clone(),
            pid: config.server.pid,
            started_at: Time::from_unix_ms(config.server.started_at_ms),
            private_bytes: None,
            state: ServerState::Ready,
            models_dir: config.server.models_dir.clone(),
        },
        host: None,
        gpu_absent: None,
        gpus: vec![],
        budget: Budget { ram_limit_bytes: config.ram_limit_bytes, ram_reserved_bytes: 0, gpus: vec![] },
        books: vec![],
        yield_until: None,
        downloads: downloads.borrow().clone(),
        models: vec![],
        sessions: vec![],
        requests: vec![],
        receipts: vec![],
    };
    let sample = Sample {
        sequence: started,
        at,
        host: None,
        books: vec![],
        models: vec![],
        requests: vec![],
        server_bytes: None,
    };
    let (snapshots_out, snapshots) = watch::channel(Arc::new(first));
    let (changes_out, changes) = watch::channel(started);
    let (samples_out, sampled) = watch::channel(Arc::new(sample));
    let (workers_out, workers) = watch::channel(Vec::new());
    let gate = Gate::new(queue.clone());
    let ledger = Arc::new(Ledger::new(config.ledger_kept));
    let desk = Desk { gate: gate.clone(), snapshots, changes, samples: sampled, workers, ledger };
    let actor = async move {
        let _keep = (launcher, samples, snapshots_out, changes_out, samples_out, workers_out);
        while messages.recv().await.is_some() {}
    };
    (Handle::new(desk, gate, queue), actor)
}

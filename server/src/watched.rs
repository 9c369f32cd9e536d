//! The one sampler, and who tells it which processes to look at.

use std::sync::Arc;

use anyhow::Context;
use manager::ports::MemorySample;
use telemetry::{GpuProbe, MachineReader, Places, Watched};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The one sampler. Returns when there is a first sample, so that the first page has numbers.
pub(crate) async fn sampler(
    tasks: &TaskTracker,
    gpu: GpuProbe,
    watched: watch::Receiver<Watched>,
) -> anyhow::Result<watch::Receiver<Option<Arc<MemorySample>>>> {
    let machine = MachineReader::new(Places::default())?;
    let (mut samples, work) = telemetry::sampler(machine, gpu, watched);
    tasks.spawn(work);
    samples.wait_for(Option::is_some).await.context("the sampler ended before its first sample")?;
    Ok(samples)
}

/// The manager and the supervisor say which processes to look at; the sampler was there before either. Ends with the
/// manager.
pub(crate) async fn forward(
    mut workers: watch::Receiver<Vec<u32>>,
    mut spare: watch::Receiver<Option<u32>>,
    watching: watch::Sender<Watched>,
) {
    loop {
        let now = Watched { workers: workers.borrow_and_update().clone(), spare: *spare.borrow_and_update() };
        watching.send_replace(now);
        let changed = tokio::select! {
            changed = workers.changed() => changed,
            Ok(()) = spare.changed() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

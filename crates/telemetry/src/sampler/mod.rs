//! The one sampler: once a second, everything from one moment, for everybody.

mod machine;
mod process_track;

use std::{sync::Arc, time::Duration};

use manager::ports::{GpuReading, GpuUse, Measured, MemorySample, RamTotals};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{GpuProbe, TelemetryError};

pub use machine::{MachineReader, Places};

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);
/// What a reading may take before its tick goes by without a sample. It is then waited for, not begun anew.
const DEADLINE: Duration = Duration::from_millis(800);

/// What the kernel says at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// When, in Unix milliseconds.
    pub wall_ms: i64,
    /// When it was begun, on the monotonic clock.
    pub begun: Duration,
    /// The machine.
    pub host: protocol::Host,
    /// What the books of RAM are made of.
    pub ram: RamTotals,
    /// This process.
    pub server: Option<Measured>,
    /// Each of the asked processes that could be read, by pid.
    pub workers: Vec<(u32, Measured)>,
    /// AMD's and Intel's GPUs, numbered from 0.
    pub gpus: Vec<protocol::Gpu>,
    /// What the asked processes hold on them.
    pub gpu_uses: Vec<GpuUse>,
}

/// Whom to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Workers that have a model.
    pub workers: Vec<u32>,
    /// The one that waits for a model.
    pub spare: Option<u32>,
}

/// Where readings come from. Called on a blocking thread.
pub trait Source: Send + 'static {
    /// Reads everything now.
    fn read(&mut self, pids: &[u32]) -> Result<Reading, TelemetryError>;
}

/// Makes a sampler: what readers see, and the task that makes it so (it ends when the last reader is gone).
///
/// A reader that is slow misses samples and never delays one.
pub fn sampler<S: Source>(
    source: S,
    gpu: GpuProbe,
    watched: watch::Receiver<Watched>,
) -> (watch::Receiver<Option<Arc<MemorySample>>>, impl Future<Output = ()> + Send + 'static) {
    let (samples, seen) = watch::channel(None);
    (seen, run(source, gpu, watched, samples))
}

async fn run<S: Source>(
    source: S,
    gpu: GpuProbe,
    watched: watch::Receiver<Watched>,
    samples: watch::Sender<Option<Arc<MemorySample>>>,
) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reader = Reader { at: At::Rest(source), well: true };
    loop {
        tokio::select! {
            () = samples.closed() => return,
            _ = ticks.tick() => {}
        }
        let Watched { workers: mut pids, spare } = watched.borrow().clone();
        pids.extend(spare.filter(|pid| !pids.contains(pid)));
        let (reading, gpu_state) = tokio::join!(reader.read(pids), gpu.read());
        match reading {
            Some(reading) => {
                let (gpus, gpu_absent) = gpu_state.into_parts();
                let sample = MemorySample { spare, ..assemble(reading, gpus.gpus, gpus.uses, gpu_absent) };
                samples.send_replace(Some(Arc::new(sample)));
            }
            None if matches!(reader.at, At::Lost) => return,
            None => {}
        }
    }
}

/// The source, which is on a blocking thread while it reads and cannot be called back from there.
struct Reader<S> {
    at: At<S>,
    /// Whether the last tick had a reading: a trouble is logged when it begins, not every second.
    well: bool,
}

enum At<S> {
    Rest(S),
    Work(JoinHandle<(S, Result<Reading, TelemetryError>)>),
    Lost,
}

impl<S: Source> Reader<S> {
    /// A reading, unless it takes too long or fails.
    async fn read(&mut self, pids: Vec<u32>) -> Option<Reading> {
        let mut work = match std::mem::replace(&mut self.at, At::Lost) {
            At::Rest(mut source) => tokio::task::spawn_blocking(move || {
                let reading = source.read(&pids);
                (source, reading)
            }),
            At::Work(work) => work,
            At::Lost => return None,
        };
        match timeout(DEADLINE, &mut work).await {
            Ok(Ok((source, reading))) => {
                self.at = At::Rest(source);
                match reading {
                    Ok(reading) => {
                        self.well = true;
                        return Some(reading);
                    }
                    Err(error) => self.ill(&error.to_string()),
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the memory sampler has died; numbers stand still from now on");
            }
            Err(_) => {
                self.at = At::Work(work);
                self.ill("the kernel takes long to answer");
            }
        }
        None
    }

    fn ill(&mut self, why: &str) {
        if std::mem::replace(&mut self.well, false) {
            tracing::warn!(why, "no memory sample; trying again every second");
        }
    }
}

/// Joins what the kernel and what the GPU's driver say.
fn assemble(
    reading: Reading,
    gpus: Vec<protocol::Gpu>,
    uses: Vec<GpuUse>,
    gpu_absent: Option<protocol::GpuAbsent>,
) -> MemorySample {
    let Reading { wall_ms, begun, host, ram, server, mut workers, gpus: others, gpu_uses: other_uses } =
        reading;
    let others = GpuReading { gpus: others, uses: other_uses };
    let GpuReading { gpus, uses: gpu_uses } = joined(GpuReading { gpus, uses }, others);
    let gpu_absent = gpu_absent.filter(|_| gpus.is_empty());
    for (pid, measured) in &mut workers {
        measured.gpu_bytes = gpu_bytes(&gpu_uses, *pid);
    }
    MemorySample { wall_ms, begun, host, ram, server, workers, spare: None, gpus, gpu_absent, gpu_uses }
}

/// NVIDIA's keep their driver's numbers; the others come after them.
pub(crate) fn joined(mut nvidia: GpuReading, others: GpuReading) -> GpuReading {
    let first = nvidia.gpus.iter().map(|gpu| gpu.index + 1).max().unwrap_or(0);
    let gpus = others.gpus.into_iter();
    nvidia.gpus.extend(gpus.map(|gpu| protocol::Gpu { index: first + gpu.index, ..gpu }));
    nvidia.uses.extend(others.uses.into_iter().map(|held| GpuUse { index: first + held.index, ..held }));
    nvidia
}

/// Over all devices; `None` when it is on none of them, or one does not say.
fn gpu_bytes(uses: &[GpuUse], pid: u32) -> Option<u64> {
    uses.iter()
        .filter(|held| held.pid == pid)
        .map(|held| held.bytes)
        .reduce(|sum, bytes| sum?.checked_add(bytes?))
        .flatten()
}

#[cfg(test)]
mod tests;

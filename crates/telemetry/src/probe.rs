//! Manager's probe on this machine: what one process holds in RAM, and what the drivers of GPUs say that it holds there.

use std::io;

use manager::ports::{GpuReading, Measured, Probe, RamTotals};
use tokio::runtime::Handle;

use crate::{
    GpuProbe, GpuState, Places, ProcProbe,
    drm::{self, Cards},
    ram,
    sampler::joined,
};

/// The product's [`Probe`]. NVIDIA's driver is asked on its thread, with its deadline; the others' files are read.
#[derive(Debug)]
pub struct MachineProbe {
    gpu: GpuProbe,
    cards: Cards,
    places: Places,
    runtime: Handle,
}

impl MachineProbe {
    /// A probe that asks NVIDIA's driver through `gpu`. Must be made within a tokio runtime, and asked outside of its
    /// asynchronous threads.
    pub fn new(gpu: GpuProbe, places: Places) -> Self {
        Self { gpu, cards: Cards::find(&places.drm), places, runtime: Handle::current() }
    }
}

impl Probe for MachineProbe {
    fn exact(&self, pid: u32) -> io::Result<Measured> {
        ProcProbe.exact(pid)
    }

    fn machine(&self) -> Option<RamTotals> {
        ram::now(&self.places.proc).ok()
    }

    fn gpus(&self, pid: u32) -> Option<GpuReading> {
        let nvidia = match self.runtime.block_on(self.gpu.read()) {
            GpuState::Present(reading) => reading,
            GpuState::Absent(_) => GpuReading::default(),
            GpuState::Unreadable(_) | GpuState::Stuck => return None,
        };
        if self.cards.is_empty() {
            return Some(nvidia);
        }
        let devices = self.cards.read();
        let uses = drm::uses(&self.places.proc, &[pid], &devices);
        Some(joined(nvidia, GpuReading { gpus: drm::gpus(devices), uses }))
    }
}

#[cfg(test)]
mod tests {
    use manager::ports::GpuUse;

    use super::*;
    use crate::{DeviceAnswer, NvmlSource, NvmlTrouble, ProcessAnswer};

    /// Answers what it was given, in turn.
    struct Recorded(std::vec::IntoIter<Result<Vec<DeviceAnswer>, NvmlTrouble>>);

    impl NvmlSource for Recorded {
        fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble> {
            self.0.next().unwrap_or(Err(NvmlTrouble::Other("GPU is lost".to_owned())))
        }
    }

    fn card(processes: &[(u32, u64)]) -> DeviceAnswer {
        DeviceAnswer {
            index: 3,
            memory_total_bytes: 80 << 30,
            memory_used_bytes: 9 << 30,
            processes: Some(
                processes
                    .iter()
                    .map(|&(pid, bytes)| ProcessAnswer { pid, used_bytes: Some(bytes) })
                    .collect(),
            ),
            ..DeviceAnswer::default()
        }
    }

    #[tokio::test]
    async fn recorded_answers_of_a_driver_are_what_a_receipt_is_made_from() {
        let answers = vec![Ok(vec![card(&[(7, 2 << 30), (8, 1 << 30)])]), Ok(vec![card(&[(8, 1 << 30)])])];
        let gpu = GpuProbe::start(Recorded(answers.into_iter())).unwrap();
        let nowhere = Places { drm: "/nowhere".into(), ..Places::default() };
        let probe = MachineProbe::new(gpu, nowhere);
        let read = tokio::task::spawn_blocking(move || [probe.gpus(7), probe.gpus(7), probe.gpus(7)]);
        let [before, after, lost] = read.await.unwrap();
        let before = before.unwrap();
        assert_eq!(before.gpus[0].index, 3);
        // In a container with process ids of its own nobody is named, whatever the driver lists.
        if before.gpus[0].note.is_none() {
            assert_eq!(before.uses[0], GpuUse { index: 3, pid: 7, bytes: Some(2 << 30) });
            assert!(after.unwrap().uses.iter().all(|held| held.pid != 7));
        } else {
            assert!(before.uses.is_empty());
        }
        assert_eq!(lost, None, "a driver that does not answer is not one without processes");
    }
}

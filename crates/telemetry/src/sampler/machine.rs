//! The product's source: `/proc`, cgroups and sysinfo.

use std::{fs, path::PathBuf};

use manager::ports::GpuUse;

use crate::{
    Reading, Source, TelemetryError, cgroup,
    clock::{monotonic, wall_ms},
    drm::{self, Cards},
    host::HostReader,
    ram,
};

use super::process_track::Tracks;

/// Where the kernel's files are mounted.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// `/sys/class/drm`.
    pub drm: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into(), drm: "/sys/class/drm".into() }
    }
}

/// Reads this machine. Keeps what one reading needs of the one before.
pub struct MachineReader {
    places: Places,
    host: HostReader,
    tracks: Tracks,
    cards: Cards,
}

impl std::fmt::Debug for MachineReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineReader").field("places", &self.places).finish_non_exhaustive()
    }
}

impl MachineReader {
    /// A reader of the files in `places`.
    pub fn new(places: Places) -> Result<Self, TelemetryError> {
        let cards = Cards::find(&places.drm);
        Ok(Self { places, host: HostReader::new()?, tracks: Tracks::default(), cards })
    }
}

impl MachineReader {
    /// AMD's and Intel's GPUs, numbered from 0, and what these processes hold on them. Costs nothing where there is none.
    fn gpus(&self, pids: &[u32]) -> (Vec<protocol::Gpu>, Vec<GpuUse>) {
        if self.cards.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let devices = self.cards.read();
        let uses = drm::uses(&self.places.proc, pids, &devices);
        (drm::gpus(devices), uses)
    }
}

impl Source for MachineReader {
    fn read(&mut self, pids: &[u32]) -> Result<Reading, TelemetryError> {
        // Workers first, then the totals back to back: the books subtract the one from the other.
        let own = std::process::id();
        self.tracks.begin(|pid| pid == own || pids.contains(&pid));
        let now = monotonic();
        let server = self.tracks.measure(&self.places.proc, own, now);
        let measured = |pid: &u32| Some((*pid, self.tracks.measure(&self.places.proc, *pid, now)?));
        let workers = pids.iter().filter_map(measured).collect();

        let mut ram = ram::now(&self.places.proc)?;
        let wall_ms = wall_ms();
        let pressure = fs::read_to_string(self.places.proc.join("pressure/memory"));
        let pressure = pressure.ok().as_deref().and_then(ram::pressure);
        let mut host = self.host.read(pressure);
        if let Some(group) = cgroup::binding(&self.places.proc, &self.places.cgroup, ram.total) {
            host.memory_total_bytes = group.ram.total;
            host.memory_available_bytes = host.memory_available_bytes.min(group.available_bytes);
            ram = group.ram;
        }
        let (gpus, gpu_uses) = self.gpus(pids);
        Ok(Reading { wall_ms, begun: now, host, ram, server, workers, gpus, gpu_uses })
    }
}

#[cfg(test)]
mod tests {
    use manager::ports::RamTotals;
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    /// Everything but what nobody can explain, by the formula of the books.
    fn accounted(t: &RamTotals) -> u64 {
        t.free
            + t.per_cpu_lists
            + t.buffers
            + t.cached
            + t.kernel_reclaimable
            + t.anonymous
            + t.slab_unreclaimable
            + t.page_tables
            + t.per_cpu
            + t.vmalloc_used
            + t.kernel_stack
    }

    #[test]
    fn the_columns_of_this_machine_leave_under_one_percent_unaccounted() {
        let reading = MachineReader::new(Places::default()).unwrap().read(&[]).unwrap();
        let known = accounted(&reading.ram);
        let missing = reading.ram.total.abs_diff(known);
        println!("unaccounted: {missing} of {} bytes", reading.ram.total);
        assert!(missing * 100 < reading.ram.total, "{missing} of {}", reading.ram.total);
    }

    #[test]
    fn a_sample_costs_well_under_half_a_percent_of_a_core() {
        let mut reader = MachineReader::new(Places::default()).unwrap();
        let pids: Vec<u32> = std::iter::repeat_n(std::process::id(), 4).collect();
        let cpu = || {
            let spent = clock_gettime(ClockId::ThreadCPUTime);
            spent.tv_sec * 1_000_000 + spent.tv_nsec / 1000
        };
        reader.read(&pids).unwrap();
        let before = cpu();
        for _ in 0..200 {
            reader.read(&pids).unwrap();
        }
        let each_us = (cpu() - before) / 200;
        println!("one sample with four workers: {each_us} us of processor time");
        assert!(each_us < 2500, "one sample takes {each_us} us: {} % of a core at 1 Hz", each_us / 10_000);
    }

    #[test]
    fn the_machine_the_server_and_a_worker_are_in_one_reading() {
        let own = std::process::id();
        let reading = MachineReader::new(Places::default()).unwrap().read(&[own, u32::MAX]).unwrap();
        assert!(reading.host.memory_available_bytes <= reading.host.memory_total_bytes);
        assert!(reading.host.cpu_count >= 1 && reading.host.cpu_percent <= 100.0);
        assert_eq!(reading.workers.len(), 1, "a process that is not there is left out");
        assert_eq!(reading.workers[0].0, own);
        assert!(reading.server.is_some_and(|server| server.private_bytes > 100_000));
    }

    #[test]
    fn a_machine_without_meminfo_is_an_error_that_names_the_file() {
        let empty = tempfile::tempdir().unwrap();
        let places =
            Places { proc: empty.path().into(), cgroup: empty.path().into(), drm: empty.path().into() };
        let error = MachineReader::new(places).unwrap().read(&[]).unwrap_err();
        assert!(error.to_string().contains("meminfo"), "{error}");
    }

    #[test]
    fn no_pressure_file_and_no_zoneinfo_are_no_trouble() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("meminfo"), include_str!("../../tests/recorded/meminfo")).unwrap();
        let places = Places { proc: root.path().into(), cgroup: root.path().into(), drm: root.path().into() };
        let reading = MachineReader::new(places).unwrap().read(&[]).unwrap();
        assert_eq!(reading.host.pressure, None);
        assert_eq!((reading.ram.total, reading.ram.per_cpu_lists), (24_684_084 << 10, 0));
        assert_eq!(reading.server, None);
    }
}

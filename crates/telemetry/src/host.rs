//! The machine's own numbers, by sysinfo: one `System`, refreshed only where it is needed.

use protocol::{Host, Pressure};
use sysinfo::{MemoryRefreshKind, System};

use crate::TelemetryError;

/// Remembers the processors' counters of the sample before, from which the busy share is made.
pub(crate) struct HostReader {
    system: System,
}

impl HostReader {
    pub(crate) fn new() -> Result<Self, TelemetryError> {
        let mut system = System::new().map_err(|cause| TelemetryError::Unsupported(cause.to_string()))?;
        system.refresh_cpu_usage();
        Ok(Self { system })
    }

    /// The machine now; `cgroup` limits are laid over it by the caller.
    pub(crate) fn read(&mut self, pressure: Option<Pressure>) -> Host {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        self.system.refresh_cpu_usage();
        Host {
            memory_total_bytes: self.system.total_memory(),
            memory_available_bytes: self.system.available_memory(),
            swap_used_bytes: self.system.used_swap(),
            cpu_count: u32::try_from(self.system.cpus().len()).unwrap_or(u32::MAX),
            cpu_percent: f64::from(self.system.global_cpu_usage()).clamp(0.0, 100.0),
            pressure,
        }
    }
}

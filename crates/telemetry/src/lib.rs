//! Clocks, probes and the one sampler: what this machine and its processes hold, and when.
//!
//! This room owns the reading of `/proc`, of cgroups, of PSI, of NVML and of the DRM drivers, and the clock behind manager's port. It
//! knows no model, no worker protocol and no HTTP. Every parser is a pure function over text; a number that cannot
//! be read is `None`, never 0; nothing here makes a GPU context.

mod cgroup;
mod clock;
mod drm;
mod gpu;
mod host;
mod place;
mod probe;
mod process;
mod ram;
mod sampler;

pub use clock::SystemClock;
pub use gpu::{DeviceAnswer, GpuProbe, GpuState, NvmlLibrary, NvmlSource, NvmlTrouble, ProcessAnswer};
pub use probe::MachineProbe;
pub use process::ProcProbe;
pub use sampler::{MachineReader, Places, Reading, Source, Watched, sampler};

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A file of the kernel cannot be read.
    #[error("{path} cannot be read: {cause}. Is /proc mounted?")]
    Unreadable {
        /// Which.
        path: String,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// The machine cannot be asked at all.
    #[error("this machine's memory cannot be read: {0}")]
    Unsupported(String),
    /// A file of the kernel lacks a line that it must have.
    #[error("{path} has no line `{line}`: this kernel is not one that Innkeeper knows")]
    Unknown {
        /// Which file.
        path: String,
        /// Which line.
        line: &'static str,
    },
}

//! NVML itself, found when we run: a machine without it runs the same binary. NVML makes no GPU context.

use nvml_wrapper::{
    Device, Nvml, enum_wrappers::device::TemperatureSensor, enums::device::UsedGpuMemory, error::NvmlError,
    struct_wrappers::device::ProcessInfo,
};

use super::{DeviceAnswer, NvmlSource, NvmlTrouble, ProcessAnswer};

/// The driver's library, opened at the first question and kept.
#[derive(Debug, Default)]
pub struct NvmlLibrary {
    open: Option<Nvml>,
}

impl NvmlSource for NvmlLibrary {
    fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble> {
        let nvml = match self.open.take() {
            Some(nvml) => nvml,
            // The name with a version is what a driver installs; the plain one comes with development packages.
            None => Nvml::builder()
                .lib_path("libnvidia-ml.so.1".as_ref())
                .init()
                .or_else(|error| match error {
                    NvmlError::LibloadingError(_) => Nvml::init(),
                    other => Err(other),
                })
                .map_err(trouble)?,
        };
        let count = nvml.device_count().map_err(trouble)?;
        let devices = (0..count)
            .map(|index| device(index, &nvml.device_by_index(index).map_err(trouble)?))
            .collect::<Result<_, _>>()?;
        // Kept only after a good answer: a library that lost its driver is opened anew.
        self.open = Some(nvml);
        Ok(devices)
    }
}

fn device(index: u32, device: &Device<'_>) -> Result<DeviceAnswer, NvmlTrouble> {
    let memory = device.memory_info().map_err(trouble)?;
    let compute = listed(|| device.running_compute_processes());
    let graphics = match device.running_graphics_processes() {
        // A card for computing alone has none.
        Err(NvmlError::NotSupported) => Some(Vec::new()),
        _ => listed(|| device.running_graphics_processes()),
    };
    // Half a list would look like the whole: whoever stands in the other half would seem to have gone.
    let processes = compute.zip(graphics);
    Ok(DeviceAnswer {
        index,
        name: device.name().map_err(trouble)?,
        memory_total_bytes: memory.total,
        memory_used_bytes: memory.used,
        memory_free_bytes: Some(memory.free),
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_milliwatts: device.power_usage().ok(),
        processes: processes
            .map(|(compute, graphics)| compute.iter().chain(&graphics).map(process).collect()),
    })
}

/// Who is there; `None`: the driver does not say. Asked twice, since a process that comes while they are counted is an
/// error of the driver's.
fn listed(ask: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>) -> Option<Vec<ProcessInfo>> {
    let told = ask().or_else(|_| ask());
    told.inspect_err(|error| tracing::debug!(%error, "the GPU driver lists no processes")).ok()
}

fn process(info: &ProcessInfo) -> ProcessAnswer {
    let used_bytes = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    ProcessAnswer { pid: info.pid, used_bytes }
}

fn trouble(error: NvmlError) -> NvmlTrouble {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => NvmlTrouble::NoLibrary,
        NvmlError::DriverNotLoaded => NvmlTrouble::NoDriver,
        NvmlError::NoPermission => NvmlTrouble::NoPermission,
        other => NvmlTrouble::Other(other.to_string()),
    }
}

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
    let compute = device.running_compute_processes().unwrap_or_default();
    let graphics = device.running_graphics_processes().unwrap_or_default();
    Ok(DeviceAnswer {
        index,
        name: device.name().map_err(trouble)?,
        memory_total_bytes: memory.total,
        memory_used_bytes: memory.used,
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_milliwatts: device.power_usage().ok(),
        processes: compute.iter().chain(&graphics).map(process).collect(),
    })
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

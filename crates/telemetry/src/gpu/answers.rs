//! From what a driver answers to what a sample shows: pure.

use manager::ports::{GpuReading, GpuUse};
use protocol::{Gpu, GpuAbsence, GpuAbsent, Named};

use super::{GpuState, unreadable};
use crate::place::Place;

/// What a driver said about one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceAnswer {
    /// The driver's number.
    pub index: u32,
    /// The product's name.
    pub name: String,
    /// In all.
    pub memory_total_bytes: u64,
    /// By everybody, the driver's own reserve left out.
    pub memory_used_bytes: u64,
    /// Neither used nor reserved; `None`: it is not said.
    pub memory_free_bytes: Option<u64>,
    /// 0 to 100; `None`: the device does not say.
    pub utilization_percent: Option<u32>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<u32>,
    /// Milliwatts.
    pub power_milliwatts: Option<u32>,
    /// Compute and graphics processes as the driver lists them, which may be twice; `None`: it could not list them.
    pub processes: Option<Vec<ProcessAnswer>>,
}

/// What a driver said about one process on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessAnswer {
    /// Its id, which in a container may be one of the host.
    pub pid: u32,
    /// `None`: the driver does not say.
    pub used_bytes: Option<u64>,
}

/// Why a driver answered nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NvmlTrouble {
    /// The library is not on this machine.
    #[error("its library libnvidia-ml.so.1 is not on this machine")]
    NoLibrary,
    /// The library is there, the kernel module is not loaded.
    #[error("its kernel module is not loaded")]
    NoDriver,
    /// Not for this user.
    #[error("this user may not ask it")]
    NoPermission,
    /// Anything else, in the driver's words.
    #[error("{0}")]
    Other(String),
}

/// Why nothing is known of who uses a device.
const UNLISTED: &str =
    "What models hold on this GPU is not known: its driver does not list the processes that use it.";

/// The state that an answer stands for.
pub(super) fn state(answer: Result<Vec<DeviceAnswer>, NvmlTrouble>, place: Place) -> GpuState {
    let absent = |reason: String, hint: &str| {
        GpuState::Absent(GpuAbsent { kind: GpuAbsence::Absent, reason, hint: hint.to_owned() })
    };
    match answer {
        Ok(devices) if devices.is_empty() => absent(
            "No NVIDIA GPU in this machine".to_owned(),
            "Models run on the CPU. If there should be one, look whether this container was given it.",
        ),
        Ok(devices) => GpuState::Present(reading(devices, place)),
        Err(trouble @ NvmlTrouble::NoLibrary) => {
            absent(format!("NVIDIA driver not loaded: {trouble}"), place.hint())
        }
        Err(trouble @ NvmlTrouble::NoDriver) => absent(
            format!("NVIDIA driver not loaded: {trouble}"),
            "Models run on the CPU. `modprobe nvidia` loads it; it is found within a minute.",
        ),
        Err(trouble) => unreadable(&trouble.to_string()),
    }
}

/// Where the driver's process ids are those of another place, one of them may be a process of ours that has nothing to do
/// with it: then nobody is named, and the device says why.
fn reading(devices: Vec<DeviceAnswer>, place: Place) -> GpuReading {
    let mut reading = GpuReading::default();
    for device in devices {
        let note = place.note().or(device.processes.is_none().then_some(UNLISTED));
        if note.is_none() {
            reading.uses.extend(uses(&device));
        }
        reading.gpus.push(Gpu {
            index: device.index,
            name: device.name,
            memory_total_bytes: device.memory_total_bytes,
            memory_used_bytes: device.memory_used_bytes,
            memory_free_bytes: device.memory_free_bytes,
            named: if note.is_none() { Named::Everybody } else { Named::Nobody },
            utilization_percent: device.utilization_percent.map(f64::from),
            temperature_celsius: device.temperature_celsius.map(f64::from),
            power_watts: device.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            note: note.map(str::to_owned),
        });
    }
    reading
}

/// Each process once. A driver that gives processes more than the whole device in use (some releases changed the
/// layout of their answer without saying so) is believed about who is there, and about no number.
fn uses(device: &DeviceAnswer) -> Vec<GpuUse> {
    let mut uses: Vec<GpuUse> = Vec::new();
    for process in device.processes.iter().flatten() {
        match uses.iter_mut().find(|known| known.pid == process.pid) {
            Some(known) => known.bytes = known.bytes.max(process.used_bytes),
            None => uses.push(GpuUse { index: device.index, pid: process.pid, bytes: process.used_bytes }),
        }
    }
    let sum = uses.iter().filter_map(|known| known.bytes).fold(0_u64, u64::saturating_add);
    if sum > device.memory_used_bytes {
        uses.iter_mut().for_each(|known| known.bytes = None);
    }
    uses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(used: u64, processes: &[(u32, Option<u64>)]) -> DeviceAnswer {
        DeviceAnswer {
            memory_used_bytes: used,
            power_milliwatts: Some(71_250),
            processes: Some(
                processes.iter().map(|&(pid, used_bytes)| ProcessAnswer { pid, used_bytes }).collect(),
            ),
            ..DeviceAnswer::default()
        }
    }

    #[test]
    fn a_process_that_is_listed_twice_counts_once() {
        let uses = uses(&device(100, &[(7, Some(60)), (8, None), (7, Some(60))]));
        assert_eq!(
            uses,
            [GpuUse { index: 0, pid: 7, bytes: Some(60) }, GpuUse { index: 0, pid: 8, bytes: None }]
        );
    }

    #[test]
    fn numbers_that_cannot_be_are_unknown_rather_than_shown() {
        assert_eq!(uses(&device(100, &[(7, Some(101))])), [GpuUse { index: 0, pid: 7, bytes: None }]);
    }

    #[test]
    fn what_a_device_does_not_say_stays_unknown() {
        let GpuState::Present(reading) = state(Ok(vec![device(5, &[])]), Place::Machine) else {
            panic!("no GPU")
        };
        assert_eq!(reading.gpus[0].utilization_percent, None);
        assert_eq!(reading.gpus[0].power_watts, Some(71.25));
    }

    #[test]
    fn absence_and_refusal_are_told_apart_in_words() {
        for (answer, words) in [
            (Err(NvmlTrouble::NoLibrary), "NVIDIA driver not loaded: its library libnvidia-ml.so.1"),
            (Err(NvmlTrouble::NoDriver), "NVIDIA driver not loaded: its kernel module"),
            (Ok(vec![]), "No NVIDIA GPU"),
        ] {
            let GpuState::Absent(why) = state(answer, Place::Machine) else { panic!("not absent") };
            assert!(why.reason.starts_with(words), "{why:?}");
        }
        for trouble in [NvmlTrouble::NoPermission, NvmlTrouble::Other("GPU is lost".to_owned())] {
            assert!(matches!(state(Err(trouble), Place::Machine), GpuState::Unreadable(_)));
        }
    }

    #[test]
    fn where_the_drivers_process_ids_are_not_ours_nobody_is_named_and_the_device_says_why() {
        for place in [Place::Container, Place::Wsl] {
            let busy = device(100, &[(7, Some(60))]);
            let GpuState::Present(reading) = state(Ok(vec![busy]), place) else { panic!("no GPU") };
            assert_eq!((reading.uses.as_slice(), reading.gpus[0].memory_used_bytes), (&[][..], 100));
            assert!(reading.gpus[0].note.as_ref().unwrap().contains("not known"));
            assert_eq!(reading.gpus[0].named, Named::Nobody);
        }
        let GpuState::Present(reading) = state(Ok(vec![device(100, &[(7, Some(60))])]), Place::Machine)
        else {
            panic!("no GPU")
        };
        assert_eq!((reading.uses.len(), reading.gpus[0].note.as_ref()), (1, None));
    }

    #[test]
    fn a_driver_that_cannot_list_processes_names_nobody_rather_than_no_one_there() {
        let silent = DeviceAnswer { processes: None, ..device(100, &[]) };
        let GpuState::Present(reading) = state(Ok(vec![silent]), Place::Machine) else { panic!("no GPU") };
        assert_eq!((reading.uses.len(), reading.gpus[0].named), (0, Named::Nobody));
        assert!(reading.gpus[0].note.as_ref().unwrap().contains("does not list"));
        let GpuState::Present(reading) = state(Ok(vec![device(100, &[])]), Place::Machine) else {
            panic!("no GPU")
        };
        assert_eq!((reading.gpus[0].named, reading.gpus[0].note.as_ref()), (Named::Everybody, None));
    }

    proptest! {
        #[test]
        fn processes_never_sum_above_their_device(
            used in 0_u64..1 << 40,
            processes in proptest::collection::vec((0_u32..5, proptest::option::of(any::<u64>())), 0..8),
        ) {
            let uses = uses(&device(used, &processes));
            prop_assert!(uses.iter().filter_map(|u| u.bytes).map(u128::from).sum::<u128>() <= u128::from(used));
            let mut pids: Vec<u32> = uses.iter().map(|u| u.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            prop_assert_eq!(pids.len(), uses.len());
        }
    }
}

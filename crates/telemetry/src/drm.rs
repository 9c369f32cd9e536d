//! AMD and Intel GPUs, from what the kernel's DRM drivers write into files: totals in `/sys/class/drm`, each process's
//! share in `/proc/PID/fdinfo` (Documentation/gpu/drm-usage-stats.rst). No library, no GPU context. NVIDIA's driver
//! writes neither and is asked through NVML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use manager::ports::GpuUse;
use protocol::{Gpu, Named};

/// What one open descriptor of a DRM device says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The PCI address, which tells devices apart.
    pub(crate) device: String,
    /// Several descriptors may be one client, whose memory counts once.
    pub(crate) id: u64,
    /// In the device's own memory; `None`: the driver does not say (an integrated GPU has none).
    pub(crate) vram_bytes: Option<u64>,
}

/// Reads one fdinfo file; `None`: no descriptor of a DRM device, or of one that says too little.
pub(crate) fn client(text: &str) -> Option<Client> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    Some(Client {
        device: field("drm-pdev")?.to_owned(),
        id: field("drm-client-id")?.parse().ok()?,
        vram_bytes: vram(text),
    })
}

/// Bytes in regions that are the device's own: `vram` (amdgpu), `vram0`, `vram1` (xe), `local0` (i915).
///
/// What is resident counts; kernels that do not tell it have `drm-memory-` (amdgpu before 6.11), and the size of all
/// buffers is the last resort. A driver repeats one number under several names, so exactly one kind is summed.
fn vram(text: &str) -> Option<u64> {
    ["drm-resident-", "drm-memory-", "drm-total-"].into_iter().find_map(|kind| {
        let own = text.lines().filter_map(|line| {
            let (region, amount) = line.strip_prefix(kind)?.split_once(':')?;
            let numbered = |name: &str| {
                region.strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
            };
            (numbered("vram") || numbered("local")).then(|| bytes(amount))
        });
        // A region that cannot be read makes the sum unknown, not smaller.
        own.reduce(|sum, more| sum?.checked_add(more?)).flatten()
    })
}

/// `547 MiB`, `16384 KiB`, or plain bytes.
fn bytes(amount: &str) -> Option<u64> {
    let mut words = amount.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        None => Some(number),
        Some("KiB") => number.checked_mul(1 << 10),
        Some("MiB") => number.checked_mul(1 << 20),
        Some(_) => None,
    }
}

/// A device as the kernel's files show it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Device {
    /// The PCI address.
    address: String,
    gpu: Gpu,
}

/// The devices of one machine. They are looked for at the start; a laptop that gains one is looked at anew by a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cards {
    folders: Vec<(String, PathBuf)>,
}

impl Cards {
    /// AMD's and Intel's cards below `/sys/class/drm`.
    pub(crate) fn find(drm: &Path) -> Self {
        let entries = fs::read_dir(drm).into_iter().flatten().flatten();
        let card = |name: &str| {
            name.strip_prefix("card").is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
        };
        let cards = entries.filter(|entry| card(&entry.file_name().to_string_lossy()));
        let mut folders: Vec<_> =
            cards.filter_map(|entry| of_interest(&entry.path().join("device"))).collect();
        folders.sort();
        Self { folders }
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Each card whose total and use are known, numbered from 0. One that does not say both is left out: a GPU of zero
    /// bytes would be a lie.
    pub(crate) fn read(&self) -> Vec<Device> {
        let known =
            self.folders.iter().filter_map(|(address, folder)| Some((address, device(folder, address)?)));
        let numbered = (0..).zip(known);
        numbered
            .map(|(index, (address, gpu))| Device { address: address.clone(), gpu: Gpu { index, ..gpu } })
            .collect()
    }
}

/// The PCI address and the folder of a card that is AMD's or Intel's.
fn of_interest(device: &Path) -> Option<(String, PathBuf)> {
    let folder = fs::canonicalize(device).ok()?;
    let vendor = text(&folder, "vendor")?;
    let address = folder.file_name()?.to_string_lossy().into_owned();
    matches!(vendor.as_str(), AMD | INTEL).then_some((address, folder))
}

const AMD: &str = "0x1002";
const INTEL: &str = "0x8086";

fn text(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned())
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    text(folder, name)?.parse().ok()
}

fn device(folder: &Path, address: &str) -> Option<Gpu> {
    let vendor = if text(folder, "vendor")? == AMD { "AMD" } else { "Intel" };
    let name = text(folder, "product_name").filter(|name| !name.is_empty());
    let sensors = fs::read_dir(folder.join("hwmon")).ok().and_then(|mut all| Some(all.next()?.ok()?.path()));
    let sensor = |name: &str, unit: f64| Some(number(sensors.as_deref()?, name)? as f64 / unit);
    Some(Gpu {
        index: 0,
        name: name.unwrap_or_else(|| format!("{vendor} GPU at {address}")),
        memory_total_bytes: number(folder, "mem_info_vram_total").filter(|total| *total > 0)?,
        memory_used_bytes: number(folder, "mem_info_vram_used")?,
        memory_free_bytes: None,
        named: Named::Ours,
        utilization_percent: number(folder, "gpu_busy_percent").map(|percent| percent as f64),
        temperature_celsius: sensor("temp1_input", 1000.0),
        note: None,
        power_watts: sensor("power1_average", 1e6).or_else(|| sensor("power1_input", 1e6)),
    })
}

/// What processes hold on these devices. A process whose descriptors may not be read is left out; one that holds a
/// device without a number is named with `None`.
pub(crate) fn uses(proc: &Path, pids: &[u32], devices: &[Device]) -> Vec<GpuUse> {
    let mut uses = Vec::new();
    for pid in pids {
        let folder = proc.join(pid.to_string()).join("fdinfo");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        // Most descriptors are none of a GPU; a file that vanishes meanwhile was closed.
        let clients = files.filter_map(|file| client(&fs::read_to_string(file.path()).ok()?));
        for (address, bytes) in by_device(clients) {
            let of = devices.iter().find(|device| device.address == address);
            uses.extend(of.map(|device| GpuUse { index: device.gpu.index, pid: *pid, bytes }));
        }
    }
    uses
}

/// A process's memory on each device, each client once.
fn by_device(clients: impl Iterator<Item = Client>) -> BTreeMap<String, Option<u64>> {
    let mut seen = BTreeSet::new();
    let mut sums = BTreeMap::<String, Option<u64>>::new();
    for Client { device, id, vram_bytes } in clients {
        if seen.insert((device.clone(), id)) {
            let sum = sums.entry(device).or_insert(Some(0));
            *sum = sum.and_then(|sum| sum.checked_add(vram_bytes?));
        }
    }
    sums
}

/// The GPUs alone, as a sample carries them.
pub(crate) fn gpus(devices: Vec<Device>) -> Vec<Gpu> {
    devices.into_iter().map(|device| device.gpu).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const NEW_AMD: &str = include_str!("../tests/recorded/fdinfo/amdgpu");
    const OLD_AMD: &str = include_str!("../tests/recorded/fdinfo/amdgpu-old");
    const XE: &str = include_str!("../tests/recorded/fdinfo/xe");
    const I915: &str = include_str!("../tests/recorded/fdinfo/i915");

    fn file(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A machine with an AMD card, an Intel one, and one of somebody else.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (card, address, vendor) in [
            ("card0", "0000:00:02.0", "0x8086"),
            ("card1", "0000:0b:00.0", "0x1002"),
            ("card2", "0000:01:00.0", "0x10de"),
        ] {
            file(root.path(), &format!("devices/{address}/vendor"), &format!("{vendor}\n"));
            fs::create_dir_all(root.path().join("drm").join(card)).unwrap();
            symlink(
                root.path().join("devices").join(address),
                root.path().join("drm").join(card).join("device"),
            )
            .unwrap();
        }
        fs::create_dir_all(root.path().join("drm/card1-DP-1")).unwrap();
        let amd = |name: &str, text: &str| file(root.path(), &format!("devices/0000:0b:00.0/{name}"), text);
        amd("mem_info_vram_total", "17163091968\n");
        amd("mem_info_vram_used", "1073741824\n");
        amd("gpu_busy_percent", "7\n");
        amd("hwmon/hwmon3/temp1_input", "47000\n");
        amd("hwmon/hwmon3/power1_average", "23000000\n");
        root
    }

    #[test]
    fn recorded_descriptors_say_what_lies_in_the_devices_own_memory() {
        let new = client(NEW_AMD).unwrap();
        assert_eq!((new.device.as_str(), new.id, new.vram_bytes), ("0000:0b:00.0", 1103, Some(547 * MIB)));
        assert_eq!(client(OLD_AMD).unwrap().vram_bytes, Some(16 * MIB));
        assert_eq!(client(XE).unwrap().vram_bytes, Some(23_992 << 10));
    }

    #[test]
    fn an_integrated_gpu_has_no_memory_of_its_own_and_that_is_unknown_rather_than_zero() {
        assert_eq!(client(I915).unwrap().vram_bytes, None);
    }

    #[test]
    fn other_descriptors_are_none_of_a_gpu() {
        assert_eq!(client("pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t3\n"), None);
        assert_eq!(client(""), None);
    }

    #[test]
    fn a_device_that_says_its_total_and_its_use_is_shown_and_the_others_are_not() {
        let root = machine();
        let cards = Cards::find(&root.path().join("drm"));
        assert_eq!(cards.folders.len(), 2, "NVIDIA's are asked through NVML");
        let gpus = gpus(cards.read());
        assert_eq!(gpus.len(), 1, "Intel's does not say what it has");
        let amd = &gpus[0];
        assert_eq!((amd.index, amd.memory_total_bytes, amd.memory_used_bytes), (0, 17_163_091_968, 1 << 30));
        assert_eq!(
            (amd.utilization_percent, amd.temperature_celsius, amd.power_watts),
            (Some(7.0), Some(47.0), Some(23.0))
        );
        assert_eq!(amd.name, "AMD GPU at 0000:0b:00.0");
        assert!(Cards::find(&root.path().join("nowhere")).is_empty());
    }

    #[test]
    fn a_process_with_several_descriptors_of_one_client_holds_its_memory_once() {
        let root = machine();
        let proc = root.path().join("proc");
        for (fd, text) in [("4", NEW_AMD), ("5", NEW_AMD), ("6", I915), ("0", "pos:\t0\n")] {
            file(&proc, &format!("71/fdinfo/{fd}"), text);
        }
        file(&proc, "71/fdinfo/9", &NEW_AMD.replace("1103", "1104"));
        file(&proc, "72/fdinfo/3", &NEW_AMD.replace("vram", "unknown"));
        let devices = Cards::find(&root.path().join("drm")).read();
        let held = |pid, bytes| GpuUse { index: 0, pid, bytes };
        assert_eq!(uses(&proc, &[71, 72, 73], &devices), [held(71, Some(2 * 547 * MIB)), held(72, None)]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(
            text in "(drm-(pdev|client-id|resident-vram|memory-vram0|total-local0):[ \t]{0,2}[0-9]{0,22} ?(KiB|MiB|GiB)?\n|\\PC{0,20}\n){0,8}",
        ) {
            let _ = client(&text);
        }
    }
}

//! `innkeeper doctor`: is this machine fit for it?

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use app::words::{about, bytes, count};
use manager::ports::Probe;
use protocol::{Pressure, Snapshot};
use rustix::fs::Access;
use serde::Serialize;
use store::Store;
use telemetry::{MachineReader, NvmlLibrary, NvmlSource, NvmlTrouble, Places, ProcProbe, Source};

use super::{
    Global, Remote,
    client::{Client, read},
    output::Output,
    trouble::Trouble,
};

/// A driver that has not answered by then hangs.
const GPU_DEADLINE: Duration = Duration::from_secs(2);
/// Less than this on the disk is worth a word.
const LITTLE_DISK: u64 = 1 << 30;

/// Looks whether this machine has what Innkeeper needs, and says what to do where it has not.
///
/// Example: innkeeper doctor
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: Remote,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Something works less well or not at all, and most people do not need it.
    Note,
    /// Something that everybody needs does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    says: String,
}

fn finding(what: &'static str, verdict: Verdict, says: impl Into<String>) -> Finding {
    Finding { what, verdict, says: says.into() }
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, global: &Global, out: &mut Output) -> Result<(), Trouble> {
    let answer = Client::new(&arguments.remote).get("/manage/snapshot", &[]);
    let snapshot = answer.and_then(|answer| read::<Snapshot>(&answer));
    // Of a server that runs, its own folder is looked at; where it is on another machine, that cannot be.
    let served = snapshot.as_ref().ok().map(|one| PathBuf::from(&one.server.models_dir));
    let served = served.and_then(|models| models.is_dir().then(|| models.parent().map(Path::to_owned))?);
    let named = global.data_dir.clone().or(served);
    let data_dir = crate::config::data_dir(named);
    let findings = [
        memory(),
        exact_numbers(),
        gpu(NvmlLibrary::default()),
        folder(&data_dir),
        models(&data_dir),
        pip(),
        server(snapshot),
    ];
    if out.json {
        out.value(&findings)?;
    } else {
        for one in &findings {
            let mark = match one.verdict {
                Verdict::Good => "ok  ",
                Verdict::Note => "note",
                Verdict::Bad => "BAD ",
            };
            out.line(&format!("{mark}  {:<11}  {}", one.what, one.says))?;
        }
    }
    if findings.iter().any(|one| one.verdict == Verdict::Bad) { Err(Trouble::Partly) } else { Ok(()) }
}

fn memory() -> Finding {
    let reading = MachineReader::new(Places::default()).and_then(|mut reader| reader.read(&[]));
    match reading {
        Err(error) => finding("memory", Verdict::Bad, error.to_string()),
        Ok(reading) => {
            let host = reading.host;
            let (free, total) = (about(host.memory_available_bytes), about(host.memory_total_bytes));
            let says =
                format!("{free} of {total} can be had, {}", count(u64::from(host.cpu_count), "processor"));
            match host.pressure {
                Some(Pressure { some_avg10, .. }) if some_avg10 > 10.0 => finding(
                    "memory",
                    Verdict::Note,
                    format!("{says}; programs wait for memory {some_avg10:.0} % of the time"),
                ),
                Some(_) => finding("memory", Verdict::Good, says),
                None => finding(
                    "memory",
                    Verdict::Note,
                    format!("{says}; this kernel does not tell memory pressure"),
                ),
            }
        }
    }
}

fn exact_numbers() -> Finding {
    match ProcProbe.exact(std::process::id()) {
        Ok(_) => finding("numbers", Verdict::Good, "the kernel counts each process's memory exactly"),
        Err(error) => finding(
            "numbers",
            Verdict::Note,
            format!("smaps_rollup cannot be read ({error}), so numbers are derived, not exact"),
        ),
    }
}

/// Asked on a thread that is left behind when the driver hangs.
fn gpu(mut source: impl NvmlSource) -> Finding {
    let (tell, told) = mpsc::channel();
    let asked = thread::Builder::new().name("nvml".to_owned()).spawn(move || tell.send(source.devices()));
    match asked.map(|_| told.recv_timeout(GPU_DEADLINE)) {
        Ok(Ok(Ok(devices))) if !devices.is_empty() => {
            let names: Vec<_> = devices
                .iter()
                .map(|gpu| format!("{} ({})", gpu.name, about(gpu.memory_total_bytes)))
                .collect();
            finding("GPU", Verdict::Good, names.join(", "))
        }
        Ok(Ok(Ok(_))) => finding("GPU", Verdict::Good, "none; models run on the CPU"),
        Ok(Ok(Err(trouble @ (NvmlTrouble::NoLibrary | NvmlTrouble::NoDriver)))) => {
            finding("GPU", Verdict::Good, format!("none, models run on the CPU (NVIDIA driver: {trouble})"))
        }
        Ok(Ok(Err(trouble))) => {
            finding("GPU", Verdict::Note, format!("the NVIDIA driver cannot be read: {trouble}"))
        }
        Ok(Err(_)) => {
            finding("GPU", Verdict::Note, "the NVIDIA driver does not answer; the machine may need a restart")
        }
        Err(error) => finding("GPU", Verdict::Note, format!("it could not be asked: {error}")),
    }
}

/// Looks and makes nothing: that is for those verbs that need the folder.
fn folder(data_dir: &Path) -> Finding {
    let there = data_dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let name = data_dir.display();
    if let Err(error) = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let says = format!(
            "{name}: this user may not write to {} ({error}); choose another with --data-dir",
            there.display()
        );
        return finding("data folder", Verdict::Bad, says);
    }
    let Ok(disk) = rustix::fs::statvfs(there) else {
        return finding("data folder", Verdict::Note, format!("{name}: its disk cannot be looked at"));
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let verdict = if free < LITTLE_DISK { Verdict::Note } else { Verdict::Good };
    let new = if there == data_dir { "" } else { ", made when it is needed" };
    finding("data folder", verdict, format!("{name}, {} free{new}", bytes(free)))
}

fn models(data_dir: &Path) -> Finding {
    let none = || finding("models", Verdict::Note, "none yet: innkeeper pull smollm2");
    if !data_dir.join("models").is_dir() {
        return none();
    }
    match Store::open(data_dir).and_then(|store| store.scan()) {
        Err(error) => finding("models", Verdict::Bad, error.to_string()),
        Ok(scan) => {
            let bad = scan.models.iter().find_map(|model| model.trouble.as_ref());
            match (scan.models.len(), bad) {
                (0, _) => none(),
                (_, Some(trouble)) => finding("models", Verdict::Note, trouble.to_string()),
                (number, None) => finding("models", Verdict::Good, count(number as u64, "model")),
            }
        }
    }
}

fn pip() -> Finding {
    let tried = Command::new("python3").args(["-m", "pip", "--version"]).output();
    match tried {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            let version: Vec<_> = version.split_whitespace().take(2).collect();
            finding("python3", Verdict::Good, version.join(" "))
        }
        _ => finding(
            "python3",
            Verdict::Note,
            "no pip, so `innkeeper pull` cannot fetch (apt install python3-pip); .gguf files can still be put into \
             the models folder",
        ),
    }
}

fn server(snapshot: Result<Snapshot, Trouble>) -> Finding {
    match snapshot {
        Ok(snapshot) if snapshot.server.version == env!("CARGO_PKG_VERSION") => {
            finding("server", Verdict::Good, format!("running, process {}", snapshot.server.pid))
        }
        Ok(snapshot) => finding(
            "server",
            Verdict::Note,
            format!(
                "runs version {}, this program is {}",
                snapshot.server.version,
                env!("CARGO_PKG_VERSION")
            ),
        ),
        Err(trouble @ Trouble::Unreachable { .. }) => {
            finding("server", Verdict::Note, format!("{trouble} {}", trouble.hint()))
        }
        Err(trouble) => {
            finding("server", Verdict::Bad, format!("{trouble} {}", trouble.hint()).trim_end().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::DeviceAnswer;

    use super::*;

    struct Card(Result<Vec<DeviceAnswer>, NvmlTrouble>);

    impl NvmlSource for Card {
        fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble> {
            self.0.clone()
        }
    }

    #[test]
    fn a_machine_without_a_gpu_is_well() {
        for answer in [Ok(vec![]), Err(NvmlTrouble::NoDriver), Err(NvmlTrouble::NoLibrary)] {
            assert_eq!(gpu(Card(answer)).verdict, Verdict::Good);
        }
        assert_eq!(gpu(Card(Err(NvmlTrouble::NoPermission))).verdict, Verdict::Note);
        let card =
            DeviceAnswer { name: "H100".to_owned(), memory_total_bytes: 80 << 30, ..DeviceAnswer::default() };
        assert_eq!(gpu(Card(Ok(vec![card]))).says, format!("H100 ({})", about(80 << 30)));
    }

    #[test]
    fn this_machine_has_memory_and_a_folder() {
        assert_ne!(memory().verdict, Verdict::Bad);
        let root = tempfile::tempdir().unwrap();
        assert_ne!(folder(root.path()).verdict, Verdict::Bad);
        assert_eq!(models(root.path()).verdict, Verdict::Note);
        let new = root.path().join("a/b");
        assert!(folder(&new).says.ends_with("made when it is needed") && !new.exists());
        assert_eq!(models(&new).verdict, Verdict::Note);
    }
}

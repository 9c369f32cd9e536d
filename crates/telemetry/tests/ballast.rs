//! A process that holds a known number of bytes is measured right, exactly and from second to second.
#![expect(clippy::expect_used, reason = "a test's helper")]

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use manager::ports::Probe;
use protocol::Quality;
use rustix::time::{ClockId, clock_gettime};
use telemetry::{MachineReader, Places, ProcProbe, Source};

const MIB: u64 = 1 << 20;

/// `dd` fills one buffer of this size and then waits in its first write, since nobody reads more than a byte.
struct Ballast(Child);

impl Ballast {
    fn of(mib: u64) -> Self {
        let mut child = Command::new("dd")
            .args(["if=/dev/zero", "count=1", "iflag=fullblock", &format!("bs={mib}M")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dd starts");
        child
            .stdout
            .as_mut()
            .expect("piped")
            .read_exact(&mut [0])
            .expect("the buffer is full and being written");
        Self(child)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn close(measured: u64, held: u64) -> bool {
    measured.abs_diff(held) <= (held / 50).max(4 * MIB)
}

#[test]
fn what_a_process_holds_is_measured_to_two_percent_or_four_mebibytes() {
    for mib in [16, 64, 256] {
        let ballast = Ballast::of(mib);
        let exact = ProcProbe.exact(ballast.0.id()).unwrap();
        assert_eq!(exact.quality, Quality::Exact);
        assert!(close(exact.private_bytes, mib * MIB), "{mib} MiB measured as {exact:?}");

        let reading = MachineReader::new(Places::default()).unwrap().read(&[ballast.0.id()]).unwrap();
        let (_, sampled) = reading.workers[0];
        assert!(close(sampled.private_bytes, mib * MIB), "{mib} MiB sampled as {sampled:?}");
    }
}

/// Takes a gibibyte, and a page more each second: the numbers never stand still, so the exact ones are asked for as often as
/// they ever are.
const RESTLESS: &str = "import sys, time\nheld = [bytearray(b'x') * (1 << 30)]\nprint('held', flush=True)\n\
    while True:\n held.append(bytearray(b'x') * (1 << 20))\n time.sleep(0.5)\n";

#[test]
fn sampling_a_restless_process_of_a_gibibyte_costs_under_half_a_percent_of_a_core() {
    let mut child = Command::new("python3")
        .args(["-c", RESTLESS])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    child.stdout.as_mut().expect("piped").read_exact(&mut [0; 5]).expect("it holds a gibibyte");
    let ballast = Ballast(child);
    let mut reader = MachineReader::new(Places::default()).unwrap();
    let spent = || {
        let spent = clock_gettime(ClockId::ThreadCPUTime);
        spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
    };
    // The first exact measurement of a process comes with its load, not with sampling; how often it comes again follows from
    // what it cost.
    let (_, first) = reader.read(&[ballast.0.id()]).unwrap().workers[0];
    assert!(close(first.private_bytes, 1 << 30), "{first:?}");
    let seconds = std::env::var("INNKEEPER_SECONDS").map_or(10, |text| text.parse().expect("whole seconds"));
    let (before, mut exact) = (spent(), 0);
    for _ in 0..seconds {
        std::thread::park_timeout(Duration::from_secs(1));
        let (_, sampled) = reader.read(&[ballast.0.id()]).unwrap().workers[0];
        exact += u32::from(sampled.quality == Quality::Exact);
    }
    let percent = (spent() - before) / f64::from(seconds) * 100.0;
    println!("{percent:.2} % of a core over {seconds} s, {exact} of the samples exact");
    assert!(percent < 0.5, "{percent:.2} % of a core");
}

#[test]
fn a_process_that_has_gone_cannot_be_measured() {
    let ballast = Ballast::of(1);
    let pid = ballast.0.id();
    drop(ballast);
    assert!(ProcProbe.exact(pid).is_err());
}

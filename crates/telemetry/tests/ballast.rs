//! A process that holds a known number of bytes is measured right, exactly and from second to second.
#![expect(clippy::expect_used, reason = "a test's helper")]

use std::{
    io::Read,
    process::{Child, Command, Stdio},
};

use manager::ports::Probe;
use protocol::Quality;
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

#[test]
fn a_process_that_has_gone_cannot_be_measured() {
    let ballast = Ballast::of(1);
    let pid = ballast.0.id();
    drop(ballast);
    assert!(ProcProbe.exact(pid).is_err());
}

//! Disks that fill up, and get room again.

use std::{fs, path::Path, process::Command};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::rig::{Scribe, read_back};

/// A file that may not grow: the limit is the process's own, and is raised from outside. The signal that comes with it
/// is ignored, as whoever starts a server may have it.
pub(crate) fn a_full_file_is_told_and_written_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    // 256 KiB, in blocks of 512 bytes.
    let mut scribe = Scribe::start(folder.path(), 2, "trap '' XFSZ; ulimit -S -f 512;");
    let full =
        scribe.until("the limit", |line, _| line.starts_with("trouble What happens is not being written"));
    scribe.until("more events", |_, id| id >= full + 100);
    let pid = Pid::from_raw(i32::try_from(scribe.child.id()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    let mended = scribe.until("the end of the trouble", |line, _| line == "trouble ");
    scribe.kill();
    all_kept(folder.path(), mended);
}

/// A file system of 16 MiB, mounted for a child alone. Where this user may mount none, the test above stands alone, and
/// this one says so.
pub(crate) fn a_full_disk_is_told_and_written_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let in_mount = |then: &str| {
        let mut child = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size=16m none \"$1\" && {then}");
        child.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        child.arg(std::env::current_exe().unwrap()).arg(folder.path());
        child.output()
    };
    if !in_mount("true").is_ok_and(|tried| tried.status.success()) {
        println!("(not run: no file system can be mounted here)");
        return;
    }
    let done = in_mount("exec \"$0\" @full-disk \"$1\"").unwrap();
    print!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What the child does in its file system.
pub(crate) fn full_disk(folder: &Path) {
    let rest = folder.join("rest");
    let mut scribe = Scribe::start(folder, 10, "");
    scribe.until("a commit", |_, id| id >= 150);
    // Somebody else takes all there is.
    assert_eq!(fs::write(&rest, vec![1; 32 << 20]).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let told = "trouble The disk is full: what happens is not being written down.";
    let full = scribe.until("the full disk", |line, _| line == told);
    scribe.until("more events", |_, id| id >= full + 100);
    fs::remove_file(&rest).unwrap();
    let mended = scribe.until("the end of the trouble", |line, _| line == "trouble ");
    scribe.kill();
    all_kept(folder, mended);
}

/// Whatever happened before the trouble ended is there, the time of the trouble included.
fn all_kept(folder: &Path, mended: u64) {
    let (ids, _) = read_back(folder);
    println!("({} events, told as mended at {mended})", ids.len());
    let kept = ids.len() as u64;
    assert_eq!(ids, (1..=kept).collect::<Vec<_>>(), "there is a hole");
    // The word that it is mended comes after the commit that mended it, in which at most the last second was not yet.
    assert!(kept + 1000 >= mended, "{kept} of {mended} are there");
}

//! The history in a process of its own that is killed, and on disks that fill up. This program is the test, and the
//! writer that it harms.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "this is the harness of its own tests, and the writer's way to tell"
)]

mod disks;
mod kills;
mod rig;

use std::process::{Command, ExitCode};

const TESTS: &[(&str, fn())] = &[
    ("a_killed_writer_loses_at_most_its_last_second", kills::a_killed_writer_loses_at_most_its_last_second),
    (
        "a_writer_killed_at_any_moment_leaves_a_whole_file",
        kills::a_writer_killed_at_any_moment_leaves_a_whole_file,
    ),
    (
        "a_full_file_is_told_and_written_when_there_is_room",
        disks::a_full_file_is_told_and_written_when_there_is_room,
    ),
    (
        "a_full_disk_is_told_and_written_when_there_is_room",
        disks::a_full_disk_is_told_and_written_when_there_is_room,
    ),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("@scribe") => {
            rig::scribe(&args.next().unwrap(), args.next().unwrap().parse().unwrap());
            ExitCode::SUCCESS
        }
        Some("@full-disk") => {
            disks::full_disk(args.next().unwrap().as_ref());
            ExitCode::SUCCESS
        }
        Some("@one") => {
            let name = args.next().unwrap();
            let (_, test) = TESTS.iter().find(|(known, _)| *known == name).unwrap();
            test();
            ExitCode::SUCCESS
        }
        filter => all(filter.filter(|arg| !arg.starts_with('-'))),
    }
}

/// Each in a process of its own, since a test may change what its process may do.
fn all(filter: Option<&str>) -> ExitCode {
    let chosen =
        TESTS.iter().map(|(name, _)| *name).filter(|name| filter.is_none_or(|part| name.contains(part)));
    let mut failed = Vec::new();
    println!("\nrunning {} tests", TESTS.len());
    for name in chosen {
        let done = Command::new("/proc/self/exe").args(["@one", name]).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        if done.status.success() {
            println!("test {name} ... ok {}", told.trim());
        } else {
            println!("{told}{}", String::from_utf8_lossy(&done.stderr));
            println!("test {name} ... FAILED ({})", done.status);
            failed.push(name);
        }
    }
    println!("\ntest result: {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Clocks. The machine's own are left alone: a server is started in a time namespace, where the clocks that deadlines run on
//! are ten years ahead, and another one is lied to about the wall clock while it runs.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};

use super::{
    Ground,
    inn::{Inn, Shelf},
    processes::now,
    report::{Figures, Outcome, ms},
};
use crate::tool::{Tool, which};

pub(super) fn clocks(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    const AHEAD: [&str; 3] = ["--time", "--boottime=315360000", "--monotonic=315360000"];
    let tried = which("unshare").map(|_| Tool::new("unshare").args(AHEAD).args(["--fork", "true"]).capture());
    if !matches!(tried, Some(Ok(_))) {
        return Ok(Outcome::Skipped("no time namespace can be made here".to_owned()));
    }
    let shelf = Shelf::new(&[("one", Counting::new(0))])?;
    // A program that becomes the server, ten years ahead.
    let launcher = shelf.folder().join("ahead");
    let program = ground.program.display();
    fs::write(
        &launcher,
        format!("#!/bin/sh\nexec unshare {} --fork --kill-child {program} \"$@\"\n", AHEAD.join(" ")),
    )?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
    let ahead = Ground { places: ground.places, program: launcher, options: ground.options };
    let inn = Inn::open(&ahead, &shelf)?;
    let (status, answer) = inn.verb("load", "model=one&idle_timeout=1500ms")?;
    ensure!(status == 200, "{answer}");
    let began = now();
    inn.until_state("one", "unloaded", Duration::from_secs(4))?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_millis(1200) && took <= Duration::from_millis(2600),
        "idle for 1.5 s, it went after {took:?}"
    );
    Figures::default().with("idle_1500_ms_ten_years_ahead_ms", ms(took)).held()
}

/// The wall clock of the server alone jumps: a library that is loaded before the program's own answers for it and leaves the
/// other clocks alone. Nothing in here may put the machine to sleep.
pub(super) fn jumps(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let Some(library) = faketime() else {
        let why = "libfaketime is not here (Debian: `apt-get install faketime`), and the wall clock is the whole machine's";
        return Ok(Outcome::Skipped(why.to_owned()));
    };
    let shelf = Shelf::new(&[("one", Counting::new(0))])?;
    let clock = shelf.folder().join("clock");
    fs::write(&clock, "+0")?;
    let (library, told) = (library.display().to_string(), clock.display().to_string());
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", told.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let inn = Inn::open_with(ground, &shelf, 0, &environment)?;
    let mut figures = Figures::default();
    for (name, jump) in [("ten_years_ahead", "+3650d"), ("ten_years_back", "-3650d"), ("home", "+0")] {
        let before = inn.year()?;
        let (status, answer) = inn.verb("load", "model=one&idle_timeout=1500ms")?;
        ensure!(status == 200, "{answer}");
        let began = now();
        fs::write(&clock, jump)?;
        inn.until_state("one", "unloaded", Duration::from_secs(4))?;
        let (took, after) = (began.elapsed(), inn.year()?);
        ensure!(before.abs_diff(after) >= 9, "the clock did not jump: {before}, then {after}");
        ensure!(
            took >= Duration::from_millis(1200) && took <= Duration::from_millis(2600),
            "idle for 1.5 s with a jump {name}, it went after {took:?}"
        );
        figures = figures.with(&format!("idle_1500_ms_{name}_ms"), ms(took));
    }
    // What is written down has its order though its times have none.
    let (status, history) = inn.get("/manage/history?kind=unload")?;
    let receipts = history["events"].as_array().map_or(0, Vec::len);
    ensure!((status, receipts) == (200, 3), "{history}");
    figures.held()
}

/// Where Debian and its relatives put it, whatever the machine.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

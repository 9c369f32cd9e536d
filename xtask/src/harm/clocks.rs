//! Clocks. The machine's own clock is left alone: a server is started in a time namespace, where the clocks that
//! deadlines run on are ten years ahead.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};

use super::{
    Ground,
    inn::{Inn, Shelf},
    report::{Figures, Outcome, ms, now},
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
    Figures::default()
        .with("idle_1500_ms_ten_years_ahead_ms", ms(took))
        .with(
            "jump_of_the_wall_clock",
            "not tried: the clock is this machine's; paused-time tests in manager do",
        )
        .held()
}

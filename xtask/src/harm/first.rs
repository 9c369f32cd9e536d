//! The server as the first process of a container: nobody is above it who would reap, and signals without a handler do
//! not reach it.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Signal;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf, tail},
    processes::{arguments, children, now, signal, state, until},
    report::{Figures, Outcome, ms},
};
use crate::tool::{Tool, which};

const APART: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

pub(super) fn first(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let tried = || Tool::new("unshare").args(APART).args(["true"]).capture().is_ok();
    if which("unshare").is_none() || which("nsenter").is_none() || !tried() {
        return Ok(Outcome::Skipped("no namespace of processes can be made and entered here".to_owned()));
    }
    let one = Counting::new(0);
    let shelf = Shelf::new(&[("one", one)])?;
    // A program whose child is the server, as number 1.
    let launcher = shelf.folder().join("apart");
    let program = ground.program.display();
    fs::write(&launcher, format!("#!/bin/sh\nexec unshare {} {program} \"$@\"\n", APART.join(" ")))?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
    let apart = Ground { places: ground.places, program: launcher, options: ground.options };
    let mut inn = Inn::open(&apart, &shelf)?;
    let server = *children(inn.pid()).first().context("no server beneath unshare")?;
    let status = fs::read_to_string(format!("/proc/{server}/status"))?;
    ensure!(
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")),
        "it is not the first process: {status}"
    );
    inn.load("one")?;
    let heard = clients::chat(inn.port, "one", one, 1, 50, |_| {});
    ensure!(heard.end == End::Done("length".into()), "{heard:?}");
    let reaped = orphan(server)?;
    ensure!(inn.state("one")? == "ready", "the model went with the orphan");
    let began = now();
    signal(server, Signal::TERM)?;
    let (status, _) = inn.ended(Duration::from_secs(8)).with_context(|| tail(&shelf))?;
    let took = began.elapsed();
    ensure!(status.success(), "it ended with {status}: {}", tail(&shelf));
    shelf.deserted(now()).context("after the stop")?;
    ensure!(shelf.records() == 0, "a worker is on record after a clean stop");
    Figures::default()
        .with("orphan_reaped_within_ms", ms(reaped))
        .with("stop_ms", ms(took))
        .with("exit_code", 0)
        .held()
}

/// What loses its parent in a container becomes its first process's child, and is reaped when it ends. How long after it
/// came that was; it lives for a second itself.
fn orphan(server: u32) -> Result<Duration> {
    const WORD: &str = "1.0625";
    let script = format!("sleep {WORD} <&- >&- 2>&- &");
    Tool::new("nsenter")
        .args(["--target", &server.to_string(), "--pid", "--", "sh", "-c", &script])
        .capture()
        .context("a process in the server's namespace")?;
    let began = now();
    let is_it = |pid: &u32| arguments(*pid).windows(WORD.len()).any(|part| part == WORD.as_bytes());
    let found = || children(server).into_iter().find(is_it);
    until("the orphan to be the server's", Duration::from_secs(1), || found().is_some())?;
    let orphan = found().context("the orphan went at once")?;
    until("the orphan to be reaped", Duration::from_secs(20), || state(orphan).is_none())?;
    Ok(began.elapsed())
}

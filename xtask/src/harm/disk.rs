//! A disk that is full: what was there stays, what cannot be done is said, and afterwards everything goes on.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    report::{Figures, Outcome},
};
use crate::tool::Tool;

/// A small disk in memory; gone with its value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(on: &Path) -> Result<Self> {
        Tool::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).args([on]).capture()?;
        Ok(Self(on.to_owned()))
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.0.join("filler"))?;
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Tool::new("umount").args(["-l"]).args([&self.0]).capture());
    }
}

pub(super) fn disk(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("harm-disk").tempdir()?;
    let disk = match SmallDisk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(error) => return Ok(Outcome::Skipped(format!("no small disk can be mounted: {error:#}"))),
    };
    let model = Counting::new(0);
    let shelf = Shelf::at(folder.path(), &[("one", model)])?;
    let mut inn = Inn::open(ground, &shelf)?;
    let good = |inn: &Inn| -> Result<()> {
        let heard = clients::chat(inn.port, "one", model, 1, 50, |_| {});
        ensure!(heard.fault(model, 1, 50).is_none() && heard.end == End::Done("length".into()), "{heard:?}");
        Ok(())
    };
    ensure!(inn.verb("settings", "idle_timeout=7m")?.0 == 200, "settings cannot be saved to begin with");
    good(&inn)?;
    disk.fill()?;
    good(&inn).context("a loaded model on a full disk")?;
    let kept = fs::read_to_string(shelf.folder().join("settings.toml"))?;
    let (status, answer) = inn.verb("settings", "idle_timeout=9m")?;
    ensure!(
        status != 200 && answer["error"]["message"].is_string(),
        "settings were saved to a full disk: {answer}"
    );
    ensure!(fs::read_to_string(shelf.folder().join("settings.toml"))? == kept, "the old settings are gone");
    let (status, receipt) = inn.verb("unload", "model=one")?;
    ensure!(status == 200 && receipt["verdict"] == "returned", "an unload on a full disk: {receipt}");
    // A worker without a record would be nobody's after a crash, so it is not started.
    let (status, answer) = inn.verb("load", "model=one")?;
    let refused = status != 200;
    ensure!(!refused || answer["error"]["message"].is_string(), "the refusal has no words: {answer}");
    ensure!(inn.lives(), "the server ended");
    disk.free()?;
    inn.verb("reload", "model=one")?;
    good(&inn).context("after there was room again")?;
    ensure!(inn.verb("settings", "idle_timeout=9m")?.0 == 200, "settings cannot be saved any more");
    drop(inn);
    let inn = Inn::open(ground, &shelf)?;
    let (_, settings) = inn.get("/manage/settings")?;
    ensure!(settings["idle_timeout"]["value"] == "9m", "what was saved is not there: {settings}");
    Figures::default().with("load_on_a_full_disk", if refused { "refused" } else { "done" }).held()
}

//! A server to be harmed: the finished program on a port and a data folder of its own.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use fixtures::Counting;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Ground, http,
    processes::{self, first_line, now, until, with_words},
};

/// No start takes longer.
const START: Duration = Duration::from_secs(30);

/// A data folder with models on its shelf; outlives the servers that use it.
pub(crate) struct Shelf {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Shelf {
    /// With these models, by name.
    pub(crate) fn new(models: &[(&str, Counting)]) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("harm").tempdir()?;
        let mut shelf = Self::at(temporary.path(), models)?;
        shelf._temporary = Some(temporary);
        Ok(shelf)
    }

    /// In a folder that is there.
    pub(crate) fn at(folder: &Path, models: &[(&str, Counting)]) -> Result<Self> {
        fs::create_dir_all(folder.join("models"))?;
        let shelf = Self { folder: folder.to_owned(), _temporary: None };
        for (name, model) in models {
            shelf.put(name, &model.gguf().build())?;
        }
        Ok(shelf)
    }

    /// One more, whatever is in it.
    pub(crate) fn put(&self, name: &str, gguf: &[u8]) -> Result<()> {
        let path = self.folder.join(format!("models/{name}.gguf"));
        fs::write(&path, gguf)?;
        // A file that was written this very moment may still be growing, and is left alone for a while.
        let file = File::options().write(true).open(&path)?;
        Ok(file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))?)
    }

    /// What its servers have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// By what every process that has to do with it can be found: the folder's name, and what stands on record.
    fn words(&self) -> Vec<String> {
        let records = fs::read_dir(self.folder.join("run/intents")).into_iter().flatten().flatten();
        let nonces = records.filter_map(|entry| {
            Some(entry.path().file_stem()?.to_str()?.to_owned()).filter(|nonce| nonce.len() > 8)
        });
        nonces.chain([self.folder.display().to_string()]).collect()
    }

    /// Records of workers that are not struck out.
    pub(crate) fn records(&self) -> usize {
        self.intents().len()
    }

    /// The same without the one that waits for a model.
    fn records_of_models(&self) -> usize {
        self.intents().iter().filter(|record| record["waits"] != true).count()
    }

    /// What cannot be read is a record too, and of nobody who waits.
    fn intents(&self) -> Vec<Value> {
        let records = fs::read_dir(self.folder.join("run/intents")).into_iter().flatten().flatten();
        let read = |path| serde_json::from_slice(&fs::read(path).ok()?).ok();
        records.map(|record| read(record.path()).unwrap_or_default()).collect()
    }

    /// Waits until nobody is left; the promise is a second.
    pub(crate) fn deserted(&self, since: std::time::Instant) -> Result<Duration> {
        // By the records as they stand now: no server changes them any more.
        let words = self.words();
        loop {
            let left = with_words(&words);
            let took = since.elapsed();
            if left.is_empty() {
                ensure!(took <= Duration::from_secs(1), "they took {took:?} to go");
                return Ok(took);
            }
            if took > Duration::from_secs(20) {
                bail!("processes {left:?} outlived their server by 20 s");
            }
            processes::pause(1);
        }
    }
}

/// A running server.
pub(crate) struct Inn {
    pub(crate) port: u16,
    child: Child,
}

impl Inn {
    /// Starts a server and waits until it serves.
    pub(crate) fn open(ground: &Ground<'_>, shelf: &Shelf) -> Result<Self> {
        Self::open_with(ground, shelf, 0, &[])
    }

    /// On this port (0: any), with further environment.
    pub(crate) fn open_with(
        ground: &Ground<'_>,
        shelf: &Shelf,
        port: u16,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut inn = Self::begin(ground, shelf, port, environment)?;
        inn.until_it_serves(shelf)?;
        Ok(inn)
    }

    /// Waits until one that was begun serves.
    pub(crate) fn until_it_serves(&mut self, shelf: &Shelf) -> Result<()> {
        let out = self.child.stdout.take().context("a server without stdout")?;
        let url = first_line(out, START).with_context(|| tail(shelf))?;
        let port = url.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.with_context(|| format!("no server: {}", tail(shelf)))?;
        Ok(())
    }

    /// Starts a server and waits for nothing.
    pub(crate) fn begin(
        ground: &Ground<'_>,
        shelf: &Shelf,
        port: u16,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let log = File::options().create(true).append(true).open(shelf.folder.join("log"))?;
        let child = Command::new(&ground.program)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(&shelf.folder)
            .env("XDG_CONFIG_HOME", &shelf.folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // What is typed at this terminal is not for it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", ground.program.display()))?;
        Ok(Self { port, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Result<(u16, Value)> {
        Ok(http::ask(self.port, "GET", path, None)?)
    }

    /// A verb with its fields, form-encoded (none of harm's needs escaping).
    pub(crate) fn verb(&self, verb: &str, fields: &str) -> Result<(u16, Value)> {
        let form = Some(("application/x-www-form-urlencoded", fields));
        Ok(http::ask(self.port, "POST", &format!("/manage/{verb}"), form)?)
    }

    /// Loads a model and returns its worker.
    pub(crate) fn load(&self, model: &str) -> Result<u32> {
        let (status, answer) = self.verb("load", &format!("model={model}"))?;
        ensure!(status == 200, "the load of {model} was answered {status}: {answer}");
        self.worker(model)
    }

    pub(crate) fn model(&self, model: &str) -> Result<Value> {
        let (_, snapshot) = self.get("/manage/snapshot")?;
        let models = snapshot["models"].as_array().cloned().unwrap_or_default();
        models
            .into_iter()
            .find(|one| one["id"] == model)
            .with_context(|| format!("no {model} in the snapshot"))
    }

    pub(crate) fn worker(&self, model: &str) -> Result<u32> {
        let pid = self.model(model)?["instances"][0]["pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok()).with_context(|| format!("{model} has no worker"))
    }

    /// The year that it takes it to be.
    pub(crate) fn year(&self) -> Result<u32> {
        let (_, snapshot) = self.get("/manage/snapshot")?;
        let at = snapshot["at"].as_str().and_then(|at| at.get(..4)?.parse().ok());
        at.with_context(|| format!("a snapshot says no year: {}", snapshot["at"]))
    }

    pub(crate) fn state(&self, model: &str) -> Result<String> {
        Ok(self.model(model)?["state"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn until_state(&self, model: &str, state: &str, most: Duration) -> Result<Duration> {
        until(&format!("{model} to be {state}"), most, || self.state(model).is_ok_and(|is| is == state))
    }

    /// Nothing is loaded, reserved, asked for or on record.
    pub(crate) fn is_empty(&self, shelf: &Shelf) -> Result<()> {
        let (_, snapshot) = self.get("/manage/snapshot")?;
        let models = snapshot["models"].as_array().context("a snapshot without models")?;
        // One that has failed holds nothing either.
        let is_out = |model: &Value| {
            (model["state"] == "unloaded" || model["state"] == "failed")
                && model["instances"].as_array().is_some_and(Vec::is_empty)
        };
        ensure!(models.iter().all(is_out), "not all unloaded: {models:?}");
        ensure!(models.iter().all(|model| model["in_flight"] == 0), "requests are in flight: {models:?}");
        ensure!(snapshot["budget"]["ram_reserved_bytes"] == 0, "memory is reserved: {}", snapshot["budget"]);
        ensure!(
            snapshot["requests"].as_array().is_some_and(Vec::is_empty),
            "requests: {}",
            snapshot["requests"]
        );
        // The record of the one that waits may be half written.
        until("nobody on record but who waits", Duration::from_secs(1), || shelf.records_of_models() == 0)?;
        Ok(())
    }

    /// The worker that is started ahead.
    pub(crate) fn waiting(&self) -> Result<u32> {
        let waiting = || processes::waiting(self.pid());
        until("a worker that waits", Duration::from_secs(70), || waiting().is_some())?;
        waiting().context("the worker that waited has gone")
    }

    /// Kills the worker that waits, so that the next load has to start its own: another one comes after a second or more.
    pub(crate) fn without_waiting(&self) -> Result<()> {
        let waiting = self.waiting()?;
        processes::signal(waiting, Signal::KILL)?;
        until("its end", Duration::from_secs(2), || processes::state(waiting).is_none())?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        processes::signal(self.pid(), signal)
    }

    /// kill -9, and how long it took until nobody was left.
    pub(crate) fn kill(self, shelf: &Shelf) -> Result<Duration> {
        let began = now();
        self.kill_alone()?;
        shelf.deserted(began)
    }

    /// kill -9, whoever is left.
    pub(crate) fn kill_alone(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// kill -9, and another server on the same folder and port.
    pub(crate) fn kill_and_open_again(&mut self, ground: &Ground<'_>, shelf: &Shelf) -> Result<()> {
        let began = now();
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        shelf.deserted(began)?;
        *self = Self::open_with(ground, shelf, self.port, &[])?;
        Ok(())
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, most: Duration) -> Result<(ExitStatus, Duration)> {
        let began = now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, began.elapsed()));
            }
            ensure!(began.elapsed() < most, "the server has not ended within {most:?}");
            processes::pause(1);
        }
    }

    /// Whether it still lives.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Inn {
    fn drop(&mut self) {
        // Its workers go with it, however this ends.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The last lines of a server's log.
pub(crate) fn tail(shelf: &Shelf) -> String {
    let log = shelf.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

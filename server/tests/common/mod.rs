//! A real server for a test: the built binary on a free port with a data folder of its own. It ends with its test,
//! and its end is part of the test: no worker may be left.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A running server.
pub struct Inn {
    pub url: String,
    pub data: tempfile::TempDir,
    server: Child,
    client: ureq::Agent,
}

/// Where the real models are. Without them these tests would test nothing, so they fail and say what to do.
pub fn models() -> PathBuf {
    std::env::var_os("INNKEEPER_TEST_MODELS")
        .map(PathBuf::from)
        .expect("INNKEEPER_TEST_MODELS names no models folder: run the tests with `cargo xtask test`")
}

impl Inn {
    /// A server with `smollm2` on its shelf.
    pub fn open(arguments: &[&str]) -> Self {
        Self::open_with(arguments, &[])
    }

    /// The same with further environment.
    pub fn open_with(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("models")).unwrap();
        std::os::unix::fs::symlink(models().join("smollm2.gguf"), data.path().join("models/smollm2.gguf"))
            .unwrap();
        Self::start(data, arguments, env)
    }

    /// Stops the server and starts another one with its data folder.
    pub fn again(mut self) -> Self {
        self.signal(rustix::process::Signal::TERM);
        self.ended(Duration::from_secs(9));
        let data = std::mem::replace(&mut self.data, tempfile::tempdir().unwrap());
        drop(self);
        Self::start(data, &[], &[])
    }

    fn start(data: tempfile::TempDir, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_innkeeper"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .envs(env.iter().copied())
            .env("XDG_CONFIG_HOME", data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let inn = Self { url: url.trim().to_owned(), data, server, client };
        assert!(inn.url.starts_with("http://127.0.0.1:"), "the server printed `{}`", inn.url);
        inn
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        read(self.client.get(format!("{}{path}", self.url)).call().unwrap())
    }

    /// A verb, form-encoded, as a program sends it.
    pub fn verb(&self, verb: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        read(
            self.client
                .post(format!("{}/manage/{verb}", self.url))
                .send_form(fields.iter().copied())
                .unwrap(),
        )
    }

    pub fn json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request =
            self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        read(request.send(body.to_string()).unwrap())
    }

    /// The answer's body as it comes.
    pub fn stream(&self, path: &str, body: &Value) -> impl Read + 'static {
        let request =
            self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        request.send(body.to_string()).unwrap().into_body().into_reader()
    }

    pub fn snapshot(&self) -> Value {
        self.get("/manage/snapshot").1
    }

    pub fn model(&self, id: &str) -> Value {
        let snapshot = self.snapshot();
        let models = snapshot["models"].as_array().unwrap();
        models
            .iter()
            .find(|model| model["id"] == id)
            .cloned()
            .unwrap_or_else(|| panic!("no {id} in {snapshot:#}"))
    }

    /// Waits until a model is as wanted, at most so long.
    pub fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool, within: Duration) -> Value {
        let end = Instant::now() + within;
        loop {
            let model = self.model(id);
            if wanted(&model) {
                return model;
            }
            assert!(Instant::now() < end, "{id} did not become as wanted: {model:#}");
            pause();
        }
    }

    pub fn worker_pid(&self, id: &str) -> u32 {
        u32::try_from(self.model(id)["instances"][0]["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        signal_to(self.pid(), signal);
    }

    /// Waits for the server's end.
    pub fn ended(&mut self, within: Duration) -> std::process::ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.server.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server did not end within {within:?}");
            pause();
        }
    }
}

impl Drop for Inn {
    fn drop(&mut self) {
        let workers = workers_of(self.data.path());
        if self.server.try_wait().ok().flatten().is_none() {
            signal_to(self.pid(), rustix::process::Signal::TERM);
            if !std::thread::panicking() {
                self.ended(Duration::from_secs(9));
            }
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
        if !std::thread::panicking() {
            gone(&workers, Duration::from_secs(1));
        }
    }
}

/// The workers of the server with this data folder: their ids, read from its intents.
fn workers_of(data: &Path) -> Vec<u32> {
    let intents = fs::read_dir(data.join("run/intents")).into_iter().flatten().flatten();
    intents
        .filter_map(|entry| serde_json::from_str::<Value>(&fs::read_to_string(entry.path()).ok()?).ok())
        .filter_map(|intent| u32::try_from(intent["pid"].as_u64()?).ok())
        .collect()
}

/// Asserts that no such process is alive any more, within so long.
pub fn gone(pids: &[u32], within: Duration) {
    let end = Instant::now() + within;
    while let Some(pid) = pids.iter().find(|pid| alive(**pid)) {
        assert!(Instant::now() < end, "process {pid} outlived its server");
        pause();
    }
}

/// What a process has started.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// Whether its program is a worker's; one that only waits for a model does not count.
pub fn is_worker(pid: u32) -> bool {
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split('\0').nth(1) == Some("worker") && !arguments.contains("(none yet)")
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !matches!(stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()), Some('Z' | 'X') | None)
    })
}

pub fn signal_to(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Private bytes of a process as an outsider reads them.
pub fn private_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap_or("x 0 kB");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    field("Pss_Anon:") + field("Pss_Shmem:") + field("SwapPss:")
}

fn read(response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Between two looks at what cannot be waited for from outside the process.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}

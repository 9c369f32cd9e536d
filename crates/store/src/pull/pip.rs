//! Fetching a package by pip, which knows the mirrors, proxies and certificates of this machine.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpgid},
    time::{ClockId, clock_gettime},
};

use super::Cancel;
use crate::StoreError;

/// A package to fetch.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    pub(super) package: String,
    pub(super) version: String,
    /// What will come, if it is known.
    pub(super) bytes: Option<u64>,
}

/// Brings a package's wheel into a folder; returns its path. `tell` gets the bytes so far.
pub(super) trait Fetch {
    fn fetch(
        &self,
        wheel: &Wheel,
        into: &Path,
        tell: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<PathBuf, StoreError>;
}

/// pip ends with us, and with all that it started: its standard input is a pipe that closes when this process goes,
/// however it goes. The thread reads without Python's buffer, whose lock would be in the way when the interpreter ends.
const RUN: &str = "import os, runpy, threading
def watch():
    os.read(0, 1)
    os.killpg(0, 9)
threading.Thread(target=watch, daemon=True).start()
runpy.run_module('pip', run_name='__main__', alter_sys=True)";
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// How long what was killed may take to go.
const GONE: Duration = Duration::from_secs(1);
/// Lines of pip's that are kept.
const LAST_WORDS: usize = 20;

/// The real one.
#[derive(Debug)]
pub(super) struct Pip {
    /// Tried in this order.
    pub(super) pythons: Vec<String>,
    /// For pip's own environment.
    pub(super) env: Vec<(&'static str, String)>,
    /// Without a new byte for so long, it is given up.
    pub(super) stall: Duration,
}

impl Default for Pip {
    fn default() -> Self {
        // pip itself tries three times and waits 15 seconds each time before it says that nobody answers.
        Self {
            pythons: ["python3", "python"].map(str::to_owned).to_vec(),
            env: Vec::new(),
            stall: Duration::from_secs(120),
        }
    }
}

impl Fetch for Pip {
    fn fetch(
        &self,
        wheel: &Wheel,
        into: &Path,
        tell: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<PathBuf, StoreError> {
        let what = format!("{}=={}", wheel.package, wheel.version);
        let done = into.join("done");
        let mut running = self.start(&what, into, &done)?;
        let mut last = (0, monotonic());
        let ended = loop {
            if let Err(cancelled) = cancel.check() {
                break Err(cancelled);
            }
            match running.words.recv_timeout(LOOK) {
                Ok(line) => running.keep(line),
                Err(RecvTimeoutError::Disconnected) => break running.wait(),
                Err(RecvTimeoutError::Timeout) => {
                    let bytes = largest_file(into, 3);
                    tell(bytes);
                    if bytes != last.0 {
                        last = (bytes, monotonic());
                    } else if monotonic().saturating_sub(last.1) > self.stall {
                        break Err(StoreError::Stalled { what: what.clone(), seconds: self.stall.as_secs() });
                    }
                }
            }
        };
        let status = running.end();
        ended?;
        if !status?.success() {
            return Err(running.trouble(what));
        }
        let wheel_path = fs::read_dir(&done)
            .ok()
            .and_then(|entries| entries.flatten().map(|entry| entry.path()).next())
            .ok_or_else(|| StoreError::Pip {
                what,
                said: "it ended without an error and left nothing".to_owned(),
            })?;
        tell(fs::metadata(&wheel_path).map_or(0, |meta| meta.len()));
        Ok(wheel_path)
    }
}

/// A pip at work.
struct Running {
    child: Child,
    words: Receiver<String>,
    kept: Vec<String>,
}

impl Pip {
    fn start(&self, what: &str, into: &Path, done: &Path) -> Result<Running, StoreError> {
        for python in &self.pythons {
            let mut command = Command::new(python);
            command
                .args([
                    "-c",
                    RUN,
                    "download",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--no-cache-dir",
                    "--no-input",
                ])
                .args([
                    "--disable-pip-version-check",
                    "--progress-bar=off",
                    "--timeout=15",
                    "--retries=2",
                    "--quiet",
                ])
                .arg("--dest")
                .arg(done)
                .arg(what)
                // pip collects the bytes in its temporary folder: this is where they can be counted as they come.
                .env("TMPDIR", into)
                .envs(self.env.iter().map(|(name, value)| (name, value)))
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            match command.spawn() {
                Ok(mut child) => {
                    let (send, words) = mpsc::sync_channel(LAST_WORDS);
                    if let Some(stderr) = child.stderr.take() {
                        let read = move || {
                            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                                if send.send(line).is_err() {
                                    break;
                                }
                            }
                        };
                        thread::Builder::new()
                            .name("pip".to_owned())
                            .spawn(read)
                            .map_err(StoreError::io("run", "pip"))?;
                    }
                    return Ok(Running { child, words, kept: Vec::new() });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("run", python)(error)),
            }
        }
        Err(StoreError::NoPip)
    }
}

impl Running {
    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end and leaves it to `end`: until then its number, and that of its group, is nobody else's.
    fn wait(&self) -> Result<(), StoreError> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.group()), how).map(|_| ()).map_err(|e| StoreError::io("run", "pip")(e.into()))
    }

    /// Ends it with what it started (it asks compilers for their version), and waits until all of that is gone: the
    /// server adopts orphans, and would keep them as zombies for a while.
    fn end(&mut self) -> Result<ExitStatus, StoreError> {
        let group = self.group();
        let _ = kill_process_group(group, Signal::KILL);
        let status = self.child.wait().map_err(StoreError::io("run", "pip"));
        let killed = monotonic();
        while let Ok(one) = waitpgid(group, WaitOptions::NOHANG) {
            if one.is_none() {
                thread::park_timeout(Duration::from_millis(1));
            }
            if monotonic().saturating_sub(killed) > GONE {
                break;
            }
        }
        status
    }

    fn keep(&mut self, line: String) {
        if self.kept.len() == LAST_WORDS {
            self.kept.remove(0);
        }
        self.kept.push(line);
    }

    /// What pip said last, or that there is none.
    fn trouble(&self, what: String) -> StoreError {
        if self
            .kept
            .iter()
            .any(|line| line.contains("No module named pip") || line.contains("No module named 'pip'"))
        {
            return StoreError::NoPip;
        }
        let errors = self.kept.iter().rev().filter_map(|line| line.trim().strip_prefix("ERROR:"));
        let lines = self.kept.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
        let said = errors.chain(lines).next().unwrap_or("it gave no reason").trim();
        StoreError::Pip { what, said: said.chars().take(300).collect() }
    }
}

/// The file that grows: pip fetches one at a time.
fn largest_file(folder: &Path, depth: u32) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(meta) if meta.is_dir() && depth > 0 => largest_file(&entry.path(), depth - 1),
        _ => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        os::unix::process::ExitStatusExt,
    };

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn wheel(version: &str) -> Wheel {
        Wheel { package: "innkeeper-test-model".to_owned(), version: version.to_owned(), bytes: None }
    }

    /// A folder with version 1.0 of a package, as pip wants it.
    fn index() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = fs::File::create(root.path().join("innkeeper_test_model-1.0-py3-none-any.whl")).unwrap();
        let mut zip = ZipWriter::new(file);
        let info = "innkeeper_test_model-1.0.dist-info";
        for (name, text) in [
            ("innkeeper_test_model/m.gguf".to_owned(), "GGUF".to_owned()),
            (
                format!("{info}/METADATA"),
                "Metadata-Version: 2.1\nName: innkeeper-test-model\nVersion: 1.0\n".to_owned(),
            ),
            (
                format!("{info}/WHEEL"),
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
            ),
            (format!("{info}/RECORD"), String::new()),
        ] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        root
    }

    fn pip_with(env: Vec<(&'static str, String)>) -> Pip {
        Pip { env, ..Pip::default() }
    }

    fn local(index: &tempfile::TempDir) -> Pip {
        let links = index.path().display().to_string();
        pip_with(vec![("PIP_NO_INDEX", "1".to_owned()), ("PIP_FIND_LINKS", links)])
    }

    /// A package index that takes every call and answers none.
    fn silent_index() -> (TcpListener, Pip) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/simple", listener.local_addr().unwrap());
        let pip = pip_with(vec![("PIP_INDEX_URL", url), ("NO_PROXY", "127.0.0.1".to_owned())]);
        (listener, pip)
    }

    #[test]
    fn a_package_is_fetched_and_its_bytes_are_told() {
        let (index, into) = (index(), tempfile::tempdir().unwrap());
        let mut told = Vec::new();
        let path = local(&index)
            .fetch(&wheel("1.0"), into.path(), &mut |bytes| told.push(bytes), &Cancel::default())
            .unwrap();
        assert!(path.starts_with(into.path()));
        assert_eq!(told.last().copied(), Some(fs::metadata(&path).unwrap().len()));
    }

    #[test]
    fn a_package_that_is_not_there_is_told_in_pips_words() {
        let (index, into) = (index(), tempfile::tempdir().unwrap());
        let error =
            local(&index).fetch(&wheel("9.9"), into.path(), &mut |_| {}, &Cancel::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("pip could not fetch innkeeper-test-model==9.9: "), "{text}");
        assert!(text.contains("No matching distribution"), "{text}");
        assert!(!error.hint().is_empty());
    }

    #[test]
    fn without_python_or_without_pip_the_error_says_what_to_install() {
        let into = tempfile::tempdir().unwrap();
        let none = Pip { pythons: vec!["no-such-python-here".to_owned()], ..Pip::default() };
        let venv = tempfile::tempdir().unwrap();
        let made =
            Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(venv.path()).status().unwrap();
        assert!(made.success());
        let bare = venv.path().join("bin/python3").display().to_string();
        let without = Pip { pythons: vec![bare], ..Pip::default() };
        for pip in [none, without] {
            let error = pip.fetch(&wheel("1.0"), into.path(), &mut |_| {}, &Cancel::default()).unwrap_err();
            assert!(matches!(error, StoreError::NoPip), "{error}");
            assert!(error.hint().contains("apt install python3-pip"));
        }
    }

    #[test]
    fn a_network_that_says_nothing_is_given_up() {
        let (_listener, mut pip) = silent_index();
        pip.stall = Duration::from_secs(1);
        let into = tempfile::tempdir().unwrap();
        let error = pip.fetch(&wheel("1.0"), into.path(), &mut |_| {}, &Cancel::default()).unwrap_err();
        assert!(matches!(error, StoreError::Stalled { seconds: 1, .. }), "{error}");
    }

    #[test]
    fn a_cancelled_fetch_ends_pip() {
        let (listener, pip) = silent_index();
        let (into, cancel) = (tempfile::tempdir().unwrap(), Cancel::default());
        let other = cancel.clone();
        // pip has called, so it is in the middle of its work; when it ends, its end of the line closes.
        let caller = thread::spawn(move || {
            let (mut call, _) = listener.accept().unwrap();
            other.cancel();
            let mut rest = Vec::new();
            call.read_to_end(&mut rest).map(|_| ())
        });
        let error = pip.fetch(&wheel("1.0"), into.path(), &mut |_| {}, &cancel).unwrap_err();
        assert!(matches!(error, StoreError::Cancelled), "{error}");
        // A reset is an end too.
        let _ = caller.join().unwrap();
    }

    #[test]
    fn pip_ends_when_this_process_does() {
        let (listener, pip) = silent_index();
        let into = tempfile::tempdir().unwrap();
        let mut running =
            pip.start("innkeeper-test-model==1.0", into.path(), &into.path().join("done")).unwrap();
        let call = listener.accept().unwrap();
        // What the system does with our end of the pipe when we die.
        drop(running.child.stdin.take());
        assert_eq!(running.child.wait().unwrap().signal(), Some(9));
        drop(call);
    }

    #[test]
    fn what_pip_started_ends_with_it_and_leaves_no_zombie() {
        // As the server does, which would have to reap it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (python, told) = (folder.path().join("python"), folder.path().join("pid"));
        let script =
            format!("#!/bin/sh\nsleep 600 &\necho $! > {0}.new\nmv {0}.new {0}\nwait\n", told.display());
        // Another process writes it: a copy of our descriptor in another test's child would keep it from being run.
        let write = format!("printf '%s' '{script}' > {0} && chmod +x {0}", python.display());
        assert!(Command::new("sh").args(["-c", &write]).status().unwrap().success());
        let pip = Pip { pythons: vec![python.display().to_string()], ..Pip::default() };
        let cancel = Cancel::default();
        let mut tell = |_| {
            if told.exists() {
                cancel.cancel();
            }
        };
        let error = pip.fetch(&wheel("1.0"), folder.path(), &mut tell, &cancel).unwrap_err();
        assert!(matches!(error, StoreError::Cancelled), "{error}");
        let pid = fs::read_to_string(&told).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{} is still there", pid.trim());
    }
}

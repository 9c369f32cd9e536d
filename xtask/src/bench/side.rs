//! One of the two servers: how it starts, what its processes take, and that it goes.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::http;
use crate::processes::{children, first_line, now, pause};

/// Long enough for the slowest start.
const START: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Ours, with the data folder that holds the model.
    Ours { program: PathBuf, data_dir: PathBuf },
    /// One that takes llama-server's arguments.
    Peer { program: PathBuf },
}

/// How both are started.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) model: PathBuf,
    pub(super) threads: usize,
    /// Positions of one sequence.
    pub(super) context: u32,
    /// Sequences at once, which the peer has to know beforehand.
    pub(super) slots: u32,
}

/// A running server; it is ended when this goes.
#[derive(Debug)]
pub(super) struct Side {
    child: Child,
    pub(super) address: SocketAddr,
    /// From the start of the process until it serves.
    pub(super) ready: Duration,
}

/// What the processes of a server have taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Processor time.
    pub(super) processor: Duration,
    pub(super) private_bytes: u64,
    pub(super) mapped_bytes: u64,
}

impl Kind {
    pub(super) fn start(&self, setting: &Setting) -> Result<Side> {
        let began = now();
        match self {
            Self::Ours { program, data_dir } => {
                let mut child = Command::new(program)
                    .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
                    .arg(data_dir)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .with_context(|| format!("cannot start {}", program.display()))?;
                let url = child.stdout.take().context("a server without stdout");
                let url =
                    url.and_then(|stdout| first_line(stdout, START)).inspect_err(|_| end(&mut child))?;
                let address = url.trim().trim_start_matches("http://").trim_end_matches('/').parse();
                let Ok(address) = address else {
                    end(&mut child);
                    bail!("the server said no address but {url:?}");
                };
                Ok(Side { child, address, ready: began.elapsed() })
            }
            Self::Peer { program } => {
                let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let child = Command::new(program)
                    .arg("-m")
                    .arg(&setting.model)
                    .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                    .args(["-t", &setting.threads.to_string()])
                    .args(["-c", &(setting.context * setting.slots).to_string()])
                    .args(["-np", &setting.slots.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .with_context(|| format!("cannot start {}", program.display()))?;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let mut side = Side { child, address, ready: Duration::ZERO };
                while !serves(address) {
                    if began.elapsed() > START || side.child.try_wait()?.is_some() {
                        bail!("{} does not serve", program.display());
                    }
                    pause(5);
                }
                side.ready = began.elapsed();
                Ok(side)
            }
        }
    }
}

/// By its health, or, where a peer tells nothing of that, by its list of models.
fn serves(address: SocketAddr) -> bool {
    let status = |path: &str| http::call(address, "GET", path, "").map_or(0, |(status, _)| status);
    match status("/health") {
        404 => status("/v1/models") == 200,
        other => other == 200,
    }
}

impl Side {
    /// What the server and its workers have taken so far.
    pub(super) fn taken(&self) -> Taken {
        let mut all = Taken::default();
        let mut left = vec![self.child.id()];
        while let Some(pid) = left.pop() {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            left.extend(children(pid));
            all.processor += processor(&folder).unwrap_or_default();
            let rollup = fs::read_to_string(folder.join("smaps_rollup")).unwrap_or_default();
            let field = |name: &str| -> u64 {
                let line = rollup.lines().find(|line| line.starts_with(name));
                let number = line.and_then(|line| line.split_whitespace().nth(1));
                number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
            };
            let private = field("Pss_Anon:") + field("Pss_Shmem:") + field("SwapPss:");
            all.private_bytes += private;
            all.mapped_bytes += field("Pss_File:");
        }
        all
    }
}

/// Time on processors, of all threads: fields 14 and 15 of `stat`, in hundredths of a second.
fn processor(folder: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let after = stat.rsplit_once(") ")?.1;
    let ticks = after.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    Some(Duration::from_millis(ticks * 10))
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Side {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

//! An engine that holds as many bytes as its file says and does what its prompt says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    process::Command,
    sync::mpsc,
    time::Duration,
};

use link::{
    Embed, ErrorCode, Facts, Finish, Footprint, FromWorker, Generate, Load, Prompt, Ready, Stage, Timings,
    Usage,
};
use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, getxattr, inotify, utimensat},
    io::Errno,
    process::{
        PidfdFlags, Resource, Signal, getpid, getppid, getrlimit, kill_process, pidfd_open, prlimit,
        set_parent_process_death_signal, setpriority_process, test_kill_process,
    },
    thread::{CpuSet, sched_setaffinity},
};
use worker::port::{Admitted, Engine, Loader, Made, ModelFile, Refusal, Vectors};

/// The loader. Files read `ballast MIB [slow|crash|refuse]`.
pub(crate) struct Ballast;

fn words(files: &mut [ModelFile]) -> Result<Vec<String>, Refusal> {
    let mut text = String::new();
    for file in files {
        file.file.rewind().unwrap();
        drop(file.file.read_to_string(&mut text));
    }
    let words: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
    match words.first().map(String::as_str) {
        Some("ballast") => Ok(words),
        Some("crash") => std::process::abort(),
        Some("tarry") => loop {
            wait(1000);
        },
        _ => Err(Refusal {
            code: ErrorCode::BadFile,
            message: format!("It begins with {text:?}, not with ballast."),
        }),
    }
}

pub(crate) fn facts(mib: u64) -> Facts {
    Facts {
        embedding: false,
        family: "ballast".into(),
        quantization: "U8".into(),
        name: None,
        parameters: mib << 20,
        context: 4096,
        has_template: false,
        layers: 1,
        width: 1,
        vocabulary: 1,
        footprint: Footprint { weights_bytes: mib << 20, ..Footprint::default() },
    }
}

fn wait(ms: u64) {
    // Waits for a word that nobody sends.
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(ms));
}

impl Loader for Ballast {
    type Engine = Held;

    fn inspect(&self, mut files: Vec<ModelFile>) -> Result<Facts, Refusal> {
        Ok(facts(words(&mut files)?[1].parse().unwrap()))
    }

    fn load(
        &self,
        mut files: Vec<ModelFile>,
        order: &Load,
        progress: &mut dyn FnMut(Stage, u64, u64),
    ) -> Result<(Held, Ready), Refusal> {
        let words = words(&mut files)?;
        let mib: u64 = words[1].parse().unwrap();
        match words.get(2).map(String::as_str) {
            Some("slow") => loop {
                progress(Stage::Weights, 1, 100);
                wait(10);
            },
            Some("crash") => {
                eprintln!("the ballast shifts");
                std::process::abort()
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        for part in 0..mib {
            bytes.extend(std::iter::repeat_n(1_u8, 1 << 20));
            progress(Stage::Weights, part + 1, mib);
        }
        eprintln!("loaded {mib} MiB");
        let ready = Ready {
            facts: facts(mib),
            context: order.context.unwrap_or(4096),
            threads: order.threads,
            device: "cpu".into(),
            served_by: "ballast".into(),
        };
        Ok((
            Held {
                bytes,
                mapped: Vec::new(),
                spike: Vec::new(),
                running: BTreeMap::new(),
                held: Vec::new(),
                steps: 0,
            },
            ready,
        ))
    }
}

#[derive(Debug)]
struct Run {
    session: String,
    made: u32,
    most: u32,
    wait_ms: u64,
    paused: bool,
    cancelled: bool,
}

/// The engine.
pub(crate) struct Held {
    bytes: Vec<u8>,
    mapped: Vec<memmap2::MmapMut>,
    spike: Vec<u8>,
    running: BTreeMap<u64, Run>,
    /// What is to be told of sessions.
    held: Vec<(String, u64)>,
    steps: u64,
}

impl Engine for Held {
    fn admit(&mut self, request: Generate) -> Result<Admitted, Refusal> {
        let Prompt::Text(prompt) = request.prompt else { panic!("only text") };
        let mut words = prompt.split(' ');
        let (what, number) = (words.next().unwrap(), words.next().map_or(0_u32, |n| n.parse().unwrap()));
        let (mut most, mut wait_ms) = (0, 0);
        match what {
            "tokens" => most = number,
            "slow" => (most, wait_ms) = (number, 5),
            "crash" => std::process::abort(),
            "exit" => std::process::exit(number.cast_signed()),
            "stop" => kill_process(getpid(), Signal::STOP).unwrap(),
            "garbage" => File::from(my_channel()).write_all(&[0xff; 100]).unwrap(),
            "stranger" => {
                let token = FromWorker::Token { id: 999, seq: 0, text: String::new() };
                File::from(my_channel()).write_all(&link::encode(&token).unwrap()).unwrap();
            }
            "memfd" => self.mapped.push(shared_memory(number)),
            "spike" => {
                // Until its first token is out.
                most = 1;
                self.spike = vec![1; (number as usize) << 20];
            }
            "grow" => self.bytes.extend(std::iter::repeat_n(1, (number as usize) << 20)),
            "escape" => most = way_outs(),
            other => {
                return Err(Refusal {
                    code: ErrorCode::BadRequest,
                    message: format!("{other} is no prompt."),
                });
            }
        }
        let session = request.session;
        let run = Run { session, made: 0, most, wait_ms, paused: false, cancelled: false };
        self.running.insert(request.id, run);
        Ok(Admitted { prompt_tokens: 3, cached_tokens: 1 })
    }

    fn cancel(&mut self, id: u64) {
        if let Some(run) = self.running.get_mut(&id) {
            run.cancelled = true;
        }
    }

    fn pause(&mut self, id: u64, paused: bool) {
        if let Some(run) = self.running.get_mut(&id) {
            run.paused = paused;
        }
    }

    fn step(&mut self, out: &mut dyn FnMut(Made)) -> bool {
        self.steps += 1;
        if self.running.values().any(|run| run.made > 0) {
            self.spike = Vec::new();
        }
        let held = &mut self.held;
        self.running.retain(|&id, run| {
            if !run.cancelled && run.paused {
                return true;
            }
            if run.cancelled || run.made == run.most {
                let finish = if run.cancelled { Finish::Cancelled } else { Finish::Length };
                let usage = Usage { prompt_tokens: 3, completion_tokens: run.made, cached_tokens: 1 };
                let timings = Timings::default();
                out(Made::Done { id, text: String::new(), finish, usage, timings });
                held.push((run.session.clone(), 1000));
                return false;
            }
            wait(run.wait_ms);
            out(Made::Token { id, text: format!("{} ", run.made) });
            run.made += 1;
            true
        });
        for (session, bytes) in held.drain(..).filter(|(session, _)| !session.is_empty()) {
            out(Made::Held { session, bytes });
        }
        self.running.values().any(|run| !run.paused)
    }

    fn embed(&mut self, order: &Embed) -> Result<Vectors, Refusal> {
        let length = |text: &String| u16::try_from(text.len()).map(f32::from).unwrap();
        let vectors = order.texts.iter().map(|text| vec![length(text), f32::from(self.bytes[0])]).collect();
        Ok(Vectors { vectors, prompt_tokens: u32::try_from(order.texts.len()).unwrap() })
    }

    fn end_session(&mut self, _session: &str) -> u64 {
        1000
    }

    fn set_threads(&mut self, _n: u32) {}

    fn steps(&self) -> u64 {
        self.steps
    }
}

/// Times that stay as they are.
const UNCHANGED: Timestamps = {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: omit }
};

/// How many ways out of the sandbox are open, of those that a program would try first.
fn way_outs() -> u32 {
    let (server, nowhere) = (getppid().unwrap(), "/tmp/innkeeper-test-way-out");
    let tries = [
        Command::new("/bin/true").spawn().is_ok(),
        File::open("/etc/passwd").is_ok(),
        File::create(nowhere).is_ok(),
        std::fs::read_dir("/").is_ok(),
        std::fs::read("/proc/self/environ").is_ok(),
        std::fs::read(format!("/proc/{}/environ", server.as_raw_nonzero())).is_ok(),
        TcpStream::connect("127.0.0.1:1")
            .is_err_and(|error| error.kind() != std::io::ErrorKind::PermissionDenied),
        TcpListener::bind("127.0.0.1:0").is_ok(),
        UdpSocket::bind("[::1]:0").is_ok(),
        UnixStream::pair().is_ok(),
        UnixListener::bind(nowhere).is_ok(),
        pidfd_open(server, PidfdFlags::empty()).is_ok(),
        test_kill_process(server).is_ok(),
        set_parent_process_death_signal(None).is_ok(),
        prlimit(Some(server), Resource::Nofile, getrlimit(Resource::Nofile)).is_ok(),
        setpriority_process(Some(server), 19).is_ok(),
        sched_setaffinity(Some(server), &CpuSet::new()).is_err_and(|errno| errno != Errno::PERM),
        std::fs::set_permissions("/tmp", std::fs::Permissions::from_mode(0o1777)).is_ok(),
        std::os::unix::fs::chown("/tmp", None, None).is_ok(),
        utimensat(CWD, "/tmp", &UNCHANGED, AtFlags::empty()).is_ok(),
        getxattr("/tmp", "user.none", &mut [0_u8; 8]).is_err_and(|errno| errno != Errno::PERM),
        inotify::init(inotify::CreateFlags::empty())
            .is_ok_and(|watch| inotify::add_watch(watch, "/tmp", inotify::WatchFlags::CREATE).is_ok()),
    ];
    u32::try_from(tries.into_iter().filter(|way| *way).count()).unwrap()
}

/// The channel once more, past the codec.
#[expect(unsafe_code, reason = "the sandbox refuses every safe way to the channel's descriptor")]
fn my_channel() -> OwnedFd {
    // SAFETY: the worker keeps its channel open, as number 3, until its process ends.
    unsafe { BorrowedFd::borrow_raw(3) }.try_clone_to_owned().unwrap()
}

/// Shared memory that is resident and mapped; its descriptor stays open for others to find.
fn shared_memory(mib: u32) -> memmap2::MmapMut {
    let memory = rustix::fs::memfd_create("shared-ballast", rustix::fs::MemfdFlags::empty()).unwrap();
    let file = File::from(memory);
    file.set_len(u64::from(mib) << 20).unwrap();
    let mut map = map(&file);
    map.fill(1);
    std::mem::forget(file);
    map
}

/// Maps a file that nobody truncates.
#[expect(unsafe_code, reason = "the tests need memory that two processes map")]
pub(crate) fn map(file: &File) -> memmap2::MmapMut {
    // SAFETY: the memory is a memfd of these tests, which is never truncated, and its content means nothing.
    unsafe { memmap2::MmapMut::map_mut(file).unwrap() }
}

//! A supervisor with a shelf of small files, a probe and a desk that collects the news.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use link::{Prompt, Sampling};
use manager::ports::{
    Epoch, Launcher, Measured, ModelFile, ModelFileRole, News, NewsDesk, Probe, ReadyFacts, Release, Shelf,
    StartOrder, StopOrder,
};
use protocol::{Code, Failure, ModelId, Problem, Quality};
use supervisor::{Ask, Config, Event, Generation, Instance, RunDir, Supervisor, WorkerProgram};
use tokio::{sync::mpsc, time::timeout};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs an asynchronous test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Ends a test that this machine cannot try.
pub(crate) fn skip(why: &str) -> ! {
    println!("{why}");
    std::process::exit(crate::SKIPPED.into())
}

/// Waits, with patience.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Asks again and again until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while !is_so() {
            tick.tick().await;
        }
    };
    soon(what, asking).await;
}

/// How often the shelf of this process was asked.
pub(crate) static ASKED: AtomicU64 = AtomicU64::new(0);

struct Files(PathBuf);

impl Shelf for Files {
    fn open(&self, model: &ModelId) -> Result<Vec<ModelFile>, Problem> {
        let missing = |_| Problem::new(Code::UnknownModel, format!("{model} is not there."), "Fetch it.");
        ASKED.fetch_add(1, Ordering::Release);
        let file = File::open(self.0.join(model.as_str())).map_err(missing)?;
        Ok(vec![ModelFile { role: ModelFileRole::Gguf(0), file }])
    }
}

static STALLED: AtomicBool = AtomicBool::new(false);

/// While it lives, no memory can be read, as of a process in the hands of a broken driver.
pub(crate) struct Stalled;

impl Stalled {
    pub(crate) fn begin() -> Self {
        STALLED.store(true, Ordering::Release);
        Self
    }
}

impl Drop for Stalled {
    /// In a panic too: the threads that read would never end.
    fn drop(&mut self) {
        STALLED.store(false, Ordering::Release);
    }
}

struct Rollup;

impl Probe for Rollup {
    fn exact(&self, pid: u32) -> io::Result<Measured> {
        while STALLED.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        if !text.contains("Pss:") {
            return Err(io::Error::other("it is gone"));
        }
        Ok(Measured {
            private_bytes: bytes("Pss_Anon:") + bytes("Pss_Shmem:") + bytes("SwapPss:"),
            mapped_bytes: bytes("Pss_File:"),
            gpu_bytes: None,
            quality: Quality::Exact,
            wall_ms: 0,
        })
    }
}

/// What a process holds for itself, as the kernel counts; `None`: it is gone.
pub(crate) fn private_bytes(pid: u32) -> Option<u64> {
    Rollup.exact(pid).ok().map(|measured| measured.private_bytes)
}

struct Desk(mpsc::UnboundedSender<(Epoch, News<Instance>)>);

impl NewsDesk<Instance> for Desk {
    fn tell(&self, epoch: Epoch, news: News<Instance>) {
        drop(self.0.send((epoch, news)));
    }
}

/// The rig. To be ended with [`Rig::close`].
pub(crate) struct Rig {
    pub(crate) supervisor: Supervisor,
    folder: tempfile::TempDir,
    desk: Arc<Desk>,
    news: mpsc::UnboundedReceiver<(Epoch, News<Instance>)>,
    unread: Vec<(Epoch, News<Instance>)>,
    epochs: AtomicU64,
}

/// This program, as a worker or an impostor.
pub(crate) fn program(args: &[&str]) -> WorkerProgram {
    WorkerProgram { path: "/proc/self/exe".into(), args: args.iter().map(|&arg| arg.to_owned()).collect() }
}

fn supervisor(folder: &std::path::Path, program: WorkerProgram, spare: bool) -> Supervisor {
    let run = RunDir::lock(&folder.join("run")).unwrap();
    let config = Config { program, build: crate::BUILD.into(), threads: 2, spare };
    Supervisor::new(config, run, Arc::new(Files(folder.to_owned())), Arc::new(Rollup)).unwrap()
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(program(&["@worker"]))
    }

    pub(crate) fn with(program: WorkerProgram) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), program, false)
    }

    /// With a worker that is started ahead.
    pub(crate) fn ahead() -> Self {
        Self::ahead_with(program(&["@worker"]))
    }

    pub(crate) fn ahead_with(program: WorkerProgram) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), program, true)
    }

    pub(crate) fn in_folder(folder: tempfile::TempDir, program: WorkerProgram, spare: bool) -> Self {
        let supervisor = supervisor(folder.path(), program, spare);
        let (sender, news) = mpsc::unbounded_channel();
        Self { supervisor, folder, desk: Arc::new(Desk(sender)), news, unread: Vec::new(), epochs: 1.into() }
    }

    /// Where a model stands on the shelf.
    pub(crate) fn path(&self, model: &str) -> PathBuf {
        self.folder.path().join(model)
    }

    /// Puts a model on the shelf.
    pub(crate) fn put(&self, model: &str, text: &str) {
        fs::write(self.path(model), text).unwrap();
    }

    pub(crate) fn open(&self, model: &str) -> Vec<ModelFile> {
        Files(self.folder.path().to_owned()).open(&model.parse().unwrap()).unwrap()
    }

    pub(crate) fn intents(&self) -> usize {
        fs::read_dir(self.folder.path().join("run/intents")).unwrap().count()
    }

    /// What stands on record.
    pub(crate) fn records(&self) -> Vec<String> {
        let records = fs::read_dir(self.folder.path().join("run/intents")).unwrap().flatten();
        records.filter_map(|record| fs::read_to_string(record.path()).ok()).collect()
    }

    pub(crate) fn start(&self, model: &str) -> Epoch {
        let epoch = Epoch(self.epochs.fetch_add(1, Ordering::Relaxed));
        let order = StartOrder { model: model.parse().unwrap(), epoch, context: Some(512) };
        self.supervisor.start(order, Arc::clone(&self.desk) as Arc<dyn NewsDesk<Instance>>);
        epoch
    }

    pub(crate) fn stop(&self, epoch: Epoch) {
        self.supervisor.stop(StopOrder { epoch, at_once: false });
    }

    pub(crate) fn stop_at_once(&self, epoch: Epoch) {
        self.supervisor.stop(StopOrder { epoch, at_once: true });
    }

    /// The next news of an instance that fits; others of it are skipped, those of others are kept.
    pub(crate) async fn news<T>(
        &mut self,
        epoch: Epoch,
        mut fits: impl FnMut(&News<Instance>) -> Option<T>,
    ) -> T {
        let waiting = async {
            loop {
                while let Some(at) = self.unread.iter().position(|(of, _)| *of == epoch) {
                    let (_, news) = self.unread.remove(at);
                    if let Some(fit) = fits(&news) {
                        return fit;
                    }
                }
                self.unread.push(self.news.recv().await.unwrap());
            }
        };
        soon("news", waiting).await
    }

    pub(crate) async fn spawned(&mut self, epoch: Epoch) -> u32 {
        self.news(epoch, |news| match news {
            News::Spawned { pid } => Some(*pid),
            _ => None,
        })
        .await
    }

    pub(crate) async fn ready(&mut self, epoch: Epoch) -> (Instance, ReadyFacts) {
        self.news(epoch, |news| match news {
            News::Ready(instance, facts) => Some((instance.clone(), facts.clone())),
            News::Failed(failure) => panic!("{failure:?}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn failed(&mut self, epoch: Epoch) -> Failure {
        self.news(epoch, |news| match news {
            News::Failed(failure) => Some(failure.clone()),
            News::Released(release) => panic!("released without a reason: {release:?}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn released(&mut self, epoch: Epoch) -> Release {
        self.news(epoch, |news| match news {
            News::Released(release) => Some(release.clone()),
            _ => None,
        })
        .await
    }

    /// Loads ballast of so many MiB.
    pub(crate) async fn load(&mut self, mib: u32) -> (Epoch, Instance, ReadyFacts) {
        self.put("ballast", &format!("ballast {mib}"));
        let epoch = self.start("ballast");
        let (instance, facts) = self.ready(epoch).await;
        (epoch, instance, facts)
    }

    /// Ends the rig and looks whether anything is left.
    pub(crate) async fn close(mut self) {
        assert_eq!(self.supervisor.shut_down(PATIENCE).await, Ok(()), "a worker is left");
        assert_eq!(children(), HashSet::new(), "a child is left");
        assert_eq!(self.intents(), 0, "an intent is left");
        self.news.close();
    }
}

/// The children of this process, zombies included.
pub(crate) fn children() -> HashSet<u32> {
    children_of(std::process::id())
}

/// The same of another.
pub(crate) fn children_of(pid: u32) -> HashSet<u32> {
    let mut all = HashSet::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']) && !rest.trim().is_empty())
}

/// Whether all threads of a process have been stopped.
pub(crate) fn stands(pid: u32) -> bool {
    let is_stopped = |thread: &fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    fs::read_dir(format!("/proc/{pid}/task"))
        .is_ok_and(|threads| threads.flatten().all(|one| is_stopped(&one)))
}

pub(crate) fn ask(prompt: &str) -> Ask {
    let sampling = Sampling::greedy();
    Ask { session: String::new(), prompt: Prompt::Text(prompt.into()), sampling }
}

/// Reads a generation to its end; there must be exactly one.
pub(crate) async fn to_end(generation: &mut Generation) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = soon("an event", generation.next()).await {
        events.push(event);
    }
    let ends = events.iter().filter(|event| matches!(event, Event::Done { .. } | Event::Error(_))).count();
    assert_eq!(ends, 1, "{events:?}");
    assert!(matches!(events.last(), Some(Event::Done { .. } | Event::Error(_))), "{events:?}");
    events
}

/// The problem with which it ended.
pub(crate) async fn to_error(generation: &mut Generation) -> Problem {
    match to_end(generation).await.pop() {
        Some(Event::Error(problem)) => problem,
        other => panic!("it ended with {other:?}"),
    }
}

/// How many tokens came, when it ended well.
pub(crate) async fn to_done(generation: &mut Generation) -> usize {
    let events = to_end(generation).await;
    assert!(matches!(events.last(), Some(Event::Done { .. })), "{events:?}");
    events.iter().filter(|event| matches!(event, Event::Token { .. })).count()
}

/// Reads up to the first token.
pub(crate) async fn to_first_token(generation: &mut Generation) {
    loop {
        match soon("the first token", generation.next()).await {
            Some(Event::Token { .. }) => return,
            Some(Event::Started { .. }) => {}
            other => panic!("no token but {other:?}"),
        }
    }
}

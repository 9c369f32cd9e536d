//! Broken model files through real workers, in their sandbox: a worker may refuse, and at the worst it may die; it may
//! not hang, break out or take the server along, which is this process. `INNKEEPER_HOSTILE_FILES` says how many files
//! (300), `INNKEEPER_HOSTILE_SEED` which ones; `cargo xtask harm --only hostile` tries 10,000. The slowest are told by their
//! numbers, and `INNKEEPER_HOSTILE_FROM` begins at one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BinaryHeap, HashMap},
    fs::File,
    io::{self, Seek, Write},
    iter,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fixtures::{Bert, Counting, Random, break_bert, break_gguf};
use link::{Prompt, Role, Sampling, Turn};
use manager::ports::{
    Epoch, Launcher, Measured, ModelFile, ModelFileRole, News, NewsDesk, Probe, Shelf, StartOrder, StopOrder,
};
use protocol::{ModelId, Problem};
use supervisor::{Ask, Config, Event, Instance, RunDir, Supervisor, WorkerProgram};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

/// No file may take longer, from its first look to its worker's end.
const MOST: Duration = Duration::from_secs(10);
/// Files at a time.
const AT_ONCE: usize = 3;
/// That many are told.
const SLOWEST: usize = 5;

type Bytes = Vec<(ModelFileRole, Vec<u8>)>;

/// Files in memory, by the names of their models.
#[derive(Default)]
struct Files(Mutex<HashMap<ModelId, Bytes>>);

impl Shelf for Files {
    fn open(&self, model: &ModelId) -> Result<Vec<ModelFile>, Problem> {
        let files = self.0.lock().unwrap()[model].clone();
        Ok(files.into_iter().map(|(role, bytes)| ModelFile { role, file: file(&bytes) }).collect())
    }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

struct NoProbe;

impl Probe for NoProbe {
    fn exact(&self, _: u32) -> io::Result<Measured> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Desk(mpsc::UnboundedSender<News<Instance>>);

impl NewsDesk<Instance> for Desk {
    fn tell(&self, _: Epoch, news: News<Instance>) {
        drop(self.0.send(news));
    }
}

struct Rig {
    supervisor: Supervisor,
    files: Arc<Files>,
    epochs: AtomicU64,
}

impl Rig {
    fn new(folder: &std::path::Path) -> Self {
        let program =
            WorkerProgram { path: env!("CARGO_BIN_EXE_innkeeper").into(), args: vec!["worker".into()] };
        let config = Config { program, build: env!("CARGO_PKG_VERSION").into(), threads: 1, spare: false };
        let files = Arc::new(Files::default());
        let run = RunDir::lock(folder).unwrap();
        let supervisor = Supervisor::new(config, run, files.clone(), Arc::new(NoProbe)).unwrap();
        Self { supervisor, files, epochs: 1.into() }
    }

    /// Looks into a model, loads it, asks it, unloads it, as far as it goes. What became of it, in a few words.
    async fn try_out(&self, files: Bytes) -> String {
        let opened = files.iter().map(|(role, bytes)| ModelFile { role: *role, file: file(bytes) }).collect();
        let looked = self.supervisor.inspect(opened).await;
        if let Err(problem) = looked {
            return kind("refused at a look", &problem.message);
        }
        let epoch = Epoch(self.epochs.fetch_add(1, Ordering::Relaxed));
        let model: ModelId = format!("model{}", epoch.0).parse().unwrap();
        self.files.0.lock().unwrap().insert(model.clone(), files);
        let (sender, mut news) = mpsc::unbounded_channel();
        let order = StartOrder { model: model.clone(), epoch, context: Some(256) };
        self.supervisor.start(order, Arc::new(Desk(sender)));
        let mut end = String::new();
        while let Some(one) = news.recv().await {
            match one {
                News::Ready(instance, _) => {
                    end = use_it(&instance).await;
                    self.supervisor.stop(StopOrder { epoch, at_once: true });
                }
                News::Failed(failure) if end.is_empty() => {
                    end = kind("refused at its load", &failure.message);
                }
                News::Stuck { pid } => panic!("worker {pid} is stuck"),
                News::Released(_) => break,
                _ => {}
            }
        }
        self.files.0.lock().unwrap().remove(&model);
        end
    }
}

async fn use_it(instance: &Instance) -> String {
    if instance.facts().embedding {
        return match instance.embed(vec!["the inn keepers room".into()], std::future::pending()).await {
            Ok(_) => "answered".into(),
            Err(problem) => kind("failed at its work", &problem.message),
        };
    }
    let sampling = Sampling { max_tokens: Some(4), ignore_eos: true, ..Sampling::greedy() };
    let prompt = Prompt::Chat(vec![Turn { role: Role::User, content: "A".into() }]);
    let mut answer = instance.generate(Ask { session: String::new(), prompt, sampling });
    loop {
        match answer.next().await {
            Some(Event::Done { .. }) => return "answered".into(),
            Some(Event::Error(problem)) => return kind("failed at its work", &problem.message),
            Some(_) => {}
            None => panic!("an answer without an end"),
        }
    }
}

/// A refusal is as it should be; a death is told with its signal or code.
fn kind(when: &str, message: &str) -> String {
    for word in ["signal ", "exit code ", "out of memory", "took longer", "hung"] {
        if let Some(at) = message.find(word) {
            let what: String =
                message[at..].chars().take_while(|c| !matches!(c, ')' | '.' | ',' | ':')).collect();
            return format!("DIED ({what})");
        }
    }
    when.to_owned()
}

/// Whether a reader goes on to what stands behind the beginning: the magic number of a GGUF file, and the length of the
/// header of a safetensors file.
fn is_past_the_beginning(files: &Bytes) -> bool {
    let (role, bytes) = &files[0];
    match role {
        ModelFileRole::Gguf(_) => bytes.starts_with(b"GGUF"),
        _ => bytes.first_chunk().is_some_and(|length| {
            let length = u64::from_le_bytes(*length);
            length > 0 && length <= bytes.len() as u64 - 8
        }),
    }
}

fn broken(seed: u64) -> Bytes {
    let mut random = Random::new(seed);
    if !random.once_in(4) {
        return vec![(ModelFileRole::Gguf(0), break_gguf(&mut random))];
    }
    let (bert, length) = break_bert(&mut random);
    let mut weights = bert.safetensors();
    if let Some(length) = length {
        weights[..8].copy_from_slice(&length.to_le_bytes());
    }
    parts(&bert, weights)
}

fn parts(bert: &Bert, weights: Vec<u8>) -> Bytes {
    vec![
        (ModelFileRole::Safetensors, weights),
        (ModelFileRole::Config, bert.config.to_string().into_bytes()),
        (ModelFileRole::Tokenizer, bert.tokenizer.to_string().into_bytes()),
    ]
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_small_models_answer() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path());
    // The one that knows the letter which `use_it` says.
    for layers in 1..4 {
        let model = vec![(ModelFileRole::Gguf(0), Counting::new(0).with_layers(layers).gguf().build())];
        assert_eq!(rig.try_out(model).await, "answered");
    }
    assert_eq!(rig.supervisor.shut_down(MOST).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_harms_nobody() {
    let files = number("INNKEEPER_HOSTILE_FILES", 300);
    let first = number("INNKEEPER_HOSTILE_FROM", number("INNKEEPER_HOSTILE_SEED", 1) << 20);
    let folder = tempfile::tempdir().unwrap();
    let rig = Arc::new(Rig::new(folder.path()));
    let (room, tasks) = (Arc::new(Semaphore::new(AT_ONCE)), tokio_util::task::TaskTracker::new());
    let told = Arc::new(Mutex::new((BTreeMap::<String, u64>::new(), BinaryHeap::new())));
    let mut past = 0;
    for seed in first..first + files {
        let made = broken(seed);
        past += u64::from(is_past_the_beginning(&made));
        let (rig, told, permit) = (rig.clone(), told.clone(), room.clone().acquire_owned().await.unwrap());
        tasks.spawn(async move {
            let begin = Instant::now();
            let end = match timeout(MOST, rig.try_out(made)).await {
                Ok(end) => end,
                Err(_) => format!("DIED (not at all: {MOST:?} were not enough)"),
            };
            if end.starts_with("DIED") {
                println!("seed {seed}: {end}");
            }
            let mut told = told.lock().unwrap();
            *told.0.entry(end).or_default() += 1;
            told.1.push((begin.elapsed(), seed));
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
    assert_eq!(rig.supervisor.shut_down(MOST).await, Ok(()), "a worker is left");
    let (ends, times) = &mut *told.lock().unwrap();
    assert_eq!(ends.values().sum::<u64>(), files, "a task broke: {ends:?}");
    let slowest: Vec<String> = iter::from_fn(|| times.pop())
        .take(SLOWEST)
        .map(|(time, seed)| format!("{seed}: {} ms", time.as_millis()))
        .collect();
    let figures = serde_json::json!({ "files": files, "server_exits": 0, "hangs": 0,
        "past_the_beginning": past, "slowest": slowest, "ends": ends });
    println!("hostile figures: {figures}");
    assert!(past * 10 >= files * 9, "only {past} of {files} files get past their beginning");
    // Memory that is not ours to read or write (11, 7), or code that is none (4), must not be reached at all; a panic (101)
    // is a reader that believed the file.
    let none = ["not at all", "signal 11", "signal 7", "signal 4", "exit code 101", "hung", "took longer"];
    let bad: Vec<&String> = ends.keys().filter(|end| none.iter().any(|bad| end.contains(bad))).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

//! A launcher and a clock for tests of the actor. The clock is tokio's, which a paused test moves by itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{LedgerEvent, Progress};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::rig::{facts, failure, pid, release};
use crate::{
    Config, Handle, open,
    ports::{
        Archive, Clock, Epoch, Feeds, Launcher, MemorySample, News, NewsDesk, Now, ShelfModel, StartOrder,
        StopOrder,
    },
};

/// tokio's clock; boot and monotonic time are one, and wall time starts at 1,000,000 ms.
pub(super) struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.0.elapsed();
        Now { boot: mono, mono, wall_ms: 1_000_000 + i64::try_from(mono.as_millis()).unwrap() }
    }

    async fn sleep_until(&self, boot: Duration) {
        tokio::time::sleep_until(self.0 + boot).await;
    }
}

/// An instance of which only its epoch is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TestInstance(pub(super) Epoch);

type Desk = Arc<dyn NewsDesk<TestInstance>>;

#[derive(Default)]
struct Seen {
    starts: Vec<(StartOrder, Desk)>,
    stops: Vec<StopOrder>,
    cancels: Vec<Epoch>,
    ended: Vec<(Epoch, String)>,
}

/// Remembers its orders; what it tells is the test's choice.
#[derive(Default)]
pub(super) struct TestLauncher {
    seen: Mutex<Seen>,
    /// Comes ready and goes by itself, at once.
    obliging: bool,
}

impl TestLauncher {
    pub(super) fn obliging() -> Self {
        Self { obliging: true, ..Self::default() }
    }

    pub(super) fn tell(&self, epoch: Epoch, news: News<TestInstance>) {
        let desk = self.desk(epoch).expect("no such epoch");
        desk.tell(epoch, news);
    }

    fn desk(&self, epoch: Epoch) -> Option<Desk> {
        let seen = self.seen.lock().unwrap();
        seen.starts.iter().find(|(order, _)| order.epoch == epoch).map(|(_, desk)| desk.clone())
    }

    pub(super) fn come_ready(&self, epoch: Epoch) {
        self.tell(epoch, News::Spawned { pid: pid(epoch) });
        self.tell(epoch, News::Progress(Progress { stage: "weights".to_owned(), done: 1, total: 1 }));
        self.tell(epoch, News::Ready(TestInstance(epoch), facts(pid(epoch))));
    }

    pub(super) fn come_back(&self, epoch: Epoch) {
        self.tell(epoch, News::Released(release(pid(epoch))));
        self.seen.lock().unwrap().starts.retain(|(order, _)| order.epoch != epoch);
    }

    pub(super) fn die(&self, epoch: Epoch) {
        self.tell(epoch, News::Failed(failure("worker_died")));
        self.come_back(epoch);
    }

    pub(super) fn running(&self) -> Vec<Epoch> {
        self.seen.lock().unwrap().starts.iter().map(|(order, _)| order.epoch).collect()
    }

    pub(super) fn stops(&self) -> Vec<StopOrder> {
        self.seen.lock().unwrap().stops.clone()
    }

    pub(super) fn cancels(&self) -> Vec<Epoch> {
        self.seen.lock().unwrap().cancels.clone()
    }

    pub(super) fn ended(&self) -> Vec<(Epoch, String)> {
        self.seen.lock().unwrap().ended.clone()
    }
}

impl Launcher for TestLauncher {
    type Instance = TestInstance;

    fn start(&self, order: StartOrder, desk: Desk) {
        let epoch = order.epoch;
        self.seen.lock().unwrap().starts.push((order, desk));
        if self.obliging {
            self.come_ready(epoch);
        }
    }

    fn cancel_all(&self, epoch: Epoch) {
        self.seen.lock().unwrap().cancels.push(epoch);
    }

    fn stop(&self, order: StopOrder) {
        self.seen.lock().unwrap().stops.push(order);
        if self.obliging {
            self.come_back(order.epoch);
        }
    }

    fn end_session(&self, epoch: Epoch, session: &str) {
        self.seen.lock().unwrap().ended.push((epoch, session.to_owned()));
    }
}

/// Keeps nothing.
struct Forgetful;

impl Archive for Forgetful {
    fn keep(&self, _event: &Arc<LedgerEvent>) {}
}

/// A manager that runs.
pub(super) struct Running {
    pub(super) handle: Handle<TestInstance>,
    pub(super) launcher: Arc<TestLauncher>,
    pub(super) samples: watch::Sender<Option<Arc<MemorySample>>>,
    pub(super) actor: JoinHandle<()>,
}

/// Opens a manager with these models and runs it.
pub(super) async fn run(config: Config, launcher: TestLauncher, models: Vec<ShelfModel>) -> Running {
    run_after(None, config, launcher, models).await
}

/// The same where the machine was looked at, and the sample seen by somebody, before the manager began.
pub(super) async fn run_after(
    sample: Option<Arc<MemorySample>>,
    config: Config,
    launcher: TestLauncher,
    models: Vec<ShelfModel>,
) -> Running {
    let launcher = Arc::new(launcher);
    let (samples, sampled) = watch::channel(sample);
    let (_, downloads) = watch::channel(Vec::new());
    let clock = Arc::new(TestClock(Instant::now()));
    let (_, warnings) = watch::channel(Vec::new());
    let feeds = Feeds { samples: sampled, downloads, warnings, archive: Arc::new(Forgetful) };
    let (handle, actor) = open(config, launcher.clone(), clock, feeds);
    #[expect(clippy::disallowed_methods, reason = "each test ends with its runtime, and this task with it")]
    let actor = tokio::spawn(actor);
    handle.desk().stock(models).await;
    Running { handle, launcher, samples, actor }
}

//! The supervisor itself: implements the manager's `Launcher`, looks into files, keeps the logs.

use std::{io, sync::Arc, time::Duration};

use link::{Facts, FromWorker, Order, ToWorker};
use manager::ports::{Epoch, Launcher, ModelFile, NewsDesk, Probe, Shelf, StartOrder, StopOrder};
use protocol::{Code, ModelId, Problem};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    Instance,
    cores::Cores,
    death::Cause,
    house::{Control, House, Lives, Stop},
    life::Life,
    line::Step,
    log::{Follower, Logs},
    orphans,
    requests::refusal,
    run_dir::RunDir,
    spare::{self, Spare},
    spawn::{Spawner, WorkerProgram, end_unborn},
    watch::Work,
    worker::{Worker, hand_over, intent},
};

/// From the spawn to the facts.
const INSPECT: Duration = Duration::from_secs(10);

/// What a supervisor is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What workers run.
    pub program: WorkerProgram,
    /// The build of this server; a worker of another build is refused.
    pub build: String,
    /// Compute threads of each worker, at least 1.
    pub threads: u32,
    /// Whether a worker is started ahead and waits for the next load.
    pub spare: bool,
}

/// Spawns, watches and ends workers. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor {
    house: Arc<House>,
    /// Keeps a worker waiting as long as anybody may order a load.
    _spare: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Supervisor {
    /// Begins. Must be called within a tokio runtime; makes this process a subreaper, so that what a worker starts comes
    /// to us when the worker ends.
    ///
    /// # Errors
    /// When the thread that spawns cannot be started.
    pub fn new(
        config: Config,
        run: RunDir,
        shelf: Arc<dyn Shelf>,
        probe: Arc<dyn Probe>,
    ) -> io::Result<Self> {
        let Config { program, build, threads, spare } = config;
        let (run, threads) = (Arc::new(run), threads.max(1));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let spawner = Spawner::start(program, threads, Arc::clone(&run))?;
        // Ends with the house, and so is no task that a shutdown would wait for.
        let orphans = AbortOnDropHandle::new(Handle::current().spawn(orphans::reap(orphans::listen()?)));
        let house = Arc::new(House {
            build,
            threads,
            cores: Cores::new(threads),
            run,
            shelf,
            probe,
            spawner,
            spare: Spare::new(),
            _orphans: orphans,
            logs: Logs::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            lives: Lives::default().into(),
        });
        let keep = |house: Arc<House>| async move { spare::keep(&house).await };
        let spare = spare.then(|| house.tasks.spawn_on(keep(Arc::clone(&house)), &house.runtime));
        Ok(Self { house, _spare: spare.map(|task| Arc::new(AbortOnDropHandle::new(task))) })
    }

    /// The process that was started ahead, while it waits.
    pub fn spare(&self) -> watch::Receiver<Option<u32>> {
        self.house.spare.pid()
    }

    /// What is in a model's files, by a short-lived worker; at most 10 s.
    ///
    /// # Errors
    /// Why they are no model that runs here, in the worker's words (`UnsupportedModel`), or what kept it from looking,
    /// which says nothing about them (any other code).
    pub async fn inspect(&self, files: Vec<ModelFile>) -> Result<Facts, Problem> {
        if self.house.lives().closed {
            return Err(closing());
        }
        // A task of its own, so that the worker is reaped even if the caller goes away, or one that cannot be killed makes
        // it wait.
        let (house, (answer, answered)) = (Arc::clone(&self.house), oneshot::channel());
        let looking = async move { inspect(&house, files, answer).await };
        drop(self.house.tasks.spawn_on(looking, &self.house.runtime));
        answered.await.unwrap_or_else(|_| Err(closing()))
    }

    /// The last words of a model's workers, oldest first; kept after their death.
    pub fn log(&self, model: &ModelId) -> Vec<String> {
        self.house.logs.of(model).all()
    }

    /// The same, then what comes.
    pub fn follow_log(&self, model: &ModelId) -> Follower {
        self.house.logs.of(model).follow()
    }

    /// Takes no more orders, kills what is left, and waits until it is reaped.
    ///
    /// # Errors
    /// The processes that are left after `most`, as far as they are known.
    pub async fn shut_down(&self, most: Duration) -> Result<(), Vec<u32>> {
        {
            let mut lives = self.house.lives();
            lives.closed = true;
            for control in lives.by_epoch.values() {
                control.end(Stop::AtOnce);
            }
        }
        self.house.closing.cancel();
        self.house.tasks.close();
        let ended = timeout(most, self.house.tasks.wait()).await;
        if ended.is_err() {
            end_unborn();
        }
        ended.map_err(|_| self.house.lives().pids.iter().copied().collect())
    }

    /// This process ends now. Its workers hear that from the kernel, but for those that are held so soon after their fork
    /// that they have not asked for it yet.
    pub fn cut(&self) {
        end_unborn();
    }

    fn control(&self, epoch: Epoch) -> Option<Arc<Control>> {
        self.house.lives().by_epoch.get(&epoch).cloned()
    }
}

impl Launcher for Supervisor {
    type Instance = Instance;

    fn start(&self, order: StartOrder, desk: Arc<dyn NewsDesk<Instance>>) {
        let control = Arc::new(Control::new());
        {
            let mut lives = self.house.lives();
            if lives.closed {
                // Lives just long enough to say that it does not.
                control.end(Stop::AtOnce);
            }
            lives.by_epoch.insert(order.epoch, Arc::clone(&control));
        }
        let life = Life { house: Arc::clone(&self.house), order, control, desk };
        // The task is the tracker's; its end is told as `Released`.
        drop(self.house.tasks.spawn_on(life.live(), &self.house.runtime));
    }

    fn cancel_all(&self, epoch: Epoch) {
        if let Some(control) = self.control(epoch) {
            control.inbox.cancel_all();
        }
    }

    fn stop(&self, order: StopOrder) {
        if let Some(control) = self.control(order.epoch) {
            control.end(if order.at_once { Stop::AtOnce } else { Stop::Ladder });
        }
    }

    fn end_session(&self, epoch: Epoch, session: &str) {
        if let Some(control) = self.control(epoch) {
            control.inbox.forget(session);
        }
    }
}

/// Answers once the worker is reaped, or is known to be stuck; then the reaping goes on.
async fn inspect(house: &House, files: Vec<ModelFile>, answer: oneshot::Sender<Result<Facts, Problem>>) {
    let given_up = house.closing.cancelled();
    let spawn = async { Worker::spawn(house, intent("", 0)?, given_up).await };
    // Whoever asked may have gone.
    let mut worker = match spawn.await {
        Ok(worker) => worker,
        Err(error) => return drop(answer.send(Err(Cause::NotSpawned(error).problem(&[])))),
    };
    worker.listen(house, Arc::default());
    let asked = tokio::select! {
        asked = timeout(INSPECT, ask_for_facts(house, &mut worker, files)) => Some(asked),
        () = house.closing.cancelled() => None,
    };
    let found = match asked {
        Some(Ok(Ok(facts))) => Ok(facts),
        Some(Ok(Err(Cause::Refused(problem)))) => Err(problem),
        Some(Ok(Err(cause))) => {
            let why = cause.problem(&worker.last_lines().await).message;
            Err(if cause.is_from_outside() { unread(&why) } else { unreadable(&why) })
        }
        // A slow disk or a busy machine says nothing about the file.
        Some(Err(_)) => Err(unread("The worker took longer than 10 seconds over it.")),
        None => Err(closing()),
    };
    let at_once = Control::new();
    at_once.end(Stop::AtOnce);
    let mut waiting = Some((answer, found));
    let mut tell = || {
        if let Some((answer, found)) = waiting.take() {
            drop(answer.send(found));
        }
    };
    let stuck = |pid| {
        tracing::error!(pid, "a worker that looked into a file cannot be killed");
        tell();
    };
    worker.end(house, &at_once, stuck).await;
    tell();
}

async fn ask_for_facts(house: &House, worker: &mut Worker, files: Vec<ModelFile>) -> Result<Facts, Cause> {
    worker.greet(house).await?;
    let (files, descriptors) = hand_over(files);
    worker.line.say(&ToWorker::Inspect(Order { files }), descriptors).map_err(Cause::Wire)?;
    match worker.line.next(Work::Load).await {
        Step::Said(FromWorker::Facts(facts)) => Ok(facts),
        Step::Said(FromWorker::Error { id: None, code, message }) => {
            Err(Cause::Refused(refusal(code, message)))
        }
        other => Err(worker.cause_of(other)),
    }
}

fn unreadable(why: &str) -> Problem {
    let message = format!("The file could not be looked into. {why}");
    Problem::new(Code::UnsupportedModel, message, "Fetch the file again, or take another one.")
}

fn unread(why: &str) -> Problem {
    let message = format!("The file could not be looked into. {why}");
    let hint = "It is looked into again when somebody asks for it, and by itself after a while.";
    Problem::new(Code::LoadFailed, message, hint).retry_after(2)
}

fn closing() -> Problem {
    Problem::new(Code::Draining, "The server is stopping.", "Try again when it is back.")
}

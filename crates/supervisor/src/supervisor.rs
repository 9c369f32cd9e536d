//! The supervisor itself: implements the manager's `Launcher`, looks into files, keeps the logs.

use std::{io, sync::Arc, time::Duration};

use link::{Facts, FromWorker, Order, ToWorker};
use manager::ports::{Epoch, Launcher, ModelFile, NewsDesk, Probe, Shelf, StartOrder, StopOrder};
use protocol::{Code, ModelId, Problem};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    Instance,
    cores::Cores,
    death::Cause,
    house::{Control, House, Lives, Stop},
    life::Life,
    line::Step,
    log::{Follower, Logs, Ring},
    orphans,
    requests::refusal,
    run_dir::RunDir,
    spawn::{Spawner, WorkerProgram},
    watch::Work,
    worker::{Worker, hand_over, intent},
};

/// From the spawn to the facts.
const INSPECT: Duration = Duration::from_secs(10);
/// For the end of all workers by SIGKILL.
const SHUT_DOWN: Duration = Duration::from_secs(10);

/// What a supervisor is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What workers run.
    pub program: WorkerProgram,
    /// The build of this server; a worker of another build is refused.
    pub build: String,
    /// Compute threads of each worker, at least 1.
    pub threads: u32,
}

/// Spawns, watches and ends workers. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor {
    house: Arc<House>,
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
        let Config { program, build, threads } = config;
        let (run, threads) = (Arc::new(run), threads.max(1));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let spawner = Spawner::start(program, threads, Arc::clone(&run))?;
        // Ends with the house, and so is no task that a shutdown would wait for.
        let orphans = AbortOnDropHandle::new(Handle::current().spawn(orphans::reap(orphans::listen()?)));
        let house = House {
            build,
            threads,
            cores: Cores::new(threads),
            run,
            shelf,
            probe,
            spawner,
            _orphans: orphans,
            logs: Logs::default(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            lives: Lives::default().into(),
        };
        Ok(Self { house: Arc::new(house) })
    }

    /// What is in a model's files, by a short-lived worker; at most 10 s.
    ///
    /// # Errors
    /// Why they are no model that runs here, in the worker's words, or what went wrong with the worker.
    pub async fn inspect(&self, files: Vec<ModelFile>) -> Result<Facts, Problem> {
        if self.house.lives().closed {
            return Err(closing());
        }
        // A task of its own, so that the worker is reaped even if the caller goes away.
        let house = Arc::clone(&self.house);
        let task =
            self.house.tasks.spawn_on(async move { inspect(&house, files).await }, &self.house.runtime);
        task.await.unwrap_or_else(|_| Err(closing()))
    }

    /// The last words of a model's workers, oldest first; kept after their death.
    pub fn log(&self, model: &ModelId) -> Vec<String> {
        self.house.logs.of(model).all()
    }

    /// The same, then what comes.
    pub fn follow_log(&self, model: &ModelId) -> Follower {
        self.house.logs.of(model).follow()
    }

    /// Takes no more orders, kills what is left, and waits until it is reaped. Returns whether nothing is left.
    pub async fn shut_down(&self) -> bool {
        {
            let mut lives = self.house.lives();
            lives.closed = true;
            for control in lives.by_epoch.values() {
                control.end(Stop::AtOnce);
            }
        }
        self.house.tasks.close();
        timeout(SHUT_DOWN, self.house.tasks.wait()).await.is_ok()
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

async fn inspect(house: &House, files: Vec<ModelFile>) -> Result<Facts, Problem> {
    let not_spawned = |error| Cause::NotSpawned(error).problem(&[]);
    let intent = intent("", 0).map_err(not_spawned)?;
    let mut worker = Worker::spawn(house, intent, Arc::new(Ring::default())).await.map_err(not_spawned)?;
    let asked = timeout(INSPECT, ask_for_facts(house, &mut worker, files)).await;
    let answer = match asked {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(Cause::Refused(problem))) => Err(problem),
        Ok(Err(cause)) => Err(unreadable(&cause.problem(&worker.last_lines().await).message)),
        Err(_) => Err(unreadable("The worker took longer than 10 seconds over it.")),
    };
    let at_once = Control::new();
    at_once.end(Stop::AtOnce);
    worker.end(house, &at_once, |pid| tracing::error!(pid, "a worker cannot be killed")).await;
    answer
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

fn closing() -> Problem {
    Problem::new(Code::Draining, "The server is stopping.", "Try again when it is back.")
}

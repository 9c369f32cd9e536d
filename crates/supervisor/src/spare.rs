//! A worker that is started ahead: one at most, confined and without a model, so that a load does not wait for its process.
//!
//! The task is its only owner until a load takes it, which happens through a door that is there while one waits. Nothing
//! depends on it: where there is none, a load starts a worker of its own.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};

use crate::{
    death::Cause,
    house::House,
    watch::Work,
    worker::{Worker, waiting},
};

/// In which it answers that it is awake. One that does not, since somebody has stopped it, is no gain.
const AWAKE: Duration = Duration::from_secs(1);
/// After one that did not come about or was ended by somebody, before the next; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Held by the load that took it: the next one is started when this load is over, not beside it.
#[derive(Debug)]
pub(crate) struct Loading {
    _over: oneshot::Sender<()>,
}

/// A load that wants it.
struct Asker {
    answer: oneshot::Sender<Worker>,
    /// Ends when its load is over.
    over: oneshot::Receiver<()>,
}

/// Where loads ask for it.
pub(crate) struct Spare {
    /// There while one waits.
    door: Mutex<Option<oneshot::Sender<Asker>>>,
    pid: watch::Sender<Option<u32>>,
}

impl Spare {
    pub(crate) fn new() -> Self {
        Self { door: Mutex::default(), pid: watch::Sender::new(None) }
    }

    /// The process that waits, while there is one.
    pub(crate) fn pid(&self) -> watch::Receiver<Option<u32>> {
        self.pid.subscribe()
    }

    /// The worker that waits, if there is one and it is awake.
    pub(crate) async fn take(&self) -> Option<(Worker, Loading)> {
        let door = self.door().take()?;
        let ((answer, answered), (ended, over)) = (oneshot::channel(), oneshot::channel());
        door.send(Asker { answer, over }).ok()?;
        Some((answered.await.ok()?, Loading { _over: ended }))
    }

    fn open(&self, pid: u32) -> oneshot::Receiver<Asker> {
        let (door, asked) = oneshot::channel();
        *self.door() = Some(door);
        self.pid.send_replace(Some(pid));
        asked
    }

    fn close(&self) {
        *self.door() = None;
        self.pid.send_replace(None);
    }

    fn door(&self) -> MutexGuard<'_, Option<oneshot::Sender<Asker>>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one that waited.
enum Turn {
    /// A load has it; the end of that load is to be waited for.
    Taken(oneshot::Receiver<()>),
    /// The server stops.
    Closing,
    /// It is of no use any more.
    Lost,
}

/// Keeps one waiting, until the server stops.
pub(crate) async fn keep(house: &House) {
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        let turn = match start(house).await {
            Some(worker) => wait(house, worker).await,
            None => Turn::Lost,
        };
        let rest = async {
            match turn {
                Turn::Taken(over) => {
                    pause = PAUSE;
                    // It ends by being dropped.
                    let _ = over.await;
                }
                Turn::Closing => {}
                Turn::Lost => {
                    // One that lived for long is not one of a row.
                    pause = if began.elapsed() > LONGEST_PAUSE { PAUSE } else { pause };
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        tokio::select! {
            biased;
            () = house.closing.cancelled() => return,
            () = rest => {}
        }
    }
}

async fn start(house: &House) -> Option<Worker> {
    let spawn = async { Worker::spawn(house, waiting()?, house.closing.cancelled()).await };
    let mut worker = match spawn.await {
        Ok(worker) => worker,
        Err(error) => {
            tracing::warn!(%error, "no worker can be started ahead; a load starts its own");
            return None;
        }
    };
    let greeted = tokio::select! {
        greeted = worker.greet(house) => greeted,
        () = house.closing.cancelled() => {
            worker.dismiss(house).await;
            return None;
        }
    };
    match greeted {
        Ok(()) => Some(worker),
        Err(cause) => {
            lose(house, worker, cause).await;
            None
        }
    }
}

/// Until somebody takes it, or it is of no use any more; then it is reaped.
async fn wait(house: &House, mut worker: Worker) -> Turn {
    loop {
        let asked = house.spare.open(worker.pid());
        // It is not pinged: a process that waits for days is to cost no processor time.
        let asker = tokio::select! {
            biased;
            () = house.closing.cancelled() => None,
            asker = asked => asker.ok().map(Ok),
            step = worker.line.next(Work::Start) => Some(Err(worker.cause_of(step))),
        };
        house.spare.close();
        match asker {
            None => {
                worker.dismiss(house).await;
                return Turn::Closing;
            }
            Some(Err(cause)) => {
                lose(house, worker, cause).await;
                return Turn::Lost;
            }
            Some(Ok(Asker { answer, over })) => {
                if !worker.line.answers(AWAKE).await {
                    drop(answer);
                    tracing::warn!(pid = worker.pid(), "the worker that waits does not answer and is ended");
                    worker.dismiss(house).await;
                    return Turn::Lost;
                }
                match answer.send(worker) {
                    Ok(()) => return Turn::Taken(over),
                    // Whoever asked has gone.
                    Err(back) => worker = back,
                }
            }
        }
    }
}

async fn lose(house: &House, worker: Worker, cause: Cause) {
    let pid = worker.pid();
    // Memory that was short while it waited, days ago perhaps, is not its reason.
    let cause = match cause {
        Cause::Died { death, .. } => Cause::Died { death, oom_kills_grew: false },
        cause => cause,
    };
    let why = cause.problem(&worker.dismiss(house).await).message;
    tracing::warn!(pid, why, "the worker that waits was lost; a load starts its own until there is another");
}

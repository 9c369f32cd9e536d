//! The life of one instance: load, serve, end, with a word to the desk at each turn.

use std::{sync::Arc, time::Duration};

use link::{FromWorker, Load, Ready, ToWorker};
use manager::ports::{News, NewsDesk, ReadyFacts, Release, StartOrder};
use protocol::{Failure, Method, Problem, Progress};
use tokio::time::timeout;

use crate::{
    Instance,
    death::{Cause, cut_off, while_answering},
    house::{Control, House, Stop},
    inbox::Taken,
    line::Step,
    requests::{Requests, refusal},
    spare::Loading,
    watch::Work,
    worker::{Gone, Worker, hand_over, intent},
};

/// For the shelf, until it has opened a model's files.
const OPEN: Duration = Duration::from_secs(30);
/// Lines of a log tail.
const TAIL: usize = 20;

/// Why an instance ends.
enum End {
    /// Somebody wants it to.
    Asked,
    /// It cannot go on.
    Failed(Cause),
}

pub(crate) struct Life {
    pub(crate) house: Arc<House>,
    pub(crate) order: StartOrder,
    pub(crate) control: Arc<Control>,
    pub(crate) desk: Arc<dyn NewsDesk<Instance>>,
}

impl Life {
    /// From the order to `Released`.
    pub(crate) async fn live(self) {
        let release = match self.start().await {
            Ok((worker, loading)) => Box::pin(self.live_with(worker, loading)).await,
            Err(End::Asked) => nothing_to_release(),
            Err(End::Failed(cause)) => {
                self.fail(cause.problem(&[]), Vec::new());
                nothing_to_release()
            }
        };
        // Nobody may find it once it is said to be gone.
        self.house.lives().by_epoch.remove(&self.order.epoch);
        self.tell(News::Released(release));
    }

    /// A worker: the one that waits, or a new one.
    async fn start(&self) -> Result<(Worker, Option<Loading>), End> {
        if self.control.how() > Stop::No {
            return Err(End::Asked);
        }
        let (mut worker, loading) = match self.house.spare.take().await {
            Some((mut worker, loading)) => {
                worker.adopt(&self.house, &self.order.model, self.order.epoch);
                (worker, Some(loading))
            }
            None => (self.spawn().await?, None),
        };
        worker.listen(&self.house, self.house.logs.of(&self.order.model));
        self.tell(News::Spawned { pid: worker.pid() });
        Ok((worker, loading))
    }

    async fn spawn(&self) -> Result<Worker, End> {
        let spawn = async {
            let intent = intent(self.order.model.as_str(), self.order.epoch.0)?;
            let given_up = self.control.asked_to_end(Stop::Ladder);
            Worker::spawn(&self.house, intent, given_up).await
        };
        let failed = |error| match self.control.how() {
            Stop::No => End::Failed(Cause::NotSpawned(error)),
            _ => End::Asked,
        };
        spawn.await.map_err(failed)
    }

    async fn live_with(&self, mut worker: Worker, loading: Option<Loading>) -> Release {
        let mut requests = Requests::default();
        let loaded = self.load(&mut worker).await;
        drop(loading);
        let is_ready = loaded.is_ok();
        let end = match loaded {
            Ok(()) => self.serve(&mut worker, &mut requests).await,
            Err(end) => end,
        };
        match end {
            End::Asked => self.end_requests(&mut requests, &cut_off()),
            End::Failed(cause) => {
                let lines = match cause {
                    Cause::Died { .. } => worker.last_lines().await,
                    _ => worker.lines_so_far(),
                };
                let problem = cause.problem(&lines);
                self.end_requests(&mut requests, &while_answering(&problem));
                self.fail(problem, lines);
                self.control.end(Stop::AtOnce);
            }
        }
        if !is_ready {
            // Nothing is worth a word to a worker that is loading, and it might not hear it.
            self.control.end(Stop::AtOnce);
        }
        let stuck = |pid| self.tell(News::Stuck { pid });
        let Gone { death, release } = worker.end(&self.house, &self.control, stuck).await;
        tracing::debug!(model = %self.order.model, epoch = self.order.epoch.0, ?death, "worker reaped");
        release
    }

    /// Until `Ready`, which is told with what was measured.
    async fn load(&self, worker: &mut Worker) -> Result<(), End> {
        tokio::select! {
            loaded = Box::pin(self.load_to_ready(worker)) => loaded.map_err(End::Failed),
            () = self.control.asked_to_end(Stop::Ladder) => Err(End::Asked),
        }
    }

    async fn load_to_ready(&self, worker: &mut Worker) -> Result<(), Cause> {
        worker.greet(&self.house).await?;
        let (shelf, model) = (Arc::clone(&self.house.shelf), self.order.model.clone());
        // A disk may take its time; the worker is watched meanwhile, and has nothing to say yet.
        let opened = tokio::select! {
            opened = timeout(OPEN, self.house.blocking(move || shelf.open(&model))) => opened,
            step = worker.line.next(Work::None) => return Err(worker.cause_of(step)),
        };
        let opened = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => Err(shelf_failed()),
            Err(_) => Err(shelf_stands()),
        };
        let (files, descriptors) = hand_over(opened.map_err(Cause::Refused)?);
        let load = Load {
            model: self.order.model.to_string(),
            files,
            context: self.order.context,
            threads: self.house.threads,
        };
        worker.line.say(&ToWorker::Load(load), descriptors).map_err(Cause::Wire)?;
        let ready = loop {
            match worker.line.next(Work::Load).await {
                Step::Said(FromWorker::Progress { stage, done, total }) => {
                    self.tell(News::Progress(Progress { stage: stage.words().to_owned(), done, total }));
                }
                Step::Said(FromWorker::Ready(ready)) => break ready,
                Step::Said(FromWorker::Error { id: None, code, message }) => {
                    return Err(Cause::Refused(refusal(code, message)));
                }
                other => return Err(worker.cause_of(other)),
            }
        };
        self.tell_ready(worker, ready).await;
        Ok(())
    }

    async fn tell_ready(&self, worker: &mut Worker, ready: Ready) {
        let facts = ReadyFacts {
            pid: worker.pid(),
            device: ready.device.clone(),
            threads: ready.threads,
            context: ready.context,
            sandbox: worker.sandbox.clone().unwrap_or_default(),
            served_by: ready.served_by.clone(),
            memory: worker.measure(&self.house).await,
        };
        let instance = Instance::new(Arc::clone(&self.control.inbox), ready, worker.pid());
        self.tell(News::Ready(instance, facts));
    }

    /// Until the end.
    async fn serve(&self, worker: &mut Worker, requests: &mut Requests) -> End {
        let mut seat = self.house.cores.seat();
        loop {
            let busy = requests.keep_it_busy();
            if let Some(n) = seat.claim(busy)
                && let Err(error) = worker.line.say(&ToWorker::Threads { n }, Vec::new())
            {
                return End::Failed(Cause::Wire(error));
            }
            let work = if busy { Work::Requests } else { Work::None };
            let step = tokio::select! {
                step = worker.line.next(work) => step,
                () = self.control.inbox.woken() => {
                    self.pass_on(worker, requests);
                    continue;
                }
                () = seat.changed() => continue,
                () = self.control.asked_to_end(Stop::Ladder) => return End::Asked,
            };
            let heard = match step {
                Step::Said(FromWorker::Held { session, bytes }) => {
                    self.tell(News::Held { session, bytes });
                    continue;
                }
                Step::Said(FromWorker::SessionEnded { session, .. }) => {
                    self.tell(News::Held { session, bytes: 0 });
                    continue;
                }
                Step::Said(FromWorker::Peak { bytes }) => {
                    self.tell(News::Peak { bytes });
                    continue;
                }
                Step::Said(FromWorker::AtRest { grown_bytes, kept_bytes, full }) => {
                    self.tell(News::AtRest { grown_bytes, kept_bytes, full });
                    continue;
                }
                Step::Said(message) => requests.hear(message),
                other => return End::Failed(worker.cause_of(other)),
            };
            if let Err(breach) = heard {
                return End::Failed(Cause::Breach(breach));
            }
        }
    }

    /// Sends the worker what has come in for it.
    fn pass_on(&self, worker: &mut Worker, requests: &mut Requests) {
        let Taken { posted, forget, cancel_all } = self.control.inbox.take();
        for one in posted {
            worker.line.send(requests.add(one));
        }
        if cancel_all {
            requests.cancel_all();
        }
        let forget = forget.into_iter().map(|session| ToWorker::EndSession { session });
        for message in requests.wishes().into_iter().chain(forget) {
            // Only a session's name could be too long for a frame, and then nothing is kept under it.
            if let Err(error) = worker.line.say(&message, Vec::new()) {
                tracing::warn!(%error, "a message to a worker cannot be sent");
            }
        }
    }

    fn end_requests(&self, requests: &mut Requests, problem: &Problem) {
        self.control.inbox.close(problem);
        let cut_off = requests.fail_all(problem);
        if cut_off > 0 {
            tracing::debug!(model = %self.order.model, cut_off, code = problem.code.word(), "requests cut off");
        }
    }

    fn fail(&self, problem: Problem, mut lines: Vec<String>) {
        let log_tail = lines.split_off(lines.len().saturating_sub(TAIL));
        let Problem { code, message, hint, .. } = problem;
        let (code, at) = (code.word().to_owned(), crate::now());
        self.tell(News::Failed(Failure { code, message, hint, at, retry_at: None, log_tail }));
    }

    fn tell(&self, news: News<Instance>) {
        self.desk.tell(self.order.epoch, news);
    }
}

fn nothing_to_release() -> Release {
    Release {
        pid: None,
        method: Method::None,
        held: None,
        residual_bytes: 0,
        gpus: Vec::new(),
        left: Vec::new(),
        evidence: None,
    }
}

fn shelf_stands() -> Problem {
    let message = format!("The model's files could not be opened within {} seconds.", OPEN.as_secs());
    Problem::new(
        protocol::Code::LoadFailed,
        message,
        "Is the disk that they lie on there? Then load the model again.",
    )
}

fn shelf_failed() -> Problem {
    let message = "The model's files could not be opened: the thread that did it ended.";
    Problem::new(protocol::Code::Internal, message, "Load the model again.")
}

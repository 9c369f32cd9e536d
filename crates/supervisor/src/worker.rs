//! One worker from its spawn to its reaping, whatever it is for: hello, the ladder, and what is left of it.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use link::{FileRole, FromWorker, ToWorker};
use manager::ports::{Epoch, Measured, ModelFile, ModelFileRole, Release};
use protocol::{Method, ModelId};
use rustix::process::Signal;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    death::Cause,
    gpus,
    house::{Control, House, Stop},
    leftover::{self, Held},
    line::{Line, Step},
    log::{self, Ring},
    process::Death,
    procfs,
    run_dir::Intent,
    spawn::new_nonce,
    watch::Work,
};

/// From the spawn to the worker's hello.
const HELLO: Duration = Duration::from_secs(5);
/// Rungs of the ladder: each is the time that the step before it has.
const TO_TERM: Duration = Duration::from_secs(2);
const TO_KILL: Duration = Duration::from_secs(1);
const TO_STUCK: Duration = Duration::from_secs(8);
/// How long a measurement may take when a worker is ready.
const MEASURE: Duration = Duration::from_secs(5);
/// The same before its end, which waits for it: a worker whose memory cannot be read in this time goes with the numbers
/// of an earlier moment.
const MEASURE_AT_THE_END: Duration = Duration::from_secs(1);
/// The same for somebody who is in a hurry.
const MEASURE_IN_A_HURRY: Duration = Duration::from_millis(250);
/// How long stderr may stay open after the end: a descendant may hold it.
const LAST_LINES: Duration = Duration::from_millis(250);

/// A worker that has said hello.
pub(crate) struct Worker {
    pub(crate) line: Line,
    /// What confines it, once it has said hello.
    pub(crate) sandbox: Option<String>,
    intent: Intent,
    /// Its words, until somebody listens.
    stderr: Option<OwnedFd>,
    ring: Arc<Ring>,
    log_mark: usize,
    /// Until it has been waited for.
    log: Option<JoinHandle<()>>,
    /// Its record is being given its model.
    recording: Option<JoinHandle<()>>,
    held: Held,
}

/// A worker that is no more.
pub(crate) struct Gone {
    pub(crate) death: Death,
    pub(crate) release: Release,
}

/// An intent to spawn, under a nonce of its own.
pub(crate) fn intent(model: &str, epoch: u64) -> std::io::Result<Intent> {
    let (model, nonce) = (model.to_owned(), new_nonce()?);
    Ok(Intent { model, waits: false, nonce, epoch, pid: None, start_time: None })
}

/// The same for one that is started ahead.
pub(crate) fn waiting() -> std::io::Result<Intent> {
    Ok(Intent { waits: true, ..intent("", 0)? })
}

impl Worker {
    /// Spawns. The worker must be brought to [`Worker::end`], which reaps it.
    pub(crate) async fn spawn(
        house: &House,
        intent: Intent,
        given_up: impl Future<Output = ()>,
    ) -> std::io::Result<Self> {
        let spawned = house.spawner.spawn(intent.clone(), given_up).await?;
        let (line, stderr) = Line::new(spawned).inspect_err(|_| house.run.erase(&intent.nonce))?;
        house.lives().pids.insert(line.process.pid());
        Ok(Self {
            line,
            sandbox: None,
            intent,
            stderr: Some(stderr),
            ring: Arc::default(),
            log_mark: 0,
            log: None,
            recording: None,
            held: Held::default(),
        })
    }

    /// Keeps its words in this ring from here on.
    pub(crate) fn listen(&mut self, house: &House, ring: Arc<Ring>) {
        let Some(stderr) = self.stderr.take() else { return };
        self.log_mark = ring.end();
        self.ring = Arc::clone(&ring);
        let draining = log::drain(stderr, ring);
        let drained = async {
            if let Err(error) = draining.await {
                tracing::warn!(%error, "a worker's log cannot be read");
            }
        };
        self.log = Some(house.tasks.spawn_on(drained, &house.runtime));
    }

    /// Gives one that was started ahead its model. From here on it is this instance's, like any other.
    pub(crate) fn adopt(&mut self, house: &House, model: &ModelId, epoch: Epoch) {
        let (pid, run, waited) = (self.pid(), Arc::clone(&house.run), self.intent.clone());
        let (model, epoch) = (model.to_string(), epoch.0);
        // Beside the load: the record that it has finds it too, and only does not know for what it ran.
        self.recording = Some(house.runtime.spawn_blocking(move || {
            let start_time = procfs::stat(pid).map(|stat| stat.start_time);
            let intent = Intent { model, waits: false, epoch, pid: Some(pid), start_time, ..waited };
            if let Err(error) = run.record(&intent) {
                tracing::warn!(pid, %error, "the record of a worker cannot be given its model's name");
            }
        }));
        self.line.begin();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.line.process.pid()
    }

    /// Both hellos, and what confines it; of one that was started ahead they are long said.
    pub(crate) async fn greet(&mut self, house: &House) -> Result<(), Cause> {
        if self.sandbox.is_some() {
            return Ok(());
        }
        let ours = house.hello(&self.intent);
        self.line.say(&ToWorker::Hello(ours.clone()), Vec::new()).map_err(Cause::Wire)?;
        let deadline = Instant::now() + HELLO;
        let mut next =
            async || timeout_at(deadline, self.line.next(Work::Start)).await.map_err(|_| Cause::NoHello);
        match next().await? {
            Step::Said(FromWorker::Hello(theirs)) if theirs == ours => {}
            Step::Said(FromWorker::Hello(theirs)) => {
                return Err(Cause::Stranger(if theirs.nonce == ours.nonce {
                    "it is of another build"
                } else {
                    "it does not know its word"
                }));
            }
            other => return Err(self.cause_of(other)),
        }
        match next().await? {
            Step::Said(FromWorker::Confined { sandbox }) => {
                self.sandbox = Some(sandbox);
                Ok(())
            }
            other => Err(self.cause_of(other)),
        }
    }

    /// Why a step that was not expected is the end.
    pub(crate) fn cause_of(&self, step: Step) -> Cause {
        match step {
            Step::Said(_) => Cause::Breach(crate::requests::Breach::OutOfPlace),
            Step::Ended(death) => Cause::Died { death, oom_kills_grew: self.line.kills_grew() },
            Step::Broken(error) => Cause::Wire(error),
            Step::Hung(hang) => Cause::Hung(hang),
        }
    }

    /// The lines of this worker that are kept; to be asked once it has ended, for all of them.
    pub(crate) async fn last_lines(&mut self) -> Vec<String> {
        if let Some(mut log) = self.log.take()
            && timeout(LAST_LINES, &mut log).await.is_err()
        {
            // Somebody else holds its end open; what came after the worker's death is not its word.
            log.abort();
        }
        self.lines_so_far()
    }

    /// The same of one that still lives.
    pub(crate) fn lines_so_far(&self) -> Vec<String> {
        self.ring.since(self.log_mark)
    }

    /// What it holds now; kept for the receipt.
    pub(crate) async fn measure(&mut self, house: &House) -> Option<Measured> {
        self.measure_within(house, MEASURE).await
    }

    async fn measure_within(&mut self, house: &House, most: Duration) -> Option<Measured> {
        let (probe, pid) = (Arc::clone(&house.probe), self.pid());
        let measuring = house.blocking(move || Held::measure(&*probe, pid));
        match timeout(most, measuring).await {
            Ok(Some(held)) if held.measured.is_some() => self.held = held,
            _ => self.held = std::mem::take(&mut self.held).of_another_moment(),
        }
        self.held.measured
    }

    /// So that it can be said what came back. One that is still loading is killed unmeasured.
    async fn measure_at_the_end(&mut self, house: &House, control: &Control) {
        if control.how() == Stop::AtOnce {
            if self.held.measured.is_some() {
                self.measure_within(house, MEASURE_IN_A_HURRY).await;
            }
            return;
        }
        tokio::select! {
            _ = self.measure_within(house, MEASURE_AT_THE_END) => return,
            () = control.asked_to_end(Stop::AtOnce) => {}
        }
        self.held = std::mem::take(&mut self.held).of_another_moment();
    }

    /// Ends one that has no model, at once. Returns its last words.
    pub(crate) async fn dismiss(mut self, house: &House) -> Vec<String> {
        let ring = Arc::<Ring>::default();
        self.listen(house, Arc::clone(&ring));
        let at_once = Control::new();
        at_once.end(Stop::AtOnce);
        let stuck = |pid| tracing::error!(pid, "a worker without a model cannot be killed");
        self.end(house, &at_once, stuck).await;
        ring.all()
    }

    /// The ladder, then the reaping, then the look at what is left. `stuck` is called if even SIGKILL does not end it;
    /// this goes on waiting then.
    pub(crate) async fn end(mut self, house: &House, control: &Control, stuck: impl FnOnce(u32)) -> Gone {
        let pid = self.pid();
        self.measure_at_the_end(house, control).await;
        let death = self.ladder(control, stuck).await;
        house.lives().pids.remove(&pid);
        drop(self.last_lines().await);
        if let Some(recording) = self.recording.take() {
            drop(recording.await);
        }
        let (probe, held, nonce) = (Arc::clone(&house.probe), self.held, self.intent.nonce);
        let (run, measured) = (Arc::clone(&house.run), held.measured);
        let on_gpus = held.gpus.clone();
        let look = house.blocking(move || {
            let left = leftover::look(&held, pid, &nonce, &*probe);
            run.erase(&nonce);
            left
        });
        let mut left = look.await.unwrap_or_default();
        let ask = || {
            let probe = Arc::clone(&house.probe);
            async move { house.blocking(move || probe.gpus(pid)).await.flatten() }
        };
        let returned = gpus::settled(&on_gpus, pid, ask).await;
        left.sentences.extend(returned.left);
        let release = Release {
            pid: Some(pid),
            method: method(death),
            held: measured,
            residual_bytes: left.bytes,
            gpus: returned.gpus,
            left: left.sentences,
            evidence: left.evidence,
        };
        Gone { death, release }
    }

    async fn ladder(&mut self, control: &Control, stuck: impl FnOnce(u32)) -> Death {
        let line = &mut self.line;
        if control.how() < Stop::AtOnce {
            // A worker that cannot be told is sent the next word.
            let told = line.say(&ToWorker::Shutdown, Vec::new()).is_ok();
            if let Some(death) = rung(line, control, if told { TO_TERM } else { Duration::ZERO }).await {
                return death;
            }
        }
        if control.how() < Stop::AtOnce {
            line.process.signal(Signal::TERM);
            if let Some(death) = rung(line, control, TO_KILL).await {
                return death;
            }
        }
        line.process.signal(Signal::KILL);
        if let Some(death) = line.ended_within(TO_STUCK).await {
            return death;
        }
        stuck(line.process.pid());
        line.process.ended().await
    }
}

/// Waits for the end so long, or until somebody is in a hurry.
async fn rung(line: &mut Line, control: &Control, most: Duration) -> Option<Death> {
    tokio::select! {
        death = line.ended_within(most) => death,
        () = control.asked_to_end(Stop::AtOnce) => None,
    }
}

/// By how it ended, not by what was tried last.
fn method(death: Death) -> Method {
    match death {
        Death::Signalled(libc::SIGKILL) => Method::Killed,
        Death::Signalled(libc::SIGTERM) => Method::Terminated,
        // A signal of its own making, such as an abort, was asked for by nobody.
        Death::Exited(_) | Death::Signalled(_) => Method::Exit,
        Death::Unknown => Method::Unknown,
    }
}

/// Files as the worker hears of them, and their descriptors.
pub(crate) fn hand_over(files: Vec<ModelFile>) -> (Vec<FileRole>, Vec<OwnedFd>) {
    let role = |role| match role {
        ModelFileRole::Gguf(part) => FileRole::Gguf { part },
        ModelFileRole::Safetensors => FileRole::Safetensors,
        ModelFileRole::Config => FileRole::Config,
        ModelFileRole::Tokenizer => FileRole::Tokenizer,
    };
    files.into_iter().map(|file| (role(file.role), OwnedFd::from(file.file))).unzip()
}

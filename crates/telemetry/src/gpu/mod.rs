//! GPUs: what their driver says, asked on a thread of its own with a deadline, since a driver may hang for ever.

mod answers;
mod library;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use manager::ports::GpuReading;
use protocol::{GpuAbsence, GpuAbsent};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::place::Place;

pub use answers::{DeviceAnswer, NvmlTrouble, ProcessAnswer};
pub use library::NvmlLibrary;

/// How long a driver may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// A missing driver is looked for again after so long; a person may load it while we run.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What the driver's library answers. Tests put recorded answers here.
pub trait NvmlSource: Send + 'static {
    /// Every device with who uses it. May block for as long as the driver likes.
    fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble>;
}

/// What is known about GPUs at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum GpuState {
    /// There are some.
    Present(GpuReading),
    /// There is none, or no driver: models run on the CPU.
    Absent(GpuAbsent),
    /// There is a driver, and it refuses.
    Unreadable(GpuAbsent),
    /// The driver has not answered within two seconds and may never do.
    Stuck,
}

impl GpuState {
    /// The GPUs, who uses them, and why there is none, as a sample carries them.
    pub fn into_parts(self) -> (GpuReading, Option<GpuAbsent>) {
        match self {
            Self::Present(reading) => (reading, None),
            Self::Absent(why) | Self::Unreadable(why) => (GpuReading::default(), Some(why)),
            Self::Stuck => (
                GpuReading::default(),
                Some(GpuAbsent {
                    kind: GpuAbsence::Stuck,
                    reason: "NVIDIA driver does not answer".to_owned(),
                    hint: "Models run on the CPU. If `nvidia-smi` hangs too, the machine needs a restart."
                        .to_owned(),
                }),
            ),
        }
    }
}

/// Asks the driver. Clones ask the same thread, one question at a time.
#[derive(Clone, Debug)]
pub struct GpuProbe {
    ask: mpsc::Sender<oneshot::Sender<GpuState>>,
    stuck: Arc<AtomicBool>,
}

impl GpuProbe {
    /// Starts the thread that talks to the driver; it ends with the last clone, unless the driver holds it.
    pub fn start(source: impl NvmlSource) -> std::io::Result<Self> {
        let (ask, questions) = mpsc::channel(1);
        let stuck = Arc::new(AtomicBool::new(false));
        let unstuck = Arc::clone(&stuck);
        thread::Builder::new().name("nvml".to_owned()).spawn(move || answer(source, questions, &unstuck))?;
        Ok(Self { ask, stuck })
    }

    /// What the driver says now; takes at most two seconds, and no time at all while the driver hangs.
    pub async fn read(&self) -> GpuState {
        if self.ask.is_closed() {
            return ended();
        }
        if self.stuck.load(Ordering::Acquire) {
            return GpuState::Stuck;
        }
        let deadline = Instant::now() + DEADLINE;
        let (reply, mut answer) = oneshot::channel();
        match timeout_at(deadline, self.ask.send(reply)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return ended(),
            // Not even asked: those before us wait, and they say whether it hangs.
            Err(_) => return GpuState::Stuck,
        }
        match timeout_at(deadline, &mut answer).await {
            Ok(Ok(state)) => state,
            Ok(Err(_)) => ended(),
            Err(_) => self.given_up(&mut answer),
        }
    }

    /// The question waits with the driver, whose answer to it will take this back. If it came just now, it would have been
    /// taken back before it was said.
    fn given_up(&self, answer: &mut oneshot::Receiver<GpuState>) -> GpuState {
        self.stuck.store(true, Ordering::Release);
        if let Ok(state) = answer.try_recv() {
            self.stuck.store(false, Ordering::Release);
            return state;
        }
        tracing::warn!("the GPU driver has not answered for two seconds");
        GpuState::Stuck
    }
}

/// The thread: one answer at a time, until nobody can ask any more.
fn answer(
    mut source: impl NvmlSource,
    mut questions: mpsc::Receiver<oneshot::Sender<GpuState>>,
    stuck: &AtomicBool,
) {
    let place = Place::here(Path::new("/proc"));
    let mut absent: Option<(Duration, GpuState)> = None;
    while let Some(reply) = questions.blocking_recv() {
        let now = crate::clock::monotonic();
        let known = absent.take().filter(|(since, _)| now.saturating_sub(*since) < LOOK_AGAIN);
        let (since, state) = known.unwrap_or_else(|| (now, answers::state(source.devices(), place)));
        if matches!(state, GpuState::Absent(_)) {
            absent = Some((since, state.clone()));
        }
        // Whoever asked may have given up; that the driver answers again is what counts. In this order: see `given_up`.
        let _ = reply.send(state);
        stuck.store(false, Ordering::Release);
    }
}

fn ended() -> GpuState {
    unreadable("the thread that asks it has ended")
}

fn unreadable(why: &str) -> GpuState {
    GpuState::Unreadable(GpuAbsent {
        kind: GpuAbsence::Unreadable,
        reason: format!("NVIDIA driver cannot be read: {why}"),
        hint: "Models run on the CPU. `nvidia-smi` shows what the driver itself says.".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as sync;

    use super::*;

    /// Answers what it is given, one answer a question, and waits for it as a driver would.
    struct Recorded(sync::Receiver<Result<Vec<DeviceAnswer>, NvmlTrouble>>);

    impl NvmlSource for Recorded {
        fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble> {
            self.0.recv().unwrap_or(Err(NvmlTrouble::NoDriver))
        }
    }

    fn probe() -> (sync::Sender<Result<Vec<DeviceAnswer>, NvmlTrouble>>, GpuProbe) {
        let (tell, told) = sync::channel();
        (tell, GpuProbe::start(Recorded(told)).unwrap())
    }

    fn card() -> DeviceAnswer {
        DeviceAnswer {
            index: 0,
            name: "H100".to_owned(),
            memory_total_bytes: 80 << 30,
            ..DeviceAnswer::default()
        }
    }

    #[tokio::test]
    async fn a_driver_that_answers_is_shown() {
        let (tell, probe) = probe();
        tell.send(Ok(vec![card()])).unwrap();
        let GpuState::Present(reading) = probe.read().await else { panic!("no GPU seen") };
        assert_eq!((reading.gpus.len(), reading.gpus[0].name.as_str()), (1, "H100"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_hangs_is_stuck_after_two_seconds_and_comes_back_when_it_answers() {
        let (tell, probe) = probe();
        let begun = tokio::time::Instant::now();
        assert_eq!(probe.read().await, GpuState::Stuck);
        assert_eq!(begun.elapsed(), DEADLINE);
        assert_eq!(probe.read().await, GpuState::Stuck, "a hanging driver is not asked again");
        assert_eq!(begun.elapsed(), DEADLINE, "and nobody waits for it again");
        // It answers the old question at last, and then the next one.
        tell.send(Ok(vec![card()])).unwrap();
        tell.send(Ok(vec![card()])).unwrap();
        tokio::time::resume();
        let back = async {
            loop {
                match probe.read().await {
                    GpuState::Stuck => tokio::task::yield_now().await,
                    state => return state,
                }
            }
        };
        let state = tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
        assert!(matches!(state, GpuState::Present(_)), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_never_put_leaves_nobody_stuck_for_ever() {
        let (tell, probe) = probe();
        // One is with the driver, one waits, and those who asked have gone; the third finds no place to wait in.
        for _ in 0..2 {
            probe.ask.send(oneshot::channel().0).await.unwrap();
        }
        assert_eq!(probe.read().await, GpuState::Stuck);
        assert!(!probe.stuck.load(Ordering::Acquire), "no answer would ever take that back");
        for _ in 0..3 {
            tell.send(Ok(vec![card()])).unwrap();
        }
        tokio::time::resume();
        assert!(matches!(probe.read().await, GpuState::Present(_)));
    }

    #[tokio::test]
    async fn an_answer_that_comes_as_the_time_is_up_counts() {
        let (_tell, probe) = probe();
        let (reply, mut answer) = oneshot::channel();
        let state = GpuState::Present(GpuReading::default());
        reply.send(state.clone()).unwrap();
        assert_eq!(probe.given_up(&mut answer), state);
        assert!(!probe.stuck.load(Ordering::Acquire), "nobody would ask again");
    }

    #[tokio::test]
    async fn an_absent_driver_is_not_asked_every_second() {
        let (tell, probe) = probe();
        tell.send(Err(NvmlTrouble::NoDriver)).unwrap();
        tell.send(Ok(vec![card()])).unwrap();
        let first = probe.read().await;
        assert!(matches!(first, GpuState::Absent(_)), "{first:?}");
        assert_eq!(probe.read().await, first, "the second answer was fetched within the minute");
    }

    #[tokio::test]
    async fn this_machine_is_read_without_harm_whatever_it_has() {
        let probe = GpuProbe::start(NvmlLibrary::default()).unwrap();
        match probe.read().await {
            GpuState::Present(reading) => assert!(!reading.gpus.is_empty()),
            GpuState::Absent(why) | GpuState::Unreadable(why) => {
                assert!(why.reason.contains("NVIDIA"), "{why:?}");
                assert!(why.hint.contains("CPU"), "{why:?}");
            }
            GpuState::Stuck => panic!("the driver of this machine hangs"),
        }
    }
}

use std::sync::mpsc;

use protocol::{Host, Quality};

use super::*;
use crate::{DeviceAnswer, GpuProbe, NvmlSource, NvmlTrouble, ProcessAnswer};

/// Readings that the test hands out one by one; a read waits for the next, as a slow kernel would.
struct Handed {
    readings: mpsc::Receiver<Result<Reading, TelemetryError>>,
    asked: mpsc::Sender<Vec<u32>>,
}

impl Source for Handed {
    fn read(&mut self, pids: &[u32]) -> Result<Reading, TelemetryError> {
        self.asked.send(pids.to_vec()).unwrap();
        self.readings.recv().unwrap_or(Err(TelemetryError::Unknown { path: "x".to_owned(), line: "y" }))
    }
}

struct Cards(Vec<DeviceAnswer>);

impl NvmlSource for Cards {
    fn devices(&mut self) -> Result<Vec<DeviceAnswer>, NvmlTrouble> {
        Ok(self.0.clone())
    }
}

struct House {
    give: mpsc::Sender<Result<Reading, TelemetryError>>,
    asked: mpsc::Receiver<Vec<u32>>,
    watching: watch::Sender<Watched>,
    seen: watch::Receiver<Option<Arc<MemorySample>>>,
    task: tokio::task::JoinHandle<()>,
}

impl House {
    #[expect(clippy::disallowed_methods, reason = "the test owns the handle and awaits it")]
    fn new(cards: Vec<DeviceAnswer>) -> Self {
        let (give, readings) = mpsc::channel();
        let (asked_tx, asked) = mpsc::channel();
        let (watching, watched) = watch::channel(Watched { workers: vec![7], spare: None });
        let gpu = GpuProbe::start(Cards(cards)).unwrap();
        let (seen, task) = sampler(Handed { readings, asked: asked_tx }, gpu, watched);
        Self { give, asked, watching, seen, task: tokio::spawn(task) }
    }

    async fn next(&mut self) -> Arc<MemorySample> {
        timeout(Duration::from_secs(10), self.seen.changed()).await.expect("no sample").unwrap();
        self.seen.borrow().clone().unwrap()
    }
}

fn reading(wall_ms: i64) -> Reading {
    let held =
        Measured { private_bytes: 1, mapped_bytes: 2, gpu_bytes: None, quality: Quality::Exact, wall_ms };
    Reading {
        wall_ms,
        begun: Duration::ZERO,
        host: Host {
            memory_total_bytes: 100,
            memory_available_bytes: 50,
            swap_used_bytes: 0,
            cpu_count: 2,
            cpu_percent: 1.0,
            pressure: None,
        },
        ram: RamTotals { total: 100, free: 50, ..RamTotals::default() },
        server: None,
        workers: vec![(7, held), (8, held)],
        gpus: vec![],
        gpu_uses: vec![],
    }
}

#[test]
fn gpus_of_other_makers_come_after_those_of_nvidia_with_what_is_held_on_them() {
    let gpu = |index, name: &str| protocol::Gpu {
        index,
        name: name.to_owned(),
        memory_total_bytes: 100,
        memory_used_bytes: 50,
        memory_free_bytes: None,
        named: protocol::Named::Ours,
        utilization_percent: None,
        temperature_celsius: None,
        power_watts: None,
        note: None,
    };
    let held = |index, pid, bytes| GpuUse { index, pid, bytes };
    let told = Reading {
        gpus: vec![gpu(0, "amd")],
        gpu_uses: vec![held(0, 7, Some(5)), held(0, 8, None)],
        ..reading(1)
    };
    let sample = assemble(told.clone(), vec![gpu(0, "nvidia")], vec![held(0, 7, Some(2))], None);
    assert_eq!(
        sample.gpus.iter().map(|gpu| (gpu.index, gpu.name.as_str())).collect::<Vec<_>>(),
        [(0, "nvidia"), (1, "amd")]
    );
    assert_eq!(sample.gpu_uses[1], held(1, 7, Some(5)));
    let on_gpus: Vec<_> = sample.workers.iter().map(|(_, measured)| measured.gpu_bytes).collect();
    assert_eq!(on_gpus, [Some(7), None], "one that does not say is unknown");
    let kind = protocol::GpuAbsence::Absent;
    let absent =
        protocol::GpuAbsent { kind, reason: "NVIDIA driver not loaded".to_owned(), hint: String::new() };
    let alone = assemble(told, vec![], vec![], Some(absent.clone()));
    assert_eq!((alone.gpus[0].index, alone.gpu_absent), (0, None), "there is one, though not of NVIDIA");
    assert_eq!(assemble(reading(1), vec![], vec![], Some(absent.clone())).gpu_absent, Some(absent));
}

#[tokio::test]
async fn samples_come_with_the_pids_that_are_watched_at_the_time() {
    let mut house = House::new(vec![]);
    house.give.send(Ok(reading(1))).unwrap();
    assert_eq!(house.next().await.wall_ms, 1);
    assert_eq!(house.asked.recv().unwrap(), [7]);
    house.watching.send_replace(Watched { workers: vec![7, 9], spare: None });
    house.give.send(Ok(reading(2))).unwrap();
    let sample = house.next().await;
    assert_eq!((sample.wall_ms, sample.gpu_absent.is_some(), sample.spare), (2, true, None));
    assert_eq!(house.asked.recv().unwrap(), [7, 9]);
    house.watching.send_replace(Watched { workers: vec![7], spare: Some(8) });
    house.give.send(Ok(reading(3))).unwrap();
    assert_eq!(house.next().await.spare, Some(8));
    assert_eq!(house.asked.recv().unwrap(), [7, 8]);
    // A load has just taken it.
    house.watching.send_replace(Watched { workers: vec![7, 8], spare: Some(8) });
    house.give.send(Ok(reading(4))).unwrap();
    house.next().await;
    assert_eq!(house.asked.recv().unwrap(), [7, 8]);
}

#[tokio::test]
async fn a_reading_that_takes_too_long_costs_a_sample_and_is_never_begun_twice() {
    let mut house = House::new(vec![]);
    // Nothing is handed out for longer than the deadline and into the next tick: both pass without a sample.
    assert!(timeout(PERIOD + DEADLINE / 2, house.seen.changed()).await.is_err());
    assert_eq!(house.asked.try_iter().count(), 1);
    house.give.send(Ok(reading(5))).unwrap();
    assert_eq!(house.next().await.wall_ms, 5);
}

#[tokio::test]
async fn a_reading_that_fails_is_tried_again() {
    let mut house = House::new(vec![]);
    house.give.send(Err(TelemetryError::Unknown { path: "p".to_owned(), line: "l" })).unwrap();
    house.give.send(Ok(reading(3))).unwrap();
    assert_eq!(house.next().await.wall_ms, 3);
}

#[tokio::test]
async fn a_slow_reader_misses_samples_and_delays_none() {
    let mut house = House::new(vec![]);
    let slow = house.seen.clone();
    for wall_ms in 1..=3 {
        house.give.send(Ok(reading(wall_ms))).unwrap();
        assert_eq!(house.next().await.wall_ms, wall_ms);
    }
    assert_eq!(slow.borrow().as_ref().unwrap().wall_ms, 3);
}

#[tokio::test]
async fn the_task_ends_with_its_last_reader() {
    let house = House::new(vec![]);
    house.give.send(Ok(reading(1))).unwrap();
    drop(house.seen);
    timeout(Duration::from_secs(10), house.task).await.expect("it goes on for nobody").unwrap();
}

#[tokio::test]
async fn what_a_worker_holds_on_gpus_is_summed_and_unknown_stays_unknown() {
    let card = |index, processes: &[(u32, Option<u64>)]| DeviceAnswer {
        index,
        memory_used_bytes: 1000,
        processes: Some(
            processes.iter().map(|&(pid, used_bytes)| ProcessAnswer { pid, used_bytes }).collect(),
        ),
        ..DeviceAnswer::default()
    };
    let mut house =
        House::new(vec![card(0, &[(7, Some(30)), (8, Some(5))]), card(1, &[(7, Some(12)), (8, None)])]);
    house.give.send(Ok(reading(1))).unwrap();
    let sample = house.next().await;
    let on_gpu: Vec<_> = sample.workers.iter().map(|(pid, held)| (*pid, held.gpu_bytes)).collect();
    assert_eq!(on_gpu, [(7, Some(42)), (8, None)]);
    assert_eq!((sample.gpus.len(), sample.gpu_uses.len()), (2, 4));
}

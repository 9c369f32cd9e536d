//! GPU memory of a worker: what it held before it went, and what its driver still counts as its own afterwards. A driver
//! may take a second or so to notice a process's end, and now and then never does.

use std::time::Duration;

use manager::ports::GpuReading;
use protocol::{DeviceReturn, Named};
use tokio::time::{Instant, sleep, timeout_at};

/// A driver may take so long to notice that a process has ended.
const RETURN: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Under one part in so many counts as nothing left.
const NOTHING: u64 = 20;

/// What a process held on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnGpu {
    index: u32,
    bytes: u64,
    /// By everybody.
    used_bytes: u64,
}

impl OnGpu {
    /// Held by the process.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What a process holds, on each device of which its driver says how much.
pub(crate) fn held(reading: &GpuReading, pid: u32) -> Vec<OnGpu> {
    let used = |index| {
        let gpu = reading.gpus.iter().find(|gpu| gpu.index == index);
        gpu.map_or(0, |gpu| gpu.memory_used_bytes)
    };
    let uses = reading.uses.iter().filter(|held| held.pid == pid);
    let known = uses.filter_map(|held| Some((held.index, held.bytes.filter(|bytes| *bytes > 0)?)));
    known.map(|(index, bytes)| OnGpu { index, bytes, used_bytes: used(index) }).collect()
}

/// What became of it, and a sentence for each device on which something is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) gpus: Vec<DeviceReturn>,
    pub(crate) left: Vec<String>,
}

/// After the process is reaped: looks again and again until its driver has let go of what it held, for five seconds at most.
/// `read` may answer `None`: the driver does not say.
pub(crate) async fn settled<F: Future<Output = Option<GpuReading>>>(
    held: &[OnGpu],
    pid: u32,
    mut read: impl FnMut() -> F,
) -> Returned {
    if held.is_empty() {
        return Returned::default();
    }
    let deadline = Instant::now() + RETURN;
    let mut last = None;
    loop {
        match timeout_at(deadline, read()).await {
            Ok(Some(reading)) => {
                let gone = |left: u64, before: &OnGpu| left <= before.bytes / NOTHING;
                let over = held
                    .iter()
                    .all(|before| residual(before, &reading, pid).is_some_and(|left| gone(left, before)));
                last = Some(reading);
                if over {
                    break;
                }
            }
            Ok(None) => {}
            Err(_) => break,
        }
        if Instant::now() + PAUSE >= deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    told(held, last.as_ref(), pid)
}

/// Of what it held, the bytes that the driver still counts as this process's. One that is listed without a number holds it
/// all, for all that is known. `None`: the device is not there any more, or its driver names nobody; an empty list is no
/// proof then.
fn residual(before: &OnGpu, now: &GpuReading, pid: u32) -> Option<u64> {
    let device = now.gpus.iter().find(|gpu| gpu.index == before.index)?;
    let still = now.uses.iter().find(|held| held.index == before.index && held.pid == pid);
    match still {
        Some(held) => Some(held.bytes.unwrap_or(before.bytes).min(before.bytes)),
        None => (device.named != Named::Nobody).then_some(0),
    }
}

fn told(held: &[OnGpu], now: Option<&GpuReading>, pid: u32) -> Returned {
    let mut returned = Returned::default();
    for before in held {
        // What nobody saw come back is not said to be back.
        let told = now.and_then(|now| residual(before, now, pid));
        let residual_bytes = told.unwrap_or(before.bytes);
        let returned_bytes = before.bytes - residual_bytes;
        returned.gpus.push(DeviceReturn {
            index: before.index,
            held_bytes: before.bytes,
            returned_bytes,
            residual_bytes,
        });
        evidence(before, now, pid);
        if residual_bytes <= before.bytes / NOTHING {
            continue;
        }
        let (index, bytes) = (before.index, crate::leftover::mib(residual_bytes));
        returned.left.push(match told {
            Some(_) => format!(
                "GPU {index}: its driver still counts {bytes} as process {pid}'s, which has ended. If that stays so, restart \
                 the driver or the machine."
            ),
            None => format!(
                "GPU {index}: its driver does not answer, so nobody knows whether {bytes} came back. If `nvidia-smi` hangs \
                 too, the machine needs a restart."
            ),
        });
    }
    returned
}

/// How the whole device changed is evidence, never the verdict: others take and give meanwhile, so it may well be negative.
fn evidence(before: &OnGpu, now: Option<&GpuReading>, pid: u32) {
    let gpu = now.and_then(|now| now.gpus.iter().find(|gpu| gpu.index == before.index));
    let Some(gpu) = gpu else { return };
    let change = i128::from(before.used_bytes) - i128::from(gpu.memory_used_bytes);
    tracing::debug!(gpu = before.index, pid, held = before.bytes, change, "after the worker's end");
}

#[cfg(test)]
mod tests {
    use manager::ports::GpuUse;
    use protocol::Gpu;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// Device 0 with so much in use, and who holds what on which device.
    fn reading(used: u64, uses: &[(u32, u32, Option<u64>)]) -> GpuReading {
        let gpu = Gpu {
            index: 0,
            name: "H100".to_owned(),
            memory_total_bytes: 80 * GIB,
            memory_used_bytes: used,
            memory_free_bytes: None,
            named: Named::Everybody,
            utilization_percent: None,
            temperature_celsius: None,
            power_watts: None,
            note: None,
        };
        let uses = uses.iter().map(|&(index, pid, bytes)| GpuUse { index, pid, bytes }).collect();
        GpuReading { gpus: vec![gpu], uses }
    }

    /// Answers what it is given in turn, the last one for ever.
    async fn after(held: &[OnGpu], answers: Vec<Option<GpuReading>>) -> (Returned, Duration) {
        let begun = Instant::now();
        let mut asked = 0;
        let returned = settled(held, 7, || {
            let answer = answers[asked.min(answers.len() - 1)].clone();
            asked += 1;
            std::future::ready(answer)
        })
        .await;
        (returned, begun.elapsed())
    }

    fn one(held_bytes: u64, residual_bytes: u64) -> Vec<DeviceReturn> {
        let returned_bytes = held_bytes - residual_bytes;
        vec![DeviceReturn { index: 0, held_bytes, returned_bytes, residual_bytes }]
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_the_driver_gives_back_a_second_later_is_returned() {
        let before = held(&reading(9 * GIB, &[(0, 7, Some(8 * GIB)), (0, 8, Some(GIB))]), 7);
        let still = reading(9 * GIB, &[(0, 7, Some(8 * GIB)), (0, 8, Some(GIB))]);
        let some = reading(5 * GIB, &[(0, 7, Some(4 * GIB)), (0, 8, Some(GIB))]);
        let gone = reading(GIB, &[(0, 8, Some(GIB))]);
        let answers = vec![Some(still), None, Some(some), None, Some(gone)];
        let (returned, took) = after(&before, answers).await;
        assert_eq!((returned.gpus, returned.left), (one(8 * GIB, 0), vec![]));
        assert_eq!(took, Duration::from_secs(1), "it was not waited for any longer");
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_else_who_takes_memory_meanwhile_changes_nothing_of_the_verdict() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(2 * GIB))]), 7);
        let (returned, took) = after(&before, vec![Some(reading(70 * GIB, &[(0, 9, Some(70 * GIB))]))]).await;
        assert_eq!((returned.gpus, took), (one(2 * GIB, 0), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_still_counted_after_five_seconds_is_a_residual_and_named() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(2 * GIB))]), 7);
        let (returned, took) = after(&before, vec![Some(reading(2 * GIB, &[(0, 7, Some(GIB))]))]).await;
        assert_eq!(returned.gpus, one(2 * GIB, GIB));
        assert!(returned.left[0].contains("1024.0 MiB as process 7's"), "{:?}", returned.left);
        assert!((Duration::from_millis(4500)..=RETURN).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_listed_without_a_number_has_returned_nothing_as_far_as_is_known() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(2 * GIB))]), 7);
        let (returned, _) = after(&before, vec![Some(reading(2 * GIB, &[(0, 7, None)]))]).await;
        assert_eq!(returned.gpus, one(2 * GIB, 2 * GIB));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_does_not_answer_proves_nothing() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(2 * GIB))]), 7);
        let (returned, _) = after(&before, vec![None]).await;
        assert_eq!(returned.gpus, one(2 * GIB, 2 * GIB));
        assert!(returned.left[0].contains("does not answer"), "{:?}", returned.left);
        let begun = Instant::now();
        let hangs = settled(&before, 7, std::future::pending).await;
        assert_eq!((hangs.gpus, begun.elapsed()), (one(2 * GIB, 2 * GIB), RETURN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_names_nobody_or_lost_the_device_proves_nothing() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(2 * GIB))]), 7);
        let mut silent = reading(0, &[]);
        silent.gpus[0].named = Named::Nobody;
        for answer in [silent, GpuReading::default()] {
            let (returned, _) = after(&before, vec![Some(answer)]).await;
            assert_eq!(returned.gpus, one(2 * GIB, 2 * GIB), "an empty list is not an empty device");
            assert!(returned.left[0].contains("does not answer"), "{:?}", returned.left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_held_nothing_is_not_waited_for() {
        let before = held(&reading(2 * GIB, &[(0, 7, Some(0)), (1, 7, None), (0, 8, Some(GIB))]), 7);
        assert_eq!(before, []);
        let returned = settled(&before, 7, || -> std::future::Ready<_> { panic!("asked") }).await;
        assert_eq!(returned, Returned::default());
    }
}

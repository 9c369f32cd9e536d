//! Where every byte of a device is. A pure function of one sample; the formula stands at [`protocol::Books`].

use protocol::Books;

use crate::ports::{MemorySample, RamTotals};

/// RAM by columns: `models` and `server` are private bytes.
fn ram(totals: &RamTotals, models: u64, server: u64) -> Books {
    let t = totals;
    let file_cache = t.buffers + t.cached.saturating_sub(t.shmem) + t.kernel_reclaimable;
    let free = t.free + t.per_cpu_lists + file_cache;
    let in_use = t.anonymous
        + t.shmem
        + t.slab_unreclaimable
        + t.page_tables
        + t.per_cpu
        + t.vmalloc_used
        + t.kernel_stack;
    let other = signed(in_use) - signed(models) - signed(server);
    Books {
        device: "ram".to_owned(),
        total_bytes: t.total,
        models_bytes: models,
        server_bytes: server,
        other_bytes: other,
        free_bytes: free,
        unaccounted_bytes: signed(t.total) - signed(models) - signed(server) - other - signed(free),
        file_cache_bytes: Some(file_cache),
    }
}

/// RAM first, then each GPU; `workers` are the processes that are ours.
pub(crate) fn books(sample: &MemorySample, workers: &[u32]) -> Vec<Books> {
    let ours = |pid: &u32| workers.contains(pid);
    let private = sample.workers.iter().filter(|(pid, _)| ours(pid)).map(|(_, m)| m.private_bytes).sum();
    let server = sample.server.map_or(0, |server| server.private_bytes);
    let mut books = vec![ram(&sample.ram, private, server)];
    books.extend(sample.gpus.iter().map(|gpu| {
        let on = |mine: bool| {
            let uses = sample.gpu_uses.iter().filter(|u| u.index == gpu.index && ours(&u.pid) == mine);
            uses.filter_map(|used| used.bytes).sum::<u64>()
        };
        let (models, other) = (on(true), signed(on(false)));
        let free = gpu.memory_total_bytes.saturating_sub(gpu.memory_used_bytes);
        Books {
            device: format!("gpu:{}", gpu.index),
            total_bytes: gpu.memory_total_bytes,
            models_bytes: models,
            server_bytes: 0,
            other_bytes: other,
            free_bytes: free,
            unaccounted_bytes: signed(gpu.memory_total_bytes) - signed(models) - other - signed(free),
            file_cache_bytes: None,
        }
    }));
    books
}

/// Bytes of a device fit 63 bits by far.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{GpuUse, Measured};
    use proptest::prelude::*;
    use protocol::{Gpu, Host, Quality};

    fn measured(private_bytes: u64) -> Measured {
        Measured { private_bytes, mapped_bytes: 7, gpu_bytes: None, quality: Quality::Exact, wall_ms: 0 }
    }

    fn sample(ram: RamTotals, server: u64, workers: Vec<(u32, Measured)>) -> MemorySample {
        MemorySample {
            wall_ms: 0,
            host: Host {
                memory_total_bytes: ram.total,
                memory_available_bytes: 0,
                swap_used_bytes: 0,
                cpu_count: 2,
                cpu_percent: 0.0,
                pressure: None,
            },
            ram,
            server: Some(measured(server)),
            workers,
            gpus: vec![],
            gpu_absent: None,
            gpu_uses: vec![],
        }
    }

    fn sum(books: &Books) -> i128 {
        i128::from(books.models_bytes)
            + i128::from(books.server_bytes)
            + i128::from(books.other_bytes)
            + i128::from(books.free_bytes)
            + i128::from(books.unaccounted_bytes)
    }

    const TIB: std::ops::Range<u64> = 0..1 << 40;

    proptest! {
        #[test]
        fn the_columns_of_ram_add_up_to_the_total_whatever_the_kernel_says(
            n in proptest::collection::vec(TIB, 13), server in TIB, private in proptest::collection::vec(TIB, 0..5),
        ) {
            let ram = RamTotals {
                total: n[0], free: n[1], per_cpu_lists: n[2], buffers: n[3], cached: n[4], shmem: n[5],
                kernel_reclaimable: n[6], anonymous: n[7], slab_unreclaimable: n[8], page_tables: n[9],
                per_cpu: n[10], vmalloc_used: n[11], kernel_stack: n[12],
            };
            let workers: Vec<_> = (1..).zip(private.iter().map(|bytes| measured(*bytes))).collect();
            let pids: Vec<u32> = workers.iter().map(|(pid, _)| *pid).collect();
            let books = books(&sample(ram, server, workers), &pids);
            prop_assert_eq!(books.len(), 1);
            prop_assert_eq!(sum(&books[0]), i128::from(n[0]));
            prop_assert_eq!(books[0].models_bytes, private.iter().sum::<u64>());
        }

        #[test]
        fn the_columns_of_a_gpu_add_up_to_its_total(
            total in TIB, used in TIB, uses in proptest::collection::vec((1_u32..6, proptest::option::of(TIB)), 0..8),
        ) {
            let mut sample = sample(RamTotals::default(), 0, vec![]);
            sample.gpus = vec![Gpu {
                index: 0, name: "gpu".to_owned(), memory_total_bytes: total, memory_used_bytes: used.min(total),
                utilization_percent: None, temperature_celsius: None, power_watts: None,
                note: None,
            }];
            sample.gpu_uses = uses.iter().map(|&(pid, bytes)| GpuUse { index: 0, pid, bytes }).collect();
            let books = books(&sample, &[1, 2]);
            prop_assert_eq!(sum(&books[1]), i128::from(total));
        }
    }

    #[test]
    fn a_process_that_is_not_ours_is_never_counted_as_a_model() {
        let ram = RamTotals { total: 1000, free: 100, anonymous: 800, ..RamTotals::default() };
        let all = sample(ram, 50, vec![(1, measured(200)), (2, measured(300))]);
        let books = books(&all, &[1]);
        assert_eq!((books[0].models_bytes, books[0].other_bytes), (200, 550));
        assert_eq!(books[0].unaccounted_bytes, 100);
    }
}

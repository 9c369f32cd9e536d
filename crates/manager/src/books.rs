//! Where every byte of a device is. A pure function of one sample; the formula stands at [`protocol::Books`].

use protocol::{Books, Gpu, Named, Quality};

use crate::ports::{GpuUse, Measured, MemorySample, RamTotals};

/// RAM by columns: `models` and `server` are private bytes.
fn ram(totals: &RamTotals, models: u64, server: u64, quality: Quality) -> Books {
    let t = totals;
    let file_cache = t.buffers + t.cached.saturating_sub(t.shmem) + t.kernel_reclaimable;
    // What others took of a limit that we share with them is no more ours to take than what they hold of the machine.
    let free = (t.free + t.per_cpu_lists + file_cache).saturating_sub(t.taken_beside);
    let in_use = t.anonymous
        + t.shmem
        + t.slab_unreclaimable
        + t.page_tables
        + t.per_cpu
        + t.vmalloc_used
        + t.kernel_stack
        + t.taken_beside;
    let other = signed(in_use) - signed(models) - signed(server);
    Books {
        device: "ram".to_owned(),
        total_bytes: t.total,
        models_bytes: Some(models),
        server_bytes: server,
        other_bytes: Some(other),
        free_bytes: free,
        unaccounted_bytes: Some(signed(t.total) - signed(models) - signed(server) - other - signed(free)),
        file_cache_bytes: Some(file_cache),
        quality,
    }
}

/// A GPU by columns; `ours` are the processes of models.
fn gpu(gpu: &Gpu, uses: &[GpuUse], ours: &[u32]) -> Books {
    let here = || uses.iter().filter(|held| held.index == gpu.index);
    let sum = |mine: bool| -> Option<u64> {
        here().filter(|held| ours.contains(&held.pid) == mine).map(|held| held.bytes).sum()
    };
    // Where there is no model, models hold nothing, whoever may be named.
    let models = if ours.is_empty() { Some(0) } else { sum(true).filter(|_| gpu.named != Named::Nobody) };
    let (by_difference, used) = (gpu.named != Named::Everybody, gpu.memory_used_bytes);
    let other = if by_difference {
        models.map(|models| signed(used) - signed(models))
    } else {
        sum(false).map(signed)
    };
    let total = gpu.memory_total_bytes;
    let free = gpu.memory_free_bytes.unwrap_or_else(|| total.saturating_sub(used));
    Books {
        device: format!("gpu:{}", gpu.index),
        total_bytes: total,
        models_bytes: models,
        server_bytes: 0,
        other_bytes: other,
        free_bytes: free,
        unaccounted_bytes: models
            .zip(other)
            .map(|(models, other)| signed(total) - signed(models) - other - signed(free)),
        file_cache_bytes: None,
        quality: if by_difference { Quality::Derived } else { Quality::Exact },
    }
}

/// That of the worst.
fn worst(of: impl Iterator<Item = Quality>) -> Quality {
    let rank = |quality: &Quality| match quality {
        Quality::Exact => 0,
        Quality::Derived => 1,
        Quality::Estimated => 2,
    };
    of.max_by_key(rank).unwrap_or(Quality::Exact)
}

/// The worker that waits for a model. One that a load has taken since the sample is that model's.
pub(crate) fn spare<'a>(sample: &'a MemorySample, workers: &[u32]) -> Option<(u32, &'a Measured)> {
    let waits = |pid: u32| sample.spare == Some(pid) && !workers.contains(&pid);
    sample.workers.iter().find(|(pid, _)| waits(*pid)).map(|(pid, held)| (*pid, held))
}

/// RAM first, then each GPU; `workers` are the processes that are ours.
pub(crate) fn books(sample: &MemorySample, workers: &[u32]) -> Vec<Books> {
    let models = || sample.workers.iter().filter(|(pid, _)| workers.contains(pid)).map(|(_, held)| held);
    let private = models().map(|held| held.private_bytes).sum();
    let spare = spare(sample, workers).map(|(_, held)| held);
    let own = || sample.server.iter().chain(spare);
    let server = own().map(|held| held.private_bytes).sum();
    let quality = worst(models().chain(own()).map(|held| held.quality));
    let gpus = sample.gpus.iter().map(|one| gpu(one, &sample.gpu_uses, workers));
    [ram(&sample.ram, private, server, quality)].into_iter().chain(gpus).collect()
}

/// Bytes of a device fit 63 bits by far.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::Host;

    fn measured(private_bytes: u64) -> Measured {
        Measured { private_bytes, mapped_bytes: 7, gpu_bytes: None, quality: Quality::Exact, wall_ms: 0 }
    }

    fn sample(ram: RamTotals, server: u64, workers: Vec<(u32, Measured)>) -> MemorySample {
        MemorySample {
            wall_ms: 0,
            begun: std::time::Duration::ZERO,
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
            spare: None,
            gpus: vec![],
            gpu_absent: None,
            gpu_uses: vec![],
        }
    }

    #[test]
    fn a_worker_that_waits_is_the_servers_until_a_model_has_it() {
        let both = vec![(1, measured(30)), (2, measured(3))];
        let sample = MemorySample {
            spare: Some(2),
            ..sample(RamTotals { total: 100, ..RamTotals::default() }, 7, both)
        };
        let columns = |workers: &[u32]| {
            let ram = books(&sample, workers).remove(0);
            (ram.models_bytes, ram.server_bytes, spare(&sample, workers).map(|(pid, _)| pid))
        };
        assert_eq!(columns(&[1]), (Some(30), 10, Some(2)));
        assert_eq!(columns(&[1, 2]), (Some(33), 7, None), "each byte once");
    }

    /// Of all columns, if they are known.
    fn sum(books: &Books) -> Option<i128> {
        let signed = [books.other_bytes?, books.unaccounted_bytes?].map(i128::from);
        let rest = [books.models_bytes?, books.server_bytes, books.free_bytes].map(i128::from);
        Some(signed.into_iter().chain(rest).sum())
    }

    fn card(used: u64, free: Option<u64>, named: Named) -> Gpu {
        Gpu {
            index: 0,
            name: "gpu".to_owned(),
            memory_total_bytes: 100,
            memory_used_bytes: used,
            memory_free_bytes: free,
            named,
            utilization_percent: None,
            temperature_celsius: None,
            power_watts: None,
            note: None,
        }
    }

    /// Models, other, free and the remainder of a GPU with these processes, where 1 is a model's.
    fn columns(
        card: Gpu,
        uses: &[(u32, Option<u64>)],
        ours: &[u32],
    ) -> (Option<u64>, Option<i64>, u64, Option<i64>) {
        let uses: Vec<_> = uses.iter().map(|&(pid, bytes)| GpuUse { index: 0, pid, bytes }).collect();
        let books = gpu(&card, &uses, ours);
        (books.models_bytes, books.other_bytes, books.free_bytes, books.unaccounted_bytes)
    }

    const TIB: std::ops::Range<u64> = 0..1 << 40;

    proptest! {
        #[test]
        fn the_columns_of_ram_add_up_to_the_total_whatever_the_kernel_says(
            n in proptest::collection::vec(TIB, 14), server in TIB, private in proptest::collection::vec(TIB, 0..5),
        ) {
            let ram = RamTotals {
                total: n[0], free: n[1], per_cpu_lists: n[2], buffers: n[3], cached: n[4], shmem: n[5],
                kernel_reclaimable: n[6], anonymous: n[7], slab_unreclaimable: n[8], page_tables: n[9],
                per_cpu: n[10], vmalloc_used: n[11], kernel_stack: n[12], taken_beside: n[13],
            };
            let workers: Vec<_> = (1..).zip(private.iter().map(|bytes| measured(*bytes))).collect();
            let pids: Vec<u32> = workers.iter().map(|(pid, _)| *pid).collect();
            let books = books(&sample(ram, server, workers), &pids);
            prop_assert_eq!(books.len(), 1);
            prop_assert_eq!(sum(&books[0]), Some(i128::from(n[0])));
            prop_assert_eq!(books[0].models_bytes, Some(private.iter().sum::<u64>()));
        }

        #[test]
        fn the_columns_of_a_gpu_add_up_to_its_total_or_are_unknown(
            total in TIB, used in TIB, free in proptest::option::of(TIB), named in 0_usize..3,
            uses in proptest::collection::vec((1_u32..6, proptest::option::of(TIB)), 0..8),
        ) {
            let named = [Named::Everybody, Named::Ours, Named::Nobody][named];
            let card = Gpu { memory_total_bytes: total, ..card(used.min(total), free, named) };
            let uses: Vec<_> = uses.iter().map(|&(pid, bytes)| GpuUse { index: 0, pid, bytes }).collect();
            let books = gpu(&card, &uses, &[1, 2]);
            prop_assert!(sum(&books).is_none_or(|sum| sum == i128::from(total)));
            let unknown = uses.iter().any(|held| held.pid <= 2 && held.bytes.is_none());
            prop_assert_eq!(books.models_bytes.is_none(), unknown || named == Named::Nobody);
        }
    }

    #[test]
    fn what_a_driver_does_not_say_is_unknown_and_never_nothing() {
        let container = || card(60, Some(30), Named::Nobody);
        assert_eq!(columns(container(), &[], &[1]), (None, None, 30, None), "some of it may be the model's");
        assert_eq!(columns(container(), &[], &[]), (Some(0), Some(60), 30, Some(10)), "there is no model");
        let all = || card(60, Some(30), Named::Everybody);
        assert_eq!(columns(all(), &[(1, None), (9, Some(5))], &[1]), (None, Some(5), 30, None));
        assert_eq!(columns(all(), &[(1, Some(5)), (9, None)], &[1]), (Some(5), None, 30, None));
        assert_eq!(columns(all(), &[(1, Some(5)), (9, Some(50))], &[1]), (Some(5), Some(50), 30, Some(15)));
    }

    #[test]
    fn where_only_our_processes_are_looked_at_the_rest_of_what_is_used_is_others() {
        let amd = card(60, None, Named::Ours);
        assert_eq!(columns(amd, &[(1, Some(20))], &[1]), (Some(20), Some(40), 40, Some(0)));
    }

    #[test]
    fn what_others_took_of_a_limit_that_is_shared_is_theirs_and_not_free() {
        let group =
            RamTotals { total: 512, free: 412, anonymous: 100, taken_beside: 402, ..RamTotals::default() };
        let books = books(&sample(group, 10, vec![]), &[]);
        assert_eq!((books[0].free_bytes, books[0].other_bytes), (10, Some(492)));
        assert_eq!(sum(&books[0]), Some(512));
    }

    #[test]
    fn the_books_are_as_good_as_the_worst_number_in_them() {
        let quality = |quality| {
            let worker = Measured { quality, ..measured(5) };
            books(&sample(RamTotals::default(), 5, vec![(1, worker)]), &[1])[0].quality
        };
        assert_eq!(quality(Quality::Exact), Quality::Exact);
        assert_eq!(quality(Quality::Derived), Quality::Derived);
    }

    #[test]
    fn a_process_that_is_not_ours_is_never_counted_as_a_model() {
        let ram = RamTotals { total: 1000, free: 100, anonymous: 800, ..RamTotals::default() };
        let all = sample(ram, 50, vec![(1, measured(200)), (2, measured(300))]);
        let books = books(&all, &[1]);
        assert_eq!((books[0].models_bytes, books[0].other_bytes), (Some(200), Some(550)));
        assert_eq!(books[0].unaccounted_bytes, Some(100));
    }
}

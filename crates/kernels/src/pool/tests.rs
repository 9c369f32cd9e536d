//! What a pool promises, with threads that meet, limits and panics.

use std::sync::atomic::AtomicU32;

use super::*;

#[test]
fn a_round_that_is_over_gives_nothing_away_whatever_number_of_items_is_read_with_it() {
    let mut pool = Pool::new(2);
    for items in [2, 5, 3] {
        pool.run(items, &|_| {});
        let round = pool.shared.number.0.load(Ordering::Acquire);
        let sizes = Sizes { items: OVER as usize, threads: 2 };
        assert_eq!(pool.shared.take(0, round, sizes), None, "the next round may have as many");
    }
}

#[test]
fn every_item_is_done_once_by_every_number_of_threads() {
    for threads in 1..5 {
        let mut pool = Pool::new(threads);
        for items in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
            pool.run(items, &|number| {
                counts[number].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        let mut values = vec![0usize; 103];
        pool.each_mut(&mut values, 10, 3, &|number, piece| {
            piece.iter_mut().for_each(|value| *value = number);
        });
        assert!(values.iter().enumerate().all(|(at, value)| *value == at / 10));
    }
}

#[test]
fn each_thread_begins_with_items_of_its_own_that_follow_each_other() {
    for (threads, items) in [(2, 2), (2, 9), (3, 10), (4, 100)] {
        let begun = AtomicU32::new(0);
        let firsts = std::sync::Mutex::new(std::collections::HashMap::new());
        let mut pool = Pool::new(threads);
        let threads = pool.threads();
        pool.run(items, &|item| {
            let new = {
                let mut firsts = firsts.lock().unwrap();
                let here = firsts.len();
                firsts.entry(std::thread::current().id()).or_insert(item);
                firsts.len() > here
            };
            if new {
                begun.fetch_add(1, Ordering::SeqCst);
                // Nobody takes a second item before each has its first.
                while begun.load(Ordering::SeqCst) < threads as u32 {
                    std::thread::yield_now();
                }
            }
        });
        let mut firsts: Vec<usize> = firsts.into_inner().unwrap().into_values().collect();
        firsts.sort_unstable();
        let own: Vec<usize> = (0..threads).map(|thread| items * thread / threads).collect();
        assert_eq!(firsts, own);
    }
}

#[test]
fn a_pool_with_a_limit_computes_with_no_more_threads_than_that() {
    let mut pool = Pool::new(4);
    for limit in [4, 2, 1, 3, 9, 0] {
        pool.limit(limit);
        assert_eq!(pool.threads(), limit.clamp(1, 4));
        let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
        for _ in 0..20 {
            pool.run(200, &|_| {
                seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
                std::hint::black_box((0..500).sum::<u32>());
            });
        }
        assert!((1..=pool.threads()).contains(&seen.lock().unwrap().len()));
    }
}

/// How often a thread of this process, by its name, has given the processor up, and whether it sleeps; once it has a name.
#[cfg(target_os = "linux")]
fn thread(name: &str) -> Option<(u64, bool)> {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let field = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        if field("Name:") == name {
            return Some((field("voluntary_ctxt_switches:").parse().unwrap(), field("State:") == "S"));
        }
    }
    None
}

#[test]
#[cfg(target_os = "linux")]
fn helpers_beyond_the_limit_sleep_while_the_others_work() {
    let mut pool = Pool::new(40);
    let rounds = |pool: &mut Pool, n| (0..n).for_each(|_| pool.run(8, &|number| assert!(number < 8)));
    rounds(&mut pool, 10);
    pool.limit(2);
    // Those that were awake, and those that slept until the next work, go to sleep once; then nothing wakes them. Who sleeps
    // on both sides of a round, for which nobody holds the lock, is there.
    let mut before = thread("compute-39");
    loop {
        rounds(&mut pool, 1);
        drop(locked(&pool.shared));
        std::thread::yield_now();
        let now = thread("compute-39");
        if now == before && now.is_some_and(|(_, sleeps)| sleeps) {
            break;
        }
        before = now;
    }
    rounds(&mut pool, 2000);
    assert_eq!(thread("compute-39"), before);
    pool.limit(40);
    rounds(&mut pool, 10);
}

#[test]
fn a_panic_in_a_helper_reaches_the_caller_and_the_pool_goes_on() {
    let mut pool = Pool::new(2);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(64, &|n| assert!(n != 40, "on purpose"));
    }));
    assert!(caught.is_err());
}

#[test]
fn a_panic_of_caller_and_helper_at_once_is_one_panic_and_the_next_round_is_sound() {
    let mut pool = Pool::new(2);
    for _ in 0..20 {
        let arrived = AtomicU32::new(0);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Two items, each of which waits for the other: so both threads have one.
            pool.run(2, &|_| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                panic!("on purpose");
            });
        }));
        assert!(caught.is_err());
        let sum = AtomicU32::new(0);
        pool.run(100, &|n| {
            sum.fetch_add(n as u32, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
    }
}

#[test]
fn many_short_rounds_of_any_size_lose_no_item() {
    let mut pool = Pool::new(3);
    for round in 0..20_000usize {
        let items = 2 + round % 7;
        let sum = AtomicU32::new(0);
        pool.run(items, &|n| {
            sum.fetch_add(1 << (4 * n), Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 0x1111_1111 >> (4 * (8 - items)));
    }
}

//! Threads that wait for work in common: they look for it briefly, then yield the processor, then sleep. A worker that
//! spins on would take the processor from the other models of this machine.

#![expect(unsafe_code, reason = "the closure of one call is lent to threads that outlive it")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Looks before it yields; about 10 microseconds.
const SPINS: u32 = 300;
/// Yields before it sleeps.
const YIELDS: u32 = 40;

/// The work of one call, with its lifetime taken off.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync + 'static));

// SAFETY: the closure behind the pointer is Sync, and `run` outlives every use of it.
unsafe impl Send for Task {}

struct Shared {
    /// Grows by one for each call.
    round: AtomicUsize,
    next: AtomicUsize,
    items: AtomicUsize,
    /// Helpers that are at this round's work. One that comes late finds no task, and nobody waits for it.
    busy: AtomicUsize,
    /// Threads that may compute, the caller's included; helpers beyond it leave the round to the others.
    limit: AtomicUsize,
    panicked: AtomicBool,
    desk: Mutex<Desk>,
    wake: Condvar,
}

#[derive(Default)]
struct Desk {
    task: Option<Task>,
    sleeping: usize,
    leave: bool,
}

/// The calling thread and its helpers.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

fn locked(shared: &Shared) -> MutexGuard<'_, Desk> {
    shared.desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool that computes with `threads` threads, the caller's included. If the system has none to give, with fewer.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            limit: AtomicUsize::new(threads.max(1)),
            panicked: AtomicBool::new(false),
            desk: Mutex::new(Desk::default()),
            wake: Condvar::new(),
        });
        let helpers = (1..threads)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                let name = format!("compute-{number}");
                std::thread::Builder::new()
                    .name(name)
                    .stack_size(512 << 10)
                    .spawn(move || help(&shared, number))
                    .ok()
            })
            .collect();
        Self { shared, helpers }
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.limit.load(Ordering::Relaxed).min(self.helpers.len() + 1)
    }

    /// Computes with so many threads from now on, at least one and at most those that it began with.
    pub fn limit(&mut self, threads: usize) {
        self.shared.limit.store(threads.max(1), Ordering::Relaxed);
    }

    /// Calls `work` once for each number below `items`, on all threads; returns when all are done.
    pub fn run(&mut self, items: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.threads() < 2 || items < 2 {
            (0..items).for_each(work);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. A helper takes the task from the desk and counts itself into `busy` under one
        // lock; `Close` takes it off the desk and waits for `busy` to be 0, also when `work` panics here.
        let task = Task(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                work,
            )
        });
        let sleeping = {
            let mut desk = locked(shared);
            desk.task = Some(task);
            shared.next.store(0, Ordering::Relaxed);
            shared.items.store(items, Ordering::Relaxed);
            shared.round.fetch_add(1, Ordering::Release);
            desk.sleeping
        };
        if sleeping > 0 {
            shared.wake.notify_all();
        }
        {
            let _close = Close(shared);
            take(shared, work);
        }
        assert!(!shared.panicked.swap(false, Ordering::AcqRel), "a compute thread panicked");
    }

    /// Cuts `out` into pieces of `size` and gives each, with its number, to `work`, on all threads; `share` pieces at a time.
    pub fn each_mut<T: Send>(
        &mut self,
        out: &mut [T],
        size: usize,
        share: usize,
        work: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let pieces = out.len().div_ceil(size);
        let out = Cut::new(out);
        self.run(pieces.div_ceil(share), &|item| {
            for number in item * share..((item + 1) * share).min(pieces) {
                // SAFETY: each piece is in one share, and each share is one thread's.
                work(number, unsafe { out.piece(number, size) });
            }
        });
    }
}

/// A slice whose pieces several threads write to.
pub(crate) struct Cut<'a, T> {
    start: *mut T,
    length: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: who takes a piece promises that nobody else has it; so it is as if the pieces had been sent.
unsafe impl<T: Send> Sync for Cut<'_, T> {}

impl<'a, T> Cut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), borrow: std::marker::PhantomData }
    }

    /// The `number`th piece of `size`; the last may be shorter.
    ///
    /// # Safety
    /// While it is in use, no piece that overlaps it may be taken.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that pieces do not overlap")]
    pub(crate) unsafe fn piece(&self, number: usize, size: usize) -> &mut [T] {
        let from = (number * size).min(self.length);
        let to = (from + size).min(self.length);
        // SAFETY: the range lies in the slice that `new` borrowed for as long as this lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }
}

/// Ends a round when it goes: no helper may begin, and those that have begun are waited for.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        locked(self.0).task = None;
        let mut looks = 0u32;
        while self.0.busy.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

fn take(shared: &Shared, work: &(dyn Fn(usize) + Sync)) {
    let items = shared.items.load(Ordering::Relaxed);
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= items {
            return;
        }
        work(number);
    }
}

fn help(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut looks = 0;
        while shared.round.load(Ordering::Acquire) == seen && looks < SPINS + YIELDS {
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let task = {
            let mut desk = locked(shared);
            while shared.round.load(Ordering::Acquire) == seen && !desk.leave {
                desk.sleeping += 1;
                desk = shared.wake.wait(desk).unwrap_or_else(PoisonError::into_inner);
                desk.sleeping -= 1;
            }
            if desk.leave {
                return;
            }
            seen = shared.round.load(Ordering::Acquire);
            // The limit was set by the caller of this round, before it put the task on the desk.
            let mine = desk.task.filter(|_| number < shared.limit.load(Ordering::Relaxed));
            if mine.is_some() {
                shared.busy.fetch_add(1, Ordering::Relaxed);
            }
            mine
        };
        let Some(Task(work)) = task else { continue };
        // SAFETY: this helper is counted in `busy`, and the round's caller waits until that is 0.
        let work = unsafe { &*work };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(shared, work))).is_err() {
            shared.panicked.store(true, Ordering::Release);
        }
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.shared).leave = true;
        self.shared.wake.notify_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

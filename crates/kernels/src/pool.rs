//! Threads that wait for work in common: they look for it briefly, then yield the processor, then sleep. A worker that
//! spins on would take the processor from the other models of this machine.

#![expect(unsafe_code, reason = "the closure of one call is lent to threads that outlive it")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::ahead::{Ahead, Places};

/// Looks before it yields; about 10 microseconds.
const SPINS: u32 = 300;
/// Yields before it sleeps.
const YIELDS: u32 = 40;
/// Bits of a ticket that count items; those above count rounds.
const ITEM_BITS: u32 = 24;
/// The item of a ticket whose round is over: behind every one that any round has.
const OVER: u64 = (1 << ITEM_BITS) - 1;

/// The work of one call.
struct Call<'a> {
    work: &'a (dyn Fn(usize) + Sync),
}

/// A place that shares its cache lines with nothing else: what one thread writes often must not slow what others read.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// Each thread's.
    ahead: Box<[Apart<Ahead>]>,
    /// Grows by one for each call; written when all of the round is.
    number: Apart<AtomicU64>,
    /// Each thread's: the round, and the next of its items that nobody has taken.
    tickets: Box<[Apart<AtomicU64>]>,
    /// What this round is; written before its tickets.
    round: Apart<Round>,
    /// Items that helpers have done in this round.
    done: Apart<AtomicUsize>,
    sleeping: Apart<AtomicUsize>,
    desk: Mutex<Desk>,
    /// Work has come.
    wake: Condvar,
    /// More threads may compute. Until then, helpers beyond the limit sleep, whatever work comes.
    more: Condvar,
}

struct Round {
    call: AtomicPtr<Call<'static>>,
    /// See [`Sizes`].
    sizes: AtomicU64,
    /// Threads that may compute, the caller's included; helpers beyond it sleep.
    limit: AtomicUsize,
    panicked: AtomicBool,
}

impl Shared {
    fn may_compute(&self, number: usize) -> bool {
        number < self.round.0.limit.load(Ordering::Relaxed)
    }

    /// Takes the next item of a round, if the round goes on and has one: one of those of the `number`th thread, or, when these
    /// are gone, one of another's.
    fn take(&self, number: usize, round: u64, sizes: Sizes) -> Option<usize> {
        (0..sizes.threads)
            .map(|step| (number + step) % sizes.threads)
            .find_map(|whose| take(&self.tickets[whose].0, round, sizes.first_of(whose + 1)))
    }
}

/// Takes the next item of a ticket that is before `end`.
fn take(ticket: &AtomicU64, round: u64, end: usize) -> Option<usize> {
    let mut now = ticket.load(Ordering::Acquire);
    loop {
        let item = (now & OVER) as usize;
        if now >> ITEM_BITS != round || item >= end {
            return None;
        }
        match ticket.compare_exchange_weak(now, now + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(item),
            Err(other) => now = other,
        }
    }
}

/// How many items a round has, and how many threads share them. Each has those that follow each other: what lies together in
/// memory is read by one thread, which the memory rewards (41 GB/s with two threads here; 27 where they take turns at 12 kB).
#[derive(Clone, Copy)]
struct Sizes {
    items: usize,
    threads: usize,
}

impl Sizes {
    /// The first item of a thread's own, and the end of the one's before it.
    fn first_of(self, thread: usize) -> usize {
        self.items * thread / self.threads
    }

    fn packed(self) -> u64 {
        (self.threads << ITEM_BITS | self.items) as u64
    }

    fn of(packed: u64) -> Self {
        Self { items: (packed & OVER) as usize, threads: (packed >> ITEM_BITS) as usize }
    }
}

#[derive(Default)]
struct Desk {
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
            ahead: (0..threads.max(1)).map(|_| Apart(Ahead::default())).collect(),
            number: Apart(AtomicU64::new(0)),
            tickets: (0..threads.max(1)).map(|_| Apart(AtomicU64::new(0))).collect(),
            round: Apart(Round {
                call: AtomicPtr::new(std::ptr::null_mut()),
                sizes: AtomicU64::new(Sizes { items: 0, threads: 1 }.packed()),
                limit: AtomicUsize::new(threads.max(1)),
                panicked: AtomicBool::new(false),
            }),
            done: Apart(AtomicUsize::new(0)),
            sleeping: Apart(AtomicUsize::new(0)),
            desk: Mutex::new(Desk::default()),
            wake: Condvar::new(),
            more: Condvar::new(),
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
        self.shared.round.0.limit.load(Ordering::Relaxed).min(self.helpers.len() + 1)
    }

    /// The items that are first of all a thread's own, of so many.
    pub(crate) fn own(&self, items: usize, thread: usize) -> Range<usize> {
        let sizes = Sizes { items, threads: self.threads() };
        sizes.first_of(thread)..sizes.first_of(thread + 1)
    }

    /// What a thread will read after the next call: it asks for it while it waits.
    pub(crate) fn expect(&mut self, thread: usize, places: Places) {
        if let Some(Apart(ahead)) = self.shared.ahead.get(thread) {
            ahead.set(places);
        }
    }

    /// Computes with so many threads from now on, at least one and at most those that it began with.
    pub fn limit(&mut self, threads: usize) {
        let _desk = locked(&self.shared);
        self.shared.round.0.limit.store(threads.max(1), Ordering::Relaxed);
        self.shared.more.notify_all();
    }

    /// Calls `work` once for each number below `items`, on all threads; returns when all are done. A helper that comes late
    /// finds nothing left, and nobody waits for it.
    pub fn run(&mut self, items: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.threads() < 2 || items < 2 {
            (0..items).for_each(work);
            return;
        }
        assert!(items < 1 << ITEM_BITS, "too many items in one call");
        let shared = &*self.shared;
        let mut call = Call { work };
        let sizes = Sizes { items, threads: self.threads() };
        shared.done.0.store(0, Ordering::Relaxed);
        // Whoever sees these sizes sees that the round before them is over.
        shared.round.0.sizes.store(sizes.packed(), Ordering::Release);
        // The lifetime goes here. Nobody looks at the call but who has taken one of its items, and below all items are
        // waited for, also when `work` panics.
        shared.round.0.call.store((&raw mut call).cast(), Ordering::Relaxed);
        let round = shared.number.0.load(Ordering::Relaxed) + 1;
        for (thread, ticket) in shared.tickets.iter().enumerate().take(sizes.threads) {
            ticket.0.store(round << ITEM_BITS | sizes.first_of(thread) as u64, Ordering::Release);
        }
        // In one order with what a helper does before it sleeps: either it sees the round, or it is seen here.
        shared.number.0.store(round, Ordering::SeqCst);
        if shared.sleeping.0.load(Ordering::SeqCst) > 0 {
            // Under the lock, since one that looked before this round is not asleep yet.
            drop(locked(shared));
            shared.wake.notify_all();
        }
        let mut mine = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            while let Some(item) = shared.take(0, round, sizes) {
                mine += 1;
                work(item);
            }
        }));
        // After a panic, what nobody has begun is not begun.
        while shared.take(0, round, sizes).is_some() {
            mine += 1;
        }
        let mut looks = 0u32;
        while shared.done.0.load(Ordering::Acquire) + mine < items {
            looks += 1;
            if looks < SPINS { shared.ahead[0].0.ask_and_pause() } else { std::thread::yield_now() }
        }
        // A helper that wakes up in this round only after it may read the next one's sizes: to it, too, nothing is left.
        for ticket in shared.tickets.iter().take(sizes.threads) {
            ticket.0.store(round << ITEM_BITS | OVER, Ordering::Release);
        }
        let panicked = shared.round.0.panicked.swap(false, Ordering::AcqRel);
        if let Err(cause) = result {
            resume_unwind(cause);
        }
        assert!(!panicked, "a compute thread panicked");
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

fn help(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut looks = 0;
        while shared.number.0.load(Ordering::Acquire) == seen
            && looks < SPINS + YIELDS
            && shared.may_compute(number)
        {
            looks += 1;
            if looks < SPINS { shared.ahead[number].0.ask_and_pause() } else { std::thread::yield_now() }
        }
        if !shared.may_compute(number) || shared.number.0.load(Ordering::Acquire) == seen {
            if !sleep(shared, number, seen) {
                return;
            }
            continue;
        }
        seen = shared.number.0.load(Ordering::Acquire);
        work(shared, number, seen);
    }
}

/// Until there is a round after `seen` that this helper may work on, or all leave; whether to go on.
fn sleep(shared: &Shared, number: usize, seen: u64) -> bool {
    let mut desk = locked(shared);
    while !desk.leave && !shared.may_compute(number) {
        desk = shared.more.wait(desk).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleeping.0.fetch_add(1, Ordering::SeqCst);
    while !desk.leave && shared.may_compute(number) && shared.number.0.load(Ordering::SeqCst) == seen {
        desk = shared.wake.wait(desk).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleeping.0.fetch_sub(1, Ordering::Relaxed);
    !desk.leave
}

/// Does what is left of a round.
fn work(shared: &Shared, number: usize, round: u64) {
    /// Counts when it goes, also in a panic: the caller waits for every item that was taken.
    struct Done<'a>(&'a AtomicUsize, usize);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            if self.1 > 0 {
                self.0.fetch_add(self.1, Ordering::Release);
            }
        }
    }
    // These may be of a later round already. Then nothing can be taken by the number of this one: it was over before they
    // were written.
    let sizes = Sizes::of(shared.round.0.sizes.load(Ordering::Acquire));
    let call = shared.round.0.call.load(Ordering::Relaxed);
    let mut done = Done(&shared.done.0, 0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        while let Some(item) = shared.take(number, round, sizes) {
            done.1 += 1;
            // SAFETY: an item of this round was taken, and its caller waits until `done` has counted it. So `sizes` and
            // `call`, which were read before, are this round's: they are overwritten only after that wait.
            (unsafe { &*call }.work)(item);
        }
    }));
    if result.is_err() {
        shared.round.0.panicked.store(true, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.shared).leave = true;
        self.shared.wake.notify_all();
        self.shared.more.notify_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests;

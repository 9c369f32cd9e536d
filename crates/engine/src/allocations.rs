//! Counts the allocations of each thread and their bytes, for the tests that a step makes none and that a model takes what is
//! said.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one passes everything on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread so far.
pub(crate) fn so_far() -> u64 {
    COUNT.get()
}

/// Bytes that this thread has allocated and not freed, less those that it freed for others.
pub(crate) fn bytes() -> i64 {
    BYTES.get()
}

fn add(more: usize, less: usize) {
    BYTES.set(BYTES.get() + more as i64 - less as i64);
}

// SAFETY: every call goes to the system's allocator as it came; the counters are plain cells without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        add(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(0, layout.size());
        // SAFETY: the caller's promise; it came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        add(size, layout.size());
        // SAFETY: the caller's promise; it came from the system's allocator.
        unsafe { System.realloc(at, layout, size) }
    }
}

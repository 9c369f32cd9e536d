//! Numbers that begin where a line of the cache does, so that no vector lies on two of them.

#![expect(unsafe_code, reason = "a view of plain bytes as plain numbers")]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Numbers for which any bytes are a value.
pub(crate) trait Number: Copy {}
impl Number for i8 {}
impl Number for i32 {}
impl Number for f32 {}

/// A vector of numbers, in whole lines.
#[derive(Clone, Debug)]
pub(crate) struct Lines<T> {
    lines: Vec<Line>,
    length: usize,
    of: PhantomData<T>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), length: 0, of: PhantomData }
    }
}

impl<T: Number> Lines<T> {
    const fn lines_of(count: usize) -> usize {
        (count * size_of::<T>()).div_ceil(size_of::<Line>())
    }

    /// Becomes so long; what is new is zero or what it was when it was last within the length.
    pub(crate) fn resize(&mut self, length: usize) {
        self.lines.resize(Self::lines_of(length), Line([0; 64]));
        self.length = length;
    }

    /// Makes room for so many in all.
    pub(crate) fn reserve(&mut self, length: usize) {
        self.lines.reserve_exact(Self::lines_of(length).saturating_sub(self.lines.len()));
    }
}

impl<T: Number> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold `length` numbers, for which any bytes are a value.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: Number> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

//! [`SharedMemory`]: memory that another domain may read and write at any moment.
//!
//! Such memory is only ever reached by relaxed atomic accesses or stronger ones: those are the accesses that Rust allows
//! to race, they are never repeated, split, merged or invented by the compiler, and they cost nothing, since on x86 each
//! is one plain `mov`. A reference or `copy_nonoverlapping` would be undefined here (a data race).

mod copy;

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

pub use copy::{copy_from_shared, copy_to_shared};

/// A piece of memory that another domain, or Xen, may access at any moment; it is mapped for `'a`.
///
/// What is read may be another value the next time: read each word once, and judge the copy. Every access is checked
/// against the bounds. An offset is the caller's own number, never a peer's: one that is out of bounds is a bug here, and a
/// panic.
///
/// ```
/// use std::sync::atomic::Ordering;
/// use xen9p::xen::shared::SharedMemory;
///
/// /// Reads a message whose length the peer has written in front of it.
/// fn message(ring: SharedMemory<'_>) -> Option<Vec<u8>> {
///     let length = ring.word::<u32>(0).load(Ordering::Acquire) as usize;
///     let mut message = vec![0; Some(length).filter(|&length| length <= ring.len() - 4)?];
///     ring.copy_out(4, &mut message);
///     Some(message)
/// }
/// ```
#[derive(Clone, Copy)]
pub struct SharedMemory<'a> {
    start: NonNull<u8>,
    len: usize,
    mapped: PhantomData<&'a AtomicU8>,
}

impl<'a> SharedMemory<'a> {
    /// The `len` bytes at `start`.
    ///
    /// # Safety
    /// They are mapped read-write for `'a`, and this domain accesses them meanwhile by this type or by atomic accesses
    /// only.
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        SharedMemory {
            start,
            len,
            mapped: PhantomData,
        }
    }

    /// The first byte's address, for page tables and the like.
    pub const fn as_ptr(self) -> NonNull<u8> {
        self.start
    }

    /// Size in bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where the byte at `offset` is.
    ///
    /// # Panics
    /// The `len` bytes from there on are not all in this memory.
    #[inline]
    fn at(self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "access beyond the end of shared memory"
        );
        // SAFETY: `offset` is not beyond the end, by the check.
        unsafe { self.start.add(offset) }
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Panics
    /// They are not all in this memory.
    pub fn subslice(self, offset: usize, len: usize) -> Self {
        SharedMemory {
            start: self.at(offset, len),
            len,
            mapped: PhantomData,
        }
    }

    /// The word at `offset`, which both sides access atomically.
    ///
    /// # Panics
    /// It is not in this memory, or not aligned.
    #[inline]
    pub fn word<T: Word>(self, offset: usize) -> SharedWord<'a, T> {
        let at = self.at(offset, size_of::<T>()).cast::<T::Atomic>();
        assert!(
            at.is_aligned(),
            "access to a misaligned word of shared memory"
        );
        SharedWord {
            at,
            mapped: PhantomData,
        }
    }

    /// Copies the bytes from `offset` on to `into`, reading each exactly once.
    ///
    /// # Panics
    /// They are not all in this memory.
    #[inline]
    pub fn copy_out(self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: mapped for `'a`, by the contract of `new`, and as many bytes as are in this memory.
        unsafe { copy_from_shared(from, into) };
    }

    /// Copies `from` to the bytes from `offset` on, writing each exactly once.
    ///
    /// # Panics
    /// They are not all in this memory.
    #[inline]
    pub fn copy_in(self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: as in `copy_out`.
        unsafe { copy_to_shared(from, to) };
    }

    /// As [`copy_out`](Self::copy_out), for a ring: after the last byte comes the first.
    ///
    /// # Panics
    /// `offset` is not in this memory, or `into` is larger than it.
    #[inline]
    pub fn copy_out_around(self, offset: usize, into: &mut [u8]) {
        if offset < self.len && into.len() <= self.len - offset {
            // SAFETY: as in `copy_in_around`.
            return unsafe { copy_from_shared(self.start.add(offset), into) };
        }
        self.copy_out_twice(offset, into);
    }

    /// [`copy_out_around`](Self::copy_out_around) for what goes beyond the end.
    #[inline(never)]
    fn copy_out_twice(self, offset: usize, into: &mut [u8]) {
        let (first, rest) = into.split_at_mut(self.until_end(offset, into.len()));
        self.copy_out(offset, first);
        self.copy_out(0, rest);
    }

    /// As [`copy_in`](Self::copy_in), for a ring: after the last byte comes the first.
    ///
    /// # Panics
    /// `offset` is not in this memory, or `from` is larger than it.
    #[inline]
    pub fn copy_in_around(self, offset: usize, from: &[u8]) {
        if offset < self.len && from.len() <= self.len - offset {
            // SAFETY: `offset` and as many bytes from there on are in this memory; it is mapped for `'a`, by the contract of
            // `new`.
            return unsafe { copy_to_shared(from, self.start.add(offset)) };
        }
        self.copy_in_twice(offset, from);
    }

    /// [`copy_in_around`](Self::copy_in_around) for what goes beyond the end.
    #[inline(never)]
    fn copy_in_twice(self, offset: usize, from: &[u8]) {
        let (first, rest) = from.split_at(self.until_end(offset, from.len()));
        self.copy_in(offset, first);
        self.copy_in(0, rest);
    }

    /// How many of `len` bytes from `offset` on come before the end.
    #[inline]
    fn until_end(self, offset: usize, len: usize) -> usize {
        assert!(
            offset < self.len && len <= self.len,
            "access beyond the end of a ring in shared memory"
        );
        len.min(self.len - offset)
    }
}

impl fmt::Debug for SharedMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({:?}, {} bytes)", self.start, self.len)
    }
}

/// A word of [`SharedMemory`]. Both sides access it atomically.
pub struct SharedWord<'a, T: Word> {
    at: NonNull<T::Atomic>,
    mapped: PhantomData<&'a T::Atomic>,
}

impl<T: Word> Clone for SharedWord<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Word> Copy for SharedWord<'_, T> {}

impl<T: Word> SharedWord<'_, T> {
    #[inline]
    fn atomic(&self) -> &T::Atomic {
        // SAFETY: mapped for longer than `self` lives and aligned, by the check in `SharedMemory::word`; what an atomic
        // refers to may change at any time.
        unsafe { self.at.as_ref() }
    }

    /// Reads the word. With [`Ordering::Acquire`], what the other side wrote before it wrote this value is seen
    /// afterwards.
    ///
    /// # Panics
    /// `order` is one of stores.
    #[inline]
    pub fn load(&self, order: Ordering) -> T {
        T::load(self.atomic(), order)
    }

    /// Writes the word. With [`Ordering::Release`], who sees this value sees what was written before.
    ///
    /// # Panics
    /// `order` is one of loads.
    #[inline]
    pub fn store(&self, value: T, order: Ordering) {
        T::store(self.atomic(), value, order);
    }

    /// Writes the word so that it is visible, with all that was written before, ahead of whatever is read next: of two
    /// sides that each write a word, read the other's, and then perhaps go to sleep, one sees what the other wrote.
    #[inline]
    pub fn publish(&self, value: T) {
        self.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Writes `new` if the word is `current`, in one step. Returns what the word was; as an error, if it was another.
    ///
    /// # Errors
    /// The word is another.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        T::compare_exchange(self.atomic(), current, new)
    }

    /// Sets `bits`, in one step, and returns what the word was.
    #[inline]
    pub fn fetch_or(&self, bits: T) -> T {
        T::fetch_or(self.atomic(), bits)
    }

    /// Keeps only `bits`, in one step, and returns what the word was.
    #[inline]
    pub fn fetch_and(&self, bits: T) -> T {
        T::fetch_and(self.atomic(), bits)
    }
}

impl<T: Word> fmt::Debug for SharedWord<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedWord({:?})", self.at)
    }
}

mod sealed {
    use core::sync::atomic::Ordering;

    pub trait Atomically: Copy + 'static {
        type Atomic;
        fn load(word: &Self::Atomic, order: Ordering) -> Self;
        fn store(word: &Self::Atomic, value: Self, order: Ordering);
        fn compare_exchange(word: &Self::Atomic, current: Self, new: Self) -> Result<Self, Self>;
        fn fetch_or(word: &Self::Atomic, bits: Self) -> Self;
        fn fetch_and(word: &Self::Atomic, bits: Self) -> Self;
    }
}

/// A type of words that a processor accesses in one step: `u8`, `u16`, `u32` and `u64`.
pub trait Word: sealed::Atomically {}

macro_rules! words {
    ($($word:ident $atomic:ident)*) => {$(
        impl Word for $word {}

        impl sealed::Atomically for $word {
            type Atomic = $atomic;

            #[inline]
            fn load(word: &$atomic, order: Ordering) -> Self {
                word.load(order)
            }

            #[inline]
            fn store(word: &$atomic, value: Self, order: Ordering) {
                word.store(value, order);
            }

            #[inline]
            fn compare_exchange(word: &$atomic, current: Self, new: Self) -> Result<Self, Self> {
                word.compare_exchange(current, new, Ordering::SeqCst, Ordering::Acquire)
            }

            #[inline]
            fn fetch_or(word: &$atomic, bits: Self) -> Self {
                word.fetch_or(bits, Ordering::SeqCst)
            }

            #[inline]
            fn fetch_and(word: &$atomic, bits: Self) -> Self {
                word.fetch_and(bits, Ordering::SeqCst)
            }
        }
    )*};
}

words! { u8 AtomicU8 u16 AtomicU16 u32 AtomicU32 u64 AtomicU64 }

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::vec::Vec;

    #[repr(align(64))]
    struct Bytes([u8; 64]);

    /// 64 bytes, 0 to 63; the test never frees them.
    fn memory() -> SharedMemory<'static> {
        let mut bytes = Box::new(Bytes([0; 64]));
        for (index, byte) in bytes.0.iter_mut().enumerate() {
            *byte = index as u8;
        }
        let start = NonNull::from(Box::leak(bytes)).cast();
        // SAFETY: never freed, and used here alone.
        unsafe { SharedMemory::new(start, 64) }
    }

    fn content(memory: SharedMemory<'_>) -> Vec<u8> {
        let mut bytes = std::vec![0; memory.len()];
        memory.copy_out(0, &mut bytes);
        bytes
    }

    #[track_caller]
    fn refused<T>(access: impl FnOnce() -> T) {
        assert!(catch_unwind(AssertUnwindSafe(access)).is_err());
    }

    #[test]
    fn nothing_out_of_bounds_is_accessed() {
        let memory = memory();
        let middle = memory.subslice(16, 32);
        let before = content(memory);
        let mut bytes = [0; 40];
        for (offset, len) in [
            (0, 33),
            (1, 32),
            (32, 1),
            (33, 0),
            (usize::MAX, 2),
            (usize::MAX, 0),
        ] {
            refused(|| middle.subslice(offset, len));
            refused(|| middle.copy_out(offset, &mut bytes[..len]));
            refused(|| middle.copy_in(offset, &bytes[..len]));
        }
        for (offset, len) in [(32, 0), (0, 33), (31, 33), (usize::MAX, 1)] {
            refused(|| middle.copy_out_around(offset, &mut bytes[..len]));
            refused(|| middle.copy_in_around(offset, &bytes[..len]));
        }
        for offset in [32, 36, usize::MAX - 3] {
            refused(|| middle.word::<u32>(offset));
        }
        refused(|| middle.word::<u64>(28));
        assert_eq!(content(memory), before);
        middle.copy_in(32, &[]);
        assert!(middle.subslice(32, 0).is_empty());
    }

    #[test]
    fn a_misaligned_word_is_refused() {
        let memory = memory();
        for offset in 1..8 {
            refused(|| memory.word::<u64>(offset));
            // The address counts, not the offset.
            let shifted = memory.subslice(offset, 32);
            let by_four = offset.is_multiple_of(4);
            assert_eq!(
                catch_unwind(AssertUnwindSafe(|| shifted.word::<u32>(0))).is_ok(),
                by_four
            );
        }
        assert_eq!(
            memory.subslice(4, 8).word::<u32>(4).load(Ordering::Relaxed),
            0x0b0a_0908
        );
        assert_eq!(
            memory.subslice(3, 8).word::<u8>(4).load(Ordering::Relaxed),
            7
        );
    }

    #[test]
    fn pieces_go_around_the_end() {
        let ring = memory().subslice(16, 8);
        for offset in 0..8 {
            for len in 0..=8 {
                let data: Vec<u8> = (0..len).map(|i| 100 + (offset * 8 + i) as u8).collect();
                ring.copy_in_around(offset, &data);
                let mut back = std::vec![0; len];
                ring.copy_out_around(offset, &mut back);
                assert_eq!(back, data);
                let plain = content(ring);
                for (index, byte) in data.iter().enumerate() {
                    assert_eq!(plain[(offset + index) % 8], *byte);
                }
            }
        }
    }

    #[test]
    fn words_take_every_order_that_makes_sense() {
        let word = memory().word::<u32>(8);
        for (value, order) in [Ordering::Relaxed, Ordering::Release, Ordering::SeqCst]
            .into_iter()
            .enumerate()
        {
            word.store(value as u32, order);
            for order in [Ordering::Relaxed, Ordering::Acquire, Ordering::SeqCst] {
                assert_eq!(word.load(order), value as u32);
            }
        }
        word.publish(7);
        assert_eq!(word.compare_exchange(6, 1), Err(7));
        assert_eq!(word.compare_exchange(7, 6), Ok(7));
        assert_eq!(word.fetch_and(3), 6);
        assert_eq!(word.fetch_or(5), 2);
        assert_eq!(word.load(Ordering::SeqCst), 7);
        refused(|| word.load(Ordering::Release));
        refused(|| word.store(1, Ordering::Acquire));
    }
}

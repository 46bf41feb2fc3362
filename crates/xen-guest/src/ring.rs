//! Byte rings in shared memory, as xenstore and the console use them.
//!
//! Both indices run freely from 0 to 2³² − 1 and around, and are masked only to find a byte. Each
//! side owns one; ours is kept in private memory and only ever *written* to the shared page, so
//! that nothing the other side does to it has an effect. The other side's index is read once per
//! operation and must make sense.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::shared::{copy_from_shared, copy_to_shared};

/// The other side moved its index to where it can't be: more bytes in the ring than it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexLie;

/// One direction of a ring in shared memory.
#[derive(Debug)]
struct Ring {
    bytes: NonNull<u8>,
    size: u32,
    /// The index that we move, in the shared page.
    shared: NonNull<AtomicU32>,
    /// The index that the other side moves, in the shared page.
    theirs: NonNull<AtomicU32>,
    /// The index that we move.
    own: u32,
}

impl Ring {
    /// # Safety
    /// See [`Producer::new`].
    unsafe fn new(
        bytes: NonNull<u8>,
        size: u32,
        shared: NonNull<u32>,
        theirs: NonNull<u32>,
    ) -> Self {
        assert!(size.is_power_of_two(), "ring sizes are powers of two");
        let shared = shared.cast::<AtomicU32>();
        // SAFETY: valid and aligned for as long as the ring lives (caller); both sides access it
        // atomically.
        let own = unsafe { shared.as_ref() }.load(Ordering::Acquire);
        Ring {
            bytes,
            size,
            shared,
            theirs: theirs.cast(),
            own,
        }
    }

    fn load_theirs(&self) -> u32 {
        // SAFETY: valid and aligned for as long as the ring lives; both sides access it atomically.
        unsafe { self.theirs.as_ref() }.load(Ordering::Acquire)
    }

    /// Moves our index on by `by` and shows it.
    fn publish(&mut self, by: u32) {
        self.own = self.own.wrapping_add(by);
        // SAFETY: as in `load_theirs`. SeqCst: the store is visible before whatever is read next,
        // so that of two sides that go to sleep one sees what the other did.
        unsafe { self.shared.as_ref() }.store(self.own, Ordering::SeqCst);
    }

    /// Where index `own` is in the ring, and how many bytes follow it before the end.
    fn place(&self) -> (NonNull<u8>, u32) {
        let at = self.own & (self.size - 1);
        // SAFETY: `at` is below `size`, and the ring has `size` bytes.
        (unsafe { self.bytes.add(at as usize) }, self.size - at)
    }
}

/// The sending side of a ring.
#[derive(Debug)]
pub struct Producer(Ring);

impl Producer {
    /// Takes over the sending side where its index stands.
    ///
    /// # Safety
    /// `bytes` is valid for reads and writes of `size` bytes, `shared` (the producer's index) and
    /// `theirs` (the consumer's) for aligned atomic access, all for as long as the ring is used,
    /// and only the other side of the ring uses them besides.
    ///
    /// # Panics
    /// `size` is not a power of two.
    pub unsafe fn new(
        bytes: NonNull<u8>,
        size: u32,
        shared: NonNull<u32>,
        theirs: NonNull<u32>,
    ) -> Self {
        // SAFETY: the caller vouches for exactly this.
        Producer(unsafe { Ring::new(bytes, size, shared, theirs) })
    }

    /// Bytes that could be pushed now.
    ///
    /// # Errors
    /// The other side claims to have consumed what was never sent.
    pub fn room(&self) -> Result<u32, IndexLie> {
        let queued = self.0.own.wrapping_sub(self.0.load_theirs());
        self.0.size.checked_sub(queued).ok_or(IndexLie)
    }

    /// Copies as much of `data` into the ring as there is room for, shows it to the other side,
    /// and returns how much that was. Does not notify.
    ///
    /// # Errors
    /// As [`room`](Self::room).
    pub fn push(&mut self, data: &[u8]) -> Result<usize, IndexLie> {
        let count = data.len().min(self.room()? as usize);
        let (place, before_end) = self.0.place();
        let (first, rest) = data[..count].split_at(count.min(before_end as usize));
        // SAFETY: `count` ≤ room ≤ size, so `first` fits before the end and `rest` at the start; in this domain
        // nobody else touches the ring, by the contract of `new`.
        unsafe {
            copy_to_shared(first, place);
            copy_to_shared(rest, self.0.bytes);
        }
        if count > 0 {
            self.0.publish(count as u32);
        }
        Ok(count)
    }
}

/// The receiving side of a ring.
#[derive(Debug)]
pub struct Consumer(Ring);

impl Consumer {
    /// Takes over the receiving side where its index stands.
    ///
    /// # Safety
    /// As [`Producer::new`], with `shared` the consumer's index and `theirs` the producer's.
    ///
    /// # Panics
    /// `size` is not a power of two.
    pub unsafe fn new(
        bytes: NonNull<u8>,
        size: u32,
        shared: NonNull<u32>,
        theirs: NonNull<u32>,
    ) -> Self {
        // SAFETY: the caller vouches for exactly this.
        Consumer(unsafe { Ring::new(bytes, size, shared, theirs) })
    }

    /// Bytes that could be pulled now.
    ///
    /// # Errors
    /// The other side claims to have sent more than the ring holds.
    pub fn queued(&self) -> Result<u32, IndexLie> {
        let queued = self.0.load_theirs().wrapping_sub(self.0.own);
        if queued > self.0.size {
            return Err(IndexLie);
        }
        Ok(queued)
    }

    /// Drops what is in the ring.
    ///
    /// # Errors
    /// As [`queued`](Self::queued).
    pub fn skip(&mut self) -> Result<(), IndexLie> {
        let count = self.queued()?;
        self.0.publish(count);
        Ok(())
    }

    /// Copies what is in the ring to the start of `into`, as far as it fits, gives the room back to
    /// the other side, and returns how much that was. Does not notify.
    ///
    /// # Errors
    /// As [`queued`](Self::queued).
    pub fn pull(&mut self, into: &mut [u8]) -> Result<usize, IndexLie> {
        let count = into.len().min(self.queued()? as usize);
        let (place, before_end) = self.0.place();
        let (first, rest) = into[..count].split_at_mut(count.min(before_end as usize));
        // SAFETY: `count` ≤ queued ≤ size, so `first` ends before the ring does and `rest` fits from its start; in
        // this domain nobody else touches the ring, by the contract of `new`.
        unsafe {
            copy_from_shared(place, first);
            copy_from_shared(self.0.bytes, rest);
        }
        if count > 0 {
            self.0.publish(count as u32);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::Cell;
    use std::vec::Vec;

    struct Memory {
        bytes: [Cell<u8>; 8],
        producer: Cell<u32>,
        consumer: Cell<u32>,
    }

    fn memory(start: u32) -> Memory {
        Memory {
            bytes: Default::default(),
            producer: Cell::new(start),
            consumer: Cell::new(start),
        }
    }

    fn ends(memory: &Memory) -> (Producer, Consumer) {
        let bytes = NonNull::from(&memory.bytes).cast();
        let producer = NonNull::new(memory.producer.as_ptr()).unwrap();
        let consumer = NonNull::new(memory.consumer.as_ptr()).unwrap();
        // SAFETY: cells that outlive the ends, used by nobody else but through their cells.
        unsafe {
            (
                Producer::new(bytes, 8, producer, consumer),
                Consumer::new(bytes, 8, consumer, producer),
            )
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_across_both_wraps() {
        let memory = memory(u32::MAX - 9);
        let (mut producer, mut consumer) = ends(&memory);
        let mut sent = 0u8;
        let mut got = Vec::new();
        for step in 0..40 {
            let data: Vec<u8> = (0..step % 10).map(|i| sent.wrapping_add(i)).collect();
            sent = sent.wrapping_add(producer.push(&data).unwrap() as u8);
            let mut into = [0; 5];
            let count = consumer.pull(&mut into).unwrap();
            got.extend_from_slice(&into[..count]);
        }
        let mut into = [0; 8];
        let count = consumer.pull(&mut into).unwrap();
        got.extend_from_slice(&into[..count]);
        assert_eq!(got, (0..sent).collect::<Vec<u8>>());
    }

    #[test]
    fn a_full_ring_takes_nothing_and_an_empty_one_gives_nothing() {
        let memory = memory(3);
        let (mut producer, mut consumer) = ends(&memory);
        assert_eq!(producer.push(b"0123456789"), Ok(8));
        assert_eq!(producer.push(b"x"), Ok(0));
        let mut into = [0; 16];
        assert_eq!(consumer.pull(&mut into), Ok(8));
        assert_eq!(&into[..8], b"01234567");
        assert_eq!(consumer.pull(&mut into), Ok(0));
    }

    #[test]
    fn an_index_that_lies_is_an_error_in_either_direction() {
        let memory = memory(0);
        let (mut producer, mut consumer) = ends(&memory);
        producer.push(b"abc").unwrap();
        memory.producer.set(9);
        assert_eq!(consumer.pull(&mut [0; 4]), Err(IndexLie));
        memory.producer.set(u32::MAX);
        assert_eq!(consumer.pull(&mut [0; 4]), Err(IndexLie));
        memory.consumer.set(4);
        assert_eq!(producer.push(b"x"), Err(IndexLie));
    }

    #[test]
    fn our_own_index_in_shared_memory_is_never_read_back() {
        let memory = memory(0);
        let (mut producer, mut consumer) = ends(&memory);
        producer.push(b"abc").unwrap();
        memory.consumer.set(0);
        let mut into = [0; 2];
        consumer.pull(&mut into).unwrap();
        memory.consumer.set(77);
        memory.producer.set(3);
        assert_eq!(consumer.queued(), Ok(1));
    }
}

//! Byte rings in shared memory, as xenstore and the console use them.
//!
//! Both indices run freely from 0 to 2³² − 1 and around, and are masked only to find a byte. Each
//! side owns one; ours is kept in private memory and only ever *written* to the shared page, so
//! that nothing the other side does to it has an effect. The other side's index is read once per
//! operation and must make sense.
//!
//! ```
//! use core::ptr::NonNull;
//!
//! use xen_guest::ring::{Consumer, InvalidIndex, Producer};
//! use xen_guest::shared::SharedMemory;
//!
//! // Eight bytes, and behind them the two indices.
//! let mut page = [0u64; 2];
//! // SAFETY: the array is larger than that, and is touched through this alone.
//! let page = unsafe { SharedMemory::new(NonNull::from(&mut page).cast(), 16) };
//! let bytes = page.subslice(0, 8);
//! let (produced, consumed) = (page.word(8), page.word(12));
//! let mut sender = Producer::new(bytes, produced, consumed);
//! let (produced, consumed) = (page.word(8), page.word(12));
//! let mut receiver = Consumer::new(bytes, consumed, produced);
//!
//! let mut into = [0; 5];
//! assert_eq!(sender.push(b"0123456789"), Ok(8));
//! assert_eq!(receiver.pull(&mut into), Ok(5));
//! assert_eq!((&into, sender.room()), (b"01234", Ok(5)));
//! // The other side may write what it likes; it is believed only if it makes sense.
//! page.word::<u32>(8).publish(1000);
//! assert_eq!(receiver.pull(&mut into), Err(InvalidIndex));
//! ```

use core::sync::atomic::Ordering;

use super::shared::{SharedMemory, SharedWord};

/// The other side moved its index to where it can't be: more bytes in the ring than it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidIndex;

/// One direction of a ring in shared memory.
#[derive(Debug)]
struct Ring<'a> {
    bytes: SharedMemory<'a>,
    size: u32,
    /// Where the other side sees the index that we move.
    shared: SharedWord<'a, u32>,
    /// The index that the other side moves.
    theirs: SharedWord<'a, u32>,
    /// The index that we move.
    own: u32,
}

impl<'a> Ring<'a> {
    fn new(
        bytes: SharedMemory<'a>,
        shared: SharedWord<'a, u32>,
        theirs: SharedWord<'a, u32>,
    ) -> Self {
        let size = u32::try_from(bytes.len()).unwrap_or(0);
        assert!(size.is_power_of_two(), "ring sizes are powers of two");
        Ring {
            bytes,
            size,
            own: shared.load(Ordering::Acquire),
            shared,
            theirs,
        }
    }

    fn load_theirs(&self) -> u32 {
        self.theirs.load(Ordering::Acquire)
    }

    /// Moves our index on by `by` and shows it.
    fn publish(&mut self, by: u32) {
        self.own = self.own.wrapping_add(by);
        self.shared.publish(self.own);
    }

    /// Where the byte with our index is in the ring.
    fn offset(&self) -> usize {
        (self.own & (self.size - 1)) as usize
    }
}

/// The sending side of a ring.
#[derive(Debug)]
pub struct Producer<'a>(Ring<'a>);

impl<'a> Producer<'a> {
    /// Takes over the sending side of the ring in `bytes` where its index stands: `shared` is the producer's index, `theirs` the
    /// consumer's.
    ///
    /// # Panics
    /// The size of `bytes` is not a power of two.
    pub fn new(
        bytes: SharedMemory<'a>,
        shared: SharedWord<'a, u32>,
        theirs: SharedWord<'a, u32>,
    ) -> Self {
        Producer(Ring::new(bytes, shared, theirs))
    }

    /// Bytes that could be pushed now.
    ///
    /// # Errors
    /// The other side claims to have consumed what was never sent.
    pub fn room(&self) -> Result<u32, InvalidIndex> {
        let queued = self.0.own.wrapping_sub(self.0.load_theirs());
        self.0.size.checked_sub(queued).ok_or(InvalidIndex)
    }

    /// Copies as much of `data` into the ring as there is room for, shows it to the other side,
    /// and returns how much that was. Does not notify.
    ///
    /// # Errors
    /// As [`room`](Self::room).
    pub fn push(&mut self, data: &[u8]) -> Result<usize, InvalidIndex> {
        let count = data.len().min(self.room()? as usize);
        self.0.bytes.copy_in_around(self.0.offset(), &data[..count]);
        if count > 0 {
            self.0.publish(count as u32);
        }
        Ok(count)
    }
}

/// The receiving side of a ring.
#[derive(Debug)]
pub struct Consumer<'a>(Ring<'a>);

impl<'a> Consumer<'a> {
    /// Takes over the receiving side of the ring in `bytes` where its index stands: `shared` is the consumer's index, `theirs` the
    /// producer's.
    ///
    /// # Panics
    /// The size of `bytes` is not a power of two.
    pub fn new(
        bytes: SharedMemory<'a>,
        shared: SharedWord<'a, u32>,
        theirs: SharedWord<'a, u32>,
    ) -> Self {
        Consumer(Ring::new(bytes, shared, theirs))
    }

    /// Bytes that could be pulled now.
    ///
    /// # Errors
    /// The other side claims to have sent more than the ring holds.
    pub fn queued(&self) -> Result<u32, InvalidIndex> {
        let queued = self.0.load_theirs().wrapping_sub(self.0.own);
        if queued > self.0.size {
            return Err(InvalidIndex);
        }
        Ok(queued)
    }

    /// Drops what is in the ring.
    ///
    /// # Errors
    /// As [`queued`](Self::queued).
    pub fn skip(&mut self) -> Result<(), InvalidIndex> {
        let count = self.queued()?;
        self.0.publish(count);
        Ok(())
    }

    /// Copies what is in the ring to the start of `into`, as far as it fits, gives the room back to
    /// the other side, and returns how much that was. Does not notify.
    ///
    /// # Errors
    /// As [`queued`](Self::queued).
    pub fn pull(&mut self, into: &mut [u8]) -> Result<usize, InvalidIndex> {
        let count = into.len().min(self.queued()? as usize);
        let (bytes, offset) = (self.0.bytes, self.0.offset());
        bytes.copy_out_around(offset, &mut into[..count]);
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
    use core::ptr::NonNull;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Eight bytes of a ring, and its indices.
    struct Memory {
        bytes: SharedMemory<'static>,
        producer: SharedWord<'static, u32>,
        consumer: SharedWord<'static, u32>,
    }

    fn memory(start: u32) -> Memory {
        let place = NonNull::from(Box::leak(Box::new([0_u64; 2])));
        // SAFETY: never freed, and used here alone.
        let memory = unsafe { SharedMemory::new(place.cast(), 16) };
        let (producer, consumer) = (memory.word(8), memory.word(12));
        producer.store(start, Ordering::Relaxed);
        consumer.store(start, Ordering::Relaxed);
        Memory {
            bytes: memory.subslice(0, 8),
            producer,
            consumer,
        }
    }

    fn ends(memory: &Memory) -> (Producer<'static>, Consumer<'static>) {
        let Memory {
            bytes,
            producer,
            consumer,
        } = *memory;
        (
            Producer::new(bytes, producer, consumer),
            Consumer::new(bytes, consumer, producer),
        )
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
        memory.producer.store(9, Ordering::Relaxed);
        assert_eq!(consumer.pull(&mut [0; 4]), Err(InvalidIndex));
        memory.producer.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(consumer.pull(&mut [0; 4]), Err(InvalidIndex));
        memory.consumer.store(4, Ordering::Relaxed);
        assert_eq!(producer.push(b"x"), Err(InvalidIndex));
    }

    #[test]
    fn our_own_index_in_shared_memory_is_never_read_back() {
        let memory = memory(0);
        let (mut producer, mut consumer) = ends(&memory);
        producer.push(b"abc").unwrap();
        memory.consumer.store(0, Ordering::Relaxed);
        let mut into = [0; 2];
        consumer.pull(&mut into).unwrap();
        memory.consumer.store(77, Ordering::Relaxed);
        memory.producer.store(3, Ordering::Relaxed);
        assert_eq!(consumer.queued(), Ok(1));
    }
}

//! The byte rings of a 9pfs device in this process: those of [`xen_guest::xenbus::backend::ring`], which check every word of the
//! frontend's, with what keeps their memory mapped.
//!
//! No Rust reference points into that memory: bytes go by relaxed atomic accesses, or by the kernel, which gets addresses.

use std::ptr::NonNull;
use std::sync::Arc;

use xen_guest::shared::SharedMemory;
use xen_guest::xenbus::backend::ring;

use super::gntdev::PAGE_SIZE;
use super::span::{Sink, Source, Span};

pub use ring::{Lie, MAX_ORDER};

/// The memory of a ring with both directions.
pub struct Memory {
    interface: NonNull<u8>,
    data: NonNull<u8>,
    order: u32,
    keep: Arc<dyn Send + Sync>,
}

// SAFETY: the memory is mapped for all threads as long as `keep` lives, and only `split`, which consumes this, accesses it.
unsafe impl Send for Memory {}

impl Memory {
    /// The ring whose index page is at `interface` and whose pages of data, 2^`order` of them, are at `data`.
    ///
    /// # Safety
    /// Both are valid for reads and writes and aligned to pages for as long as `keep` lives, and this process accesses
    /// them by way of this type only, which is made once for a ring.
    ///
    /// # Panics
    /// The order is not between 1 and [`MAX_ORDER`].
    pub unsafe fn new(
        interface: NonNull<u8>,
        data: NonNull<u8>,
        order: u32,
        keep: Arc<dyn Send + Sync>,
    ) -> Memory {
        assert!((1..=MAX_ORDER).contains(&order), "the order was checked");
        Memory {
            interface,
            data,
            order,
            keep,
        }
    }

    /// Both directions, beginning where their indices stand.
    pub fn split(self) -> (Requests, Replies) {
        // SAFETY: mapped for as long as `keep` lives, by the contract of `new`, and accessed by this type only. Each half of
        // the ring is stored with a clone of `keep`, is not handed out itself, and its methods give what it borrows no longer
        // life than their own borrow of the half has.
        let [interface, data] = unsafe {
            [
                SharedMemory::<'static>::new(self.interface, PAGE_SIZE),
                SharedMemory::<'static>::new(self.data, PAGE_SIZE << self.order),
            ]
        };
        let (requests, replies) = ring::split(interface, data);
        let requests = Requests {
            ring: requests,
            _keep: Arc::clone(&self.keep),
        };
        let replies = Replies {
            ring: replies,
            _keep: self.keep,
        };
        (requests, replies)
    }
}

/// What the frontend sends.
pub struct Requests {
    ring: ring::Requests<'static>,
    /// Keeps the memory mapped.
    _keep: Arc<dyn Send + Sync>,
}

// SAFETY: the memory is mapped for all threads as long as `_keep` lives; the own indices are this value's alone, and those in shared
// memory are accessed atomically.
unsafe impl Send for Requests {}

impl Requests {
    /// The size of the request at the front if all of it is there.
    ///
    /// # Errors
    /// The frontend lies about how much it has sent, or the request can never be complete.
    pub fn front(&mut self) -> Result<Option<u32>, Lie> {
        self.ring.front()
    }

    /// Copies bytes of the request at the front, from `offset` on. The first four are those that
    /// [`front`](Self::front) went by.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn copy_out(&self, offset: u32, into: &mut [u8]) {
        self.ring.copy_out(offset, into);
    }

    /// The beginning of the nth request from the front on, if all of it is there. It may be another when it is its turn.
    pub fn ahead<const LEN: usize>(&self, n: usize) -> Option<[u8; LEN]> {
        self.ring.ahead(n)
    }

    /// `len` bytes of the request at the front, from `offset` on.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn source(&self, offset: u32, len: usize) -> Source<'_> {
        Source::new(Span::new(self.ring.pieces(offset, len)))
    }

    /// Gives the room of the request at the front back to the frontend. Does not notify.
    pub fn consume(&mut self) {
        self.ring.consume();
    }

    /// Bytes that the ring holds.
    pub fn capacity(&self) -> u32 {
        self.ring.capacity()
    }
}

/// What the frontend gets.
pub struct Replies {
    ring: ring::Replies<'static>,
    /// Keeps the memory mapped.
    _keep: Arc<dyn Send + Sync>,
}

// SAFETY: as for `Requests`.
unsafe impl Send for Replies {}

impl Replies {
    /// Bytes that could be sent now.
    ///
    /// # Errors
    /// The frontend claims to have taken what was never sent.
    pub fn room(&self) -> Result<u32, Lie> {
        self.ring.room()
    }

    /// Puts bytes of the next reply into the ring, `offset` behind its beginning, without showing them. There has to be
    /// room.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn copy_in(&mut self, offset: u32, from: &[u8]) {
        self.ring.copy_in(offset, from);
    }

    /// The place of `len` bytes of the next reply, from `offset` on. There has to be room.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn sink(&mut self, offset: u32, len: usize) -> Sink<'_> {
        Sink::new(Span::new(self.ring.pieces(offset, len)))
    }

    /// Shows the next `size` bytes to the frontend, by one store. Does not notify.
    pub fn publish(&mut self, size: u32) {
        self.ring.publish(size);
    }

    /// Bytes that the ring holds.
    pub fn capacity(&self) -> u32 {
        self.ring.capacity()
    }
}

#[cfg(test)]
pub(crate) mod frontend;
#[cfg(test)]
mod tests;

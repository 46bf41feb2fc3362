//! The byte rings of a 9pfs device, seen from the backend (public/io/9pfs.h, public/io/ring.h).
//!
//! The frontend can write to all of this memory at any moment. So each of its indices is read once per use, into a local
//! that is checked; the own indices are private, and only ever written to the shared page; what is parsed was copied out
//! first; and no Rust reference points there: bytes go by relaxed atomic accesses, or by the kernel, which gets addresses.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::span::{Piece, Sink, Source, Span};

pub use xen_guest::xenbus::backend::ring::{HEADER_SIZE, Lie, MAX_ORDER};

/// One direction.
struct Ring {
    bytes: NonNull<u8>,
    size: u32,
    /// The index that this side moves, in the shared page.
    shared: NonNull<AtomicU32>,
    /// The index that the frontend moves, in the shared page.
    theirs: NonNull<AtomicU32>,
    /// The index that this side moves.
    own: u32,
    /// Keeps the memory mapped.
    _memory: Arc<dyn Send + Sync>,
}

// SAFETY: the memory is mapped for all threads as long as `_memory` lives.
unsafe impl Send for Ring {}

impl Ring {
    fn load_theirs(&self) -> u32 {
        // SAFETY: valid and aligned by the contract of `Memory::new`; both sides access it atomically.
        unsafe { self.theirs.as_ref() }.load(Ordering::Acquire)
    }

    /// Moves the own index on by `by` and shows it.
    fn publish(&mut self, by: u32) {
        self.own = self.own.wrapping_add(by);
        // SAFETY: as in `load_theirs`. SeqCst, so that the store is visible before anything is read next.
        unsafe { self.shared.as_ref() }.store(self.own, Ordering::SeqCst);
    }

    /// The two pieces, the second of them mostly empty, of `len` bytes from `offset` behind the own index on.
    fn span(&self, offset: u32, len: usize) -> Span<'_> {
        let len = u32::try_from(len).expect("a ring has less than 4 GiB");
        assert!(
            offset <= self.size && len <= self.size - offset,
            "a piece lies within the ring"
        );
        let at = self.own.wrapping_add(offset) & (self.size - 1);
        let first = len.min(self.size - at);
        // SAFETY: `at` is below `size`, and the ring has `size` bytes.
        let place = unsafe { self.bytes.add(at as usize) };
        let pieces = [
            Piece {
                at: place,
                len: first as usize,
            },
            Piece {
                at: self.bytes,
                len: (len - first) as usize,
            },
        ];
        // SAFETY: both pieces lie in the ring, which stays mapped as long as `self` is there; no Rust reference ever points
        // there.
        unsafe { Span::new(pieces) }
    }
}

/// The memory of a ring with both directions.
#[derive(Clone)]
pub struct Memory {
    interface: NonNull<u8>,
    data: NonNull<u8>,
    /// Bytes in one direction.
    size: u32,
    keep: Arc<dyn Send + Sync>,
}

// SAFETY: the memory is mapped for all threads as long as `keep` lives.
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
            size: 1 << (order + 12 - 1),
            keep,
        }
    }

    /// Both directions, beginning where their indices stand.
    pub fn split(self) -> (Requests, Replies) {
        let index = |offset: usize| -> NonNull<AtomicU32> {
            // SAFETY: within the index page.
            unsafe { self.interface.add(offset) }.cast()
        };
        let ring = |bytes, own: usize, theirs: usize| {
            let mut ring = Ring {
                bytes,
                size: self.size,
                shared: index(own),
                theirs: index(theirs),
                own: 0,
                _memory: Arc::clone(&self.keep),
            };
            // SAFETY: as in `load_theirs`.
            ring.own = unsafe { ring.shared.as_ref() }.load(Ordering::Acquire);
            ring
        };
        use std::mem::offset_of;
        use xen_abi::xen_9pfs_data_intf as Interface;
        // SAFETY: the pages of data have `size` bytes for each direction.
        let out = unsafe { self.data.add(self.size as usize) };
        let requests = ring(
            out,
            offset_of!(Interface, out_cons),
            offset_of!(Interface, out_prod),
        );
        let replies = ring(
            self.data,
            offset_of!(Interface, in_prod),
            offset_of!(Interface, in_cons),
        );
        let requests = Requests {
            ring: requests,
            size: None,
        };
        (requests, Replies { ring: replies })
    }
}

/// What the frontend sends.
pub struct Requests {
    ring: Ring,
    /// The size that the request at the front claims, once it was read.
    size: Option<u32>,
}

impl Requests {
    /// The size of the request at the front if all of it is there.
    ///
    /// # Errors
    /// The frontend lies about how much it has sent, or the request can never be complete.
    pub fn front(&mut self) -> Result<Option<u32>, Lie> {
        let queued = self.ring.load_theirs().wrapping_sub(self.ring.own);
        if queued > self.ring.size {
            return Err(Lie::Sent(queued));
        }
        let size = match self.size {
            Some(size) => size,
            None if queued < HEADER_SIZE => return Ok(None),
            None => {
                let mut bytes = [0; 4];
                self.copy_out(0, &mut bytes);
                let size = u32::from_le_bytes(bytes);
                if size < HEADER_SIZE || size > self.ring.size {
                    return Err(Lie::Size(size));
                }
                *self.size.insert(size)
            }
        };
        Ok((queued >= size).then_some(size))
    }

    /// Copies bytes of the request at the front, from `offset` on. The first four are those that
    /// [`front`](Self::front) went by.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn copy_out(&self, offset: u32, into: &mut [u8]) {
        self.source(offset, into.len()).copy_to(into);
        if let Some(size) = self.size {
            let size = size.to_le_bytes();
            for (at, byte) in (offset..).zip(into.iter_mut().take(4)) {
                if let Some(&known) = size.get(at as usize) {
                    *byte = known;
                }
            }
        }
    }

    /// The beginning of the nth request from the front on, if all of it is there. It may be another when it is its turn.
    pub fn ahead<const LEN: usize>(&self, n: usize) -> Option<[u8; LEN]> {
        let queued = self.ring.load_theirs().wrapping_sub(self.ring.own);
        let mut left = queued.min(self.ring.size);
        let mut at = 0;
        for skipped in 0..=n {
            if left < HEADER_SIZE {
                return None;
            }
            let mut size = [0; 4];
            self.source(at, size.len()).copy_to(&mut size);
            let size = u32::from_le_bytes(size);
            if size < HEADER_SIZE || size > left {
                return None;
            }
            if skipped == n {
                let mut beginning = [0; LEN];
                let is_there = size as usize >= LEN;
                is_there.then(|| self.source(at, LEN).copy_to(&mut beginning))?;
                return Some(beginning);
            }
            (at, left) = (at + size, left - size);
        }
        None
    }

    /// `len` bytes of the request at the front, from `offset` on.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn source(&self, offset: u32, len: usize) -> Source<'_> {
        Source::new(self.ring.span(offset, len))
    }

    /// Gives the room of the request at the front back to the frontend. Does not notify.
    pub fn consume(&mut self) {
        if let Some(size) = self.size.take() {
            self.ring.publish(size);
        }
    }

    /// Bytes that the ring holds.
    pub fn capacity(&self) -> u32 {
        self.ring.size
    }
}

/// What the frontend gets.
pub struct Replies {
    ring: Ring,
}

impl Replies {
    /// Bytes that could be sent now.
    ///
    /// # Errors
    /// The frontend claims to have taken what was never sent.
    pub fn room(&self) -> Result<u32, Lie> {
        let queued = self.ring.own.wrapping_sub(self.ring.load_theirs());
        let room = self.ring.size.checked_sub(queued);
        room.ok_or(Lie::Taken(queued))
    }

    /// Puts bytes of the next reply into the ring, `offset` behind its beginning, without showing them. There has to be
    /// room.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn copy_in(&mut self, offset: u32, from: &[u8]) {
        self.sink(offset, from.len()).copy_from(from);
    }

    /// The place of `len` bytes of the next reply, from `offset` on. There has to be room.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn sink(&mut self, offset: u32, len: usize) -> Sink<'_> {
        Sink::new(self.ring.span(offset, len))
    }

    /// Shows the next `size` bytes to the frontend, by one store. Does not notify.
    pub fn publish(&mut self, size: u32) {
        self.ring.publish(size);
    }

    /// Bytes that the ring holds.
    pub fn capacity(&self) -> u32 {
        self.ring.size
    }
}

#[cfg(test)]
pub(crate) mod frontend;
#[cfg(test)]
mod tests;

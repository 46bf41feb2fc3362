//! The byte rings of a 9pfs device, seen from the backend (public/io/9pfs.h, public/io/ring.h).
//!
//! The frontend can write to all of this memory at any moment. So each of its indices is read once per use, into a local
//! that is checked; the own indices are private, and only ever written to the shared page; and what is parsed was copied
//! out first.
//!
//! ```
//! use xen_guest::shared::SharedMemory;
//! use xen_guest::xenbus::backend::ring::{Lie, split};
//!
//! /// Takes the first request of a ring, if there is one, and answers with the same bytes.
//! fn echo(interface: SharedMemory<'_>, data: SharedMemory<'_>) -> Result<bool, Lie> {
//!     let (mut requests, mut replies) = split(interface, data);
//!     let Some(size) = requests.front()? else {
//!         return Ok(false);
//!     };
//!     if replies.room()? < size {
//!         return Ok(false);
//!     }
//!     let mut message = vec![0; size as usize];
//!     requests.copy_out(0, &mut message);
//!     requests.consume();
//!     replies.copy_in(0, &message);
//!     replies.publish(size);
//!     Ok(true)
//! }
//! ```

use alloc::vec::Vec;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use crate::platform::PAGE_SIZE;
use crate::shared::{SharedMemory, SharedWord};
use xen_abi::{GrantRef, xen_9pfs_data_intf as Interface};

/// Bytes of a 9P message's header: size, type, tag.
pub const HEADER_SIZE: u32 = 7;

/// The largest order of a ring: the index page has no room for the references of more pages.
pub const MAX_ORDER: u32 = 9;

/// How a frontend broke the rules of the ring. There is no going on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It claims to have sent more than the ring holds: `out_prod` less the own `out_cons`.
    Sent(u32),
    /// It claims to have taken what was never sent: the own `in_prod` less `in_cons`.
    Taken(u32),
    /// A request of this size, which is shorter than a header or longer than the ring.
    Size(u32),
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lie::Sent(count) => write!(
                f,
                "the frontend claims that {count} bytes are in the ring, which are more than it holds"
            ),
            Lie::Taken(count) => write!(
                f,
                "the frontend has moved in_cons to where {count} bytes would be left to be taken"
            ),
            Lie::Size(size) => write!(
                f,
                "the frontend sent a request of {size} bytes, which is shorter than a header or longer than the ring"
            ),
        }
    }
}

impl core::error::Error for Lie {}

/// The references of a ring's pages of data, as its index page says: each word is read once. An order that no ring has is
/// the error.
///
/// # Panics
/// `interface` is less than a page.
pub fn references(interface: SharedMemory<'_>, max_order: u32) -> Result<Vec<GrantRef>, u32> {
    let word = |offset: usize| interface.word::<u32>(offset).load(Ordering::Acquire);
    let order = word(offset_of!(Interface, ring_order));
    if !(1..=max_order.min(MAX_ORDER)).contains(&order) {
        return Err(order);
    }
    let first = offset_of!(Interface, ref_);
    let references = (0..1 << order).map(|index| GrantRef(word(first + 4 * index)));
    Ok(references.collect())
}

/// Both directions of the ring with that index page and those pages of data, beginning where their indices stand.
///
/// # Panics
/// `interface` is less than a page, or `data` is not twice a power of two long, or of less than two pages.
pub fn split<'a>(
    interface: SharedMemory<'a>,
    data: SharedMemory<'a>,
) -> (Requests<'a>, Replies<'a>) {
    assert!(data.len() >= 2 * PAGE_SIZE && data.len().is_power_of_two());
    let size = data.len() / 2;
    let ring = |bytes, own: usize, theirs: usize| {
        let (shared, theirs) = (interface.word::<u32>(own), interface.word(theirs));
        Ring {
            bytes,
            size: size as u32,
            own: shared.load(Ordering::Acquire),
            shared,
            theirs,
        }
    };
    let requests = ring(
        data.subslice(size, size),
        offset_of!(Interface, out_cons),
        offset_of!(Interface, out_prod),
    );
    let replies = ring(
        data.subslice(0, size),
        offset_of!(Interface, in_prod),
        offset_of!(Interface, in_cons),
    );
    let requests = Requests {
        ring: requests,
        size: None,
    };
    (requests, Replies { ring: replies })
}

/// One direction.
#[derive(Debug)]
struct Ring<'a> {
    bytes: SharedMemory<'a>,
    size: u32,
    /// The index that this side moves, in the shared page.
    shared: SharedWord<'a, u32>,
    /// The index that the frontend moves.
    theirs: SharedWord<'a, u32>,
    /// The index that this side moves.
    own: u32,
}

impl<'a> Ring<'a> {
    fn load_theirs(&self) -> u32 {
        self.theirs.load(Ordering::Acquire)
    }

    /// Moves the own index on by `by` and shows it.
    fn publish(&mut self, by: u32) {
        self.own = self.own.wrapping_add(by);
        self.shared.publish(self.own);
    }

    /// Where the byte `offset` behind the own index lies.
    fn at(&self, offset: u32) -> usize {
        (self.own.wrapping_add(offset) & (self.size - 1)) as usize
    }

    /// The `len` bytes from `offset` behind the own index on: two pieces, the second of them mostly empty.
    fn pieces(&self, offset: u32, len: usize) -> [SharedMemory<'a>; 2] {
        let size = self.size as usize;
        assert!(
            offset <= self.size && len <= size - offset as usize,
            "a piece lies within the ring"
        );
        let at = self.at(offset);
        let first = len.min(size - at);
        [
            self.bytes.subslice(at, first),
            self.bytes.subslice(0, len - first),
        ]
    }
}

/// What the frontend sends.
#[derive(Debug)]
pub struct Requests<'a> {
    ring: Ring<'a>,
    /// The size that the request at the front claims, once it was read.
    size: Option<u32>,
}

impl Requests<'_> {
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
        let at = self.ring.at(offset);
        self.ring.bytes.copy_out_around(at, into);
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
            let from = self.ring.at(at);
            self.ring.bytes.copy_out_around(from, &mut size);
            let size = u32::from_le_bytes(size);
            if size < HEADER_SIZE || size > left {
                return None;
            }
            if skipped == n {
                let mut beginning = [0; LEN];
                let is_there = size as usize >= LEN;
                is_there.then(|| self.ring.bytes.copy_out_around(from, &mut beginning))?;
                return Some(beginning);
            }
            (at, left) = (at + size, left - size);
        }
        None
    }

    /// Where `len` bytes of the request at the front are, from `offset` on: two pieces, the second of them mostly empty. For a
    /// kernel that moves them itself; the frontend can write there at any moment.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn pieces(&self, offset: u32, len: usize) -> [SharedMemory<'_>; 2] {
        self.ring.pieces(offset, len)
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
#[derive(Debug)]
pub struct Replies<'a> {
    ring: Ring<'a>,
}

impl Replies<'_> {
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
        let at = self.ring.at(offset);
        self.ring.bytes.copy_in_around(at, from);
    }

    /// The place of `len` bytes of the next reply, from `offset` on: two pieces, the second of them mostly empty. There has to be
    /// room.
    ///
    /// # Panics
    /// The ring has not so many bytes.
    pub fn pieces(&mut self, offset: u32, len: usize) -> [SharedMemory<'_>; 2] {
        self.ring.pieces(offset, len)
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
mod tests;

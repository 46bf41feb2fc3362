//! The frontend's end of one ring: a state machine over shared memory, without hypercalls.
//!
//! A ring is an *interface page* (indices, order, grant references of the data pages) and
//! 2^order *data pages*, of which the first half carries replies ("in") and the second half
//! requests ("out"). Source: `xen/interface/io/9pfs.h`, `xen/interface/io/ring.h` (flex rings), and
//! docs/misc/9pfs.pandoc in Xen's source.
//!
//! Indices are free-running `u32`: they wrap at 2^32, and are reduced to an offset only when bytes
//! are copied. Our own two live here, in private memory, and the shared page only ever gets copies
//! of them; the backend's two are read once per use and believed only if they make sense.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use crate::platform::{PAGE_SIZE, Page};
use crate::transport::Header;
use crate::xen::shared::{copy_from_shared, copy_to_shared};

/// Offsets in the interface page, in bytes (`struct xen_9pfs_data_intf`).
const IN_CONS: usize = 0;
const IN_PROD: usize = 4;
const OUT_CONS: usize = 64;
const OUT_PROD: usize = 68;
const RING_ORDER: usize = 128;
const REF: usize = 132;

/// Bytes of a 9P header: size\[4\] type\[1\] tag\[2\].
const HEADER: u32 = 7;

/// The size of a ring: 2^order data pages, half of them for each direction. From 1 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u8);

impl Order {
    /// The smallest ring: 4 KiB in each direction.
    pub const MIN: Order = Order(1);
    /// The largest ring: 1 MiB in each direction. More references don't fit in the interface page.
    pub const MAX: Order = Order(9);

    /// `order` if it is one of 1 to 9.
    pub const fn new(order: u8) -> Option<Order> {
        if order >= Self::MIN.0 && order <= Self::MAX.0 {
            Some(Order(order))
        } else {
            None
        }
    }

    /// The number itself.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Number of data pages, both directions together.
    pub const fn pages(self) -> NonZeroUsize {
        NonZeroUsize::new(1 << self.0).unwrap()
    }

    /// Bytes in each direction.
    pub const fn bytes(self) -> u32 {
        (PAGE_SIZE as u32 / 2) << self.0
    }

    /// The largest 9P message that leaves room for a second one: half of a direction.
    pub const fn max_message(self) -> u32 {
        self.bytes() / 2
    }
}

/// A rule that the backend broke; final for the whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

/// One ring, seen from the frontend.
///
/// What is kept here decides; the shared page is read for the backend's two indices and for the
/// replies, and for nothing else.
#[derive(Debug)]
pub struct Ring {
    interface: NonNull<Page>,
    replies: NonNull<u8>,
    requests: NonNull<u8>,
    size: u32,
    /// Largest legal reply.
    max_message: u32,
    /// Own index: requests written and published up to here.
    out_prod: u32,
    /// The backend's index as last believed: requests taken up to here.
    out_cons: u32,
    /// Own index: replies consumed up to here.
    in_cons: u32,
    /// The backend's index as last believed: replies written up to here.
    in_prod: u32,
    /// The backend's reply index when [`stirred`](Self::stirred) or `peek` last looked.
    noticed: u32,
    /// The header at `in_cons`, once read; never read again.
    arriving: Option<Header>,
    /// Sum of the worst-case replies of all outstanding requests.
    promised: u32,
    /// The backend has to be told of something.
    event_due: bool,
    broken: Option<Violation>,
}

impl Ring {
    /// Lays out a ring in fresh memory: writes the order and the start indices into the interface
    /// page. The grant references follow by [`set_grant_ref`](Self::set_grant_ref).
    ///
    /// `start` is where all indices start. A real backend needs 0 (xen-9pfsd counts from 0 whatever
    /// the page says); tests start close to the wrap.
    ///
    /// # Safety
    /// `interface` is one page and `data` is the first of [`Order::pages`] adjacent pages, all
    /// mapped read-write for as long as the `Ring` lives and used by nobody else in this domain
    /// except by atomic accesses.
    pub unsafe fn new(
        interface: NonNull<Page>,
        data: NonNull<Page>,
        order: Order,
        start: u32,
    ) -> Ring {
        let replies = data.cast::<u8>();
        let ring = Ring {
            interface,
            replies,
            // SAFETY: half of the data area is within the data area.
            requests: unsafe { replies.add(order.bytes() as usize) },
            size: order.bytes(),
            max_message: order.max_message(),
            out_prod: start,
            out_cons: start,
            in_cons: start,
            in_prod: start,
            noticed: start,
            arriving: None,
            promised: 0,
            event_due: false,
            broken: None,
        };
        for index in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
            ring.store(index, start);
        }
        ring.store(RING_ORDER, order.get().into());
        ring
    }

    /// Writes the grant reference of data page `index` into the interface page.
    ///
    /// # Panics
    /// When the ring has no such page.
    pub fn set_grant_ref(&self, index: usize, grant_ref: u32) {
        assert!(index < 2 * self.size as usize / PAGE_SIZE);
        self.store(REF + 4 * index, grant_ref);
    }

    /// Sets the largest reply that is legal from now on, in bytes; at most a direction's size.
    pub fn set_max_message(&mut self, bytes: u32) {
        self.max_message = bytes.min(self.size);
    }

    /// Whether a request of `request` bytes can be sent now, and a reply of at most `reply` bytes
    /// is sure to find room.
    ///
    /// The promised replies never add up to more than the size less one byte: QEMU takes a
    /// completely full ring for an empty one, and disconnects when a reply finds no room.
    ///
    /// # Errors
    /// The backend's index makes no sense.
    pub fn has_room(&mut self, request: u32, reply: u32) -> Result<bool, Violation> {
        self.sound()?;
        if u64::from(self.promised) + u64::from(reply) >= u64::from(self.size) {
            return Ok(false);
        }
        if request > self.free() {
            let out_cons = self.load(OUT_CONS);
            let unread = self.out_prod.wrapping_sub(out_cons);
            if unread > self.out_prod.wrapping_sub(self.out_cons) {
                return self.break_with("its request index (out_cons) went backward or too far");
            }
            self.out_cons = out_cons;
        }
        Ok(request <= self.free())
    }

    /// Sends the message that is the concatenation of `parts` and takes `reply` bytes of the reply
    /// budget. Returns whether there was room; if not, nothing has happened.
    ///
    /// The whole message becomes visible by one store: QEMU never looks again at a ring on which it
    /// has found a header without its body.
    ///
    /// # Errors
    /// The backend's index makes no sense.
    pub fn send(&mut self, parts: &[&[u8]], reply: u32) -> Result<bool, Violation> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Ok(request) = u32::try_from(len) else {
            return Ok(false);
        };
        if !self.has_room(request, reply)? {
            return Ok(false);
        }
        for part in parts {
            let (first, second) = part.split_at(part.len().min(self.until_end(self.out_prod)));
            // SAFETY: `first` ends at the end of the request area or before it, and `second` starts
            // at its beginning; together with the other parts they are no longer than the free
            // space, so they stay within the area and off what the backend has not read yet. This
            // domain has no other user of it, by the contract of `new`.
            unsafe {
                copy_to_shared(first, self.requests.add(self.offset(self.out_prod)));
                copy_to_shared(second, self.requests);
            }
            self.out_prod = self.out_prod.wrapping_add(part.len() as u32);
        }
        self.store(OUT_PROD, self.out_prod);
        self.promised += reply;
        self.event_due = true;
        Ok(true)
    }

    /// The header of the next reply, if all of it has arrived.
    ///
    /// # Errors
    /// The backend's index or the header's size makes no sense.
    pub fn peek(&mut self) -> Result<Option<Header>, Violation> {
        self.sound()?;
        if let Some(header) = self.arriving
            && header.size <= self.queued()
        {
            return Ok(Some(header));
        }
        self.refresh()?;
        if self.queued() < HEADER {
            return Ok(None);
        }
        let header = match self.arriving {
            Some(header) => header,
            None => self.read_header()?,
        };
        Ok((header.size <= self.queued()).then_some(header))
    }

    /// Copies bytes of the message that [`peek`](Self::peek) showed, from `offset` on; bytes beyond
    /// its end are 0.
    pub fn copy_out(&self, offset: u32, into: &mut [u8]) {
        let arrived = match self.arriving {
            Some(header) if header.size <= self.queued() => header.size,
            _ => 0,
        };
        let len = into.len().min(arrived.saturating_sub(offset) as usize);
        let (bytes, beyond) = into.split_at_mut(len);
        beyond.fill(0);
        if bytes.is_empty() {
            return;
        }
        let from = self.in_cons.wrapping_add(offset);
        let (first, second) = bytes.split_at_mut(len.min(self.until_end(from)));
        // SAFETY: `first` ends at the end of the reply area or before it, and `second`, shorter than
        // the area as part of a message that fits in it, starts at its beginning. In this domain
        // nobody else touches the area, by the contract of `new`.
        unsafe {
            copy_from_shared(self.replies.add(self.offset(from)), first);
            copy_from_shared(self.replies, second);
        }
    }

    /// Drops the message that [`peek`](Self::peek) showed; its room is the backend's again.
    ///
    /// The backend is only to be told when it may be waiting for room: when the ring, as the
    /// backend last could see it, had none left for a largest reply. (Within the reply budget that
    /// never holds a reply up; a server that answers at greater length than its reply should have
    /// been is still woken.)
    pub fn consume(&mut self) {
        let Some(header) = self.arriving.take_if(|h| {
            let queued = self.in_prod.wrapping_sub(self.in_cons);
            h.size <= queued
        }) else {
            return;
        };
        let before = self.in_cons;
        self.in_cons = before.wrapping_add(header.size);
        self.store(IN_CONS, self.in_cons);
        // A backend out of room writes what fits, looks at `in_cons`, and sleeps. Either it sees the
        // store above, or, the two fences being ordered, we see here what it wrote.
        fence(Ordering::SeqCst);
        let filled = self.load(IN_PROD).wrapping_sub(before);
        if filled > self.size - self.max_message {
            self.event_due = true;
        }
    }

    /// Gives back `reply` bytes of the reply budget. To be called after [`consume`](Self::consume).
    pub fn release(&mut self, reply: u32) {
        debug_assert!(reply <= self.promised, "released more than was sent");
        self.promised = self.promised.saturating_sub(reply);
    }

    /// Whether the backend has written replies since this was last asked or `peek` last looked.
    pub fn stirred(&mut self) -> bool {
        let in_prod = self.load(IN_PROD);
        core::mem::replace(&mut self.noticed, in_prod) != in_prod
    }

    /// Whether the backend has to be told of something; forgets that.
    pub fn take_event_due(&mut self) -> bool {
        core::mem::take(&mut self.event_due)
    }

    /// Bytes of the reply budget that are taken.
    pub fn promised(&self) -> u32 {
        self.promised
    }

    /// Takes over the backend's reply index if it makes sense.
    fn refresh(&mut self) -> Result<(), Violation> {
        let in_prod = self.load(IN_PROD);
        self.noticed = in_prod;
        let queued = in_prod.wrapping_sub(self.in_cons);
        if queued > self.size {
            return self
                .break_with("its reply index (in_prod) is further ahead than the ring is long");
        }
        if queued < self.queued() {
            return self.break_with("its reply index (in_prod) went backward");
        }
        self.in_prod = in_prod;
        Ok(())
    }

    /// Reads the header at `in_cons`, which has arrived, for the only time.
    fn read_header(&mut self) -> Result<Header, Violation> {
        let mut bytes = [0; HEADER as usize];
        let (first, second) = bytes.split_at_mut(self.until_end(self.in_cons).min(HEADER as usize));
        // SAFETY: as in `copy_out`.
        unsafe {
            copy_from_shared(self.replies.add(self.offset(self.in_cons)), first);
            copy_from_shared(self.replies, second);
        }
        let [s0, s1, s2, s3, kind, t0, t1] = bytes;
        let header = Header {
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            kind,
            tag: u16::from_le_bytes([t0, t1]),
        };
        if header.size < HEADER {
            return self.break_with("it sent a message shorter than a header");
        }
        if header.size > self.max_message {
            return self.break_with("it sent a message longer than the agreed msize");
        }
        self.arriving = Some(header);
        Ok(header)
    }

    /// Bytes that have arrived and are not consumed.
    fn queued(&self) -> u32 {
        self.in_prod.wrapping_sub(self.in_cons)
    }

    /// Bytes free for requests.
    fn free(&self) -> u32 {
        self.size - self.out_prod.wrapping_sub(self.out_cons)
    }

    /// Where in its half of the data area the byte with this index lies.
    fn offset(&self, index: u32) -> usize {
        (index & (self.size - 1)) as usize
    }

    /// Bytes from this index to the end of its half of the data area.
    fn until_end(&self, index: u32) -> usize {
        self.size as usize - self.offset(index)
    }

    fn sound(&self) -> Result<(), Violation> {
        self.broken.map_or(Ok(()), Err)
    }

    fn break_with<T>(&mut self, rule: &'static str) -> Result<T, Violation> {
        self.broken = Some(Violation(rule));
        Err(Violation(rule))
    }

    /// Reads a word of the interface page; what the backend wrote before it is visible afterwards.
    fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Writes a word of the interface page; what was copied before is visible to whoever sees it.
    fn store(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// A word of the interface page, for one access.
    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < PAGE_SIZE);
        // SAFETY: a word of a page that lives as long as `self` by the contract of `new`, aligned
        // since the page is; `AtomicU32` is a type whose referent may change at any time.
        unsafe { AtomicU32::from_ptr(self.interface.as_ptr().byte_add(offset).cast()) }
    }
}

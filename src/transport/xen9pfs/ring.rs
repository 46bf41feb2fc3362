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
//!
//! ```
//! use xen9p::transport::xen9pfs::ring::Order;
//!
//! let order = Order::new(6).expect("from 2 to 9");
//! assert_eq!((order.pages().get(), order.bytes()), (64, 128 << 10));
//! // Two messages of the largest size fit in a direction.
//! assert_eq!(order.max_message(), 64 << 10);
//! assert_eq!(Order::new(10), None);
//! ```

use core::mem::{self, offset_of};
use core::num::NonZeroUsize;
use core::sync::atomic::Ordering;

use crate::platform::PAGE_SIZE;
use crate::sys::xen_9pfs_data_intf;
use crate::transport::{Header, Text};
use crate::xen::grant::GrantRef;
use crate::xen::shared::{SharedMemory, SharedWord};

/// Bytes of a 9P header: size\[4\] type\[1\] tag\[2\].
const HEADER: u32 = 7;

/// The size of a ring: 2^order data pages, half of them for each direction. From 2 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u8);

impl Order {
    /// The smallest ring: 8 KiB in each direction. The protocol has a smaller one, in which no two messages of the size
    /// that every 9P session needs would fit.
    pub const MIN: Order = Order(2);
    /// The largest ring: 1 MiB in each direction. More references don't fit in the interface page.
    pub const MAX: Order = Order(9);

    /// `order` if it is one of 2 to 9.
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
pub struct Violation(pub Text);

/// One ring, seen from the frontend.
///
/// What is kept here decides; the shared page is read for the backend's two indices and for the
/// replies, and for nothing else.
#[derive(Debug)]
pub struct Ring {
    interface: SharedMemory<'static>,
    shared: Indices,
    replies: SharedMemory<'static>,
    requests: SharedMemory<'static>,
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
    /// The backend's reply index when [`has_new_replies`](Self::has_new_replies) or `peek` last looked.
    last_in_prod: u32,
    /// The header at `in_cons`, once read; never read again.
    arriving: Option<Header>,
    /// Sum of the worst-case replies of all outstanding requests.
    reserved_reply_bytes: u32,
    /// A request was sent that takes nothing of the reply budget: that sum no longer tells whether any is outstanding.
    has_unbudgeted: bool,
    /// The last reply that was consumed had left the backend no room, as it could see: one that waits for some has to hear.
    was_full: bool,
    /// The backend has to be told of something.
    event_due: bool,
    broken: Option<Violation>,
}

/// The indices in the interface page.
#[derive(Debug)]
struct Indices {
    in_cons: SharedWord<'static, u32>,
    in_prod: SharedWord<'static, u32>,
    out_cons: SharedWord<'static, u32>,
    out_prod: SharedWord<'static, u32>,
}

impl Ring {
    /// Lays out a ring in fresh memory: writes the order and the start indices into the interface
    /// page. The grant references follow by [`set_grant_ref`](Self::set_grant_ref).
    ///
    /// `start` is where all indices start. A real backend needs 0 (xen-9pfsd counts from 0 whatever
    /// the page says); tests start close to the wrap.
    ///
    /// # Panics
    /// `interface` is less than a page, or `data` has not as many pages as [`Order::pages`] says.
    pub fn new(
        interface: SharedMemory<'static>,
        data: SharedMemory<'static>,
        order: Order,
        start: u32,
    ) -> Ring {
        let half = order.bytes() as usize;
        let interface = interface.subslice(0, PAGE_SIZE);
        let ring = Ring {
            interface,
            shared: Indices {
                in_cons: interface.word(offset_of!(xen_9pfs_data_intf, in_cons)),
                in_prod: interface.word(offset_of!(xen_9pfs_data_intf, in_prod)),
                out_cons: interface.word(offset_of!(xen_9pfs_data_intf, out_cons)),
                out_prod: interface.word(offset_of!(xen_9pfs_data_intf, out_prod)),
            },
            replies: data.subslice(0, half),
            requests: data.subslice(half, half),
            size: order.bytes(),
            max_message: order.max_message(),
            out_prod: start,
            out_cons: start,
            in_cons: start,
            in_prod: start,
            last_in_prod: start,
            arriving: None,
            reserved_reply_bytes: 0,
            has_unbudgeted: false,
            was_full: false,
            event_due: false,
            broken: None,
        };
        let shared = &ring.shared;
        for index in [
            &shared.in_cons,
            &shared.in_prod,
            &shared.out_cons,
            &shared.out_prod,
        ] {
            index.store(start, Ordering::Release);
        }
        let ring_order = interface.word::<u32>(offset_of!(xen_9pfs_data_intf, ring_order));
        ring_order.store(order.get().into(), Ordering::Release);
        ring
    }

    /// Writes the grant reference of data page `index` into the interface page.
    ///
    /// # Panics
    /// When the ring has no such page.
    pub fn set_grant_ref(&self, index: usize, grant_ref: GrantRef) {
        assert!(index < 2 * self.size as usize / PAGE_SIZE);
        let offset = offset_of!(xen_9pfs_data_intf, ref_) + 4 * index;
        let word = self.interface.word::<u32>(offset);
        word.store(grant_ref.0, Ordering::Release);
    }

    /// Sets the largest reply that is legal from now on, in bytes; at most a direction's size.
    pub fn set_max_message(&mut self, bytes: u32) {
        self.max_message = bytes.min(self.size);
    }

    /// Whether a request of `request` bytes can be sent now, and a reply of at most `reply` bytes
    /// is sure to find room.
    ///
    /// The reserved replies never add up to more than the size less one byte: QEMU takes a
    /// completely full ring for an empty one, and disconnects when a reply finds no room.
    ///
    /// # Errors
    /// The backend's index makes no sense.
    pub fn has_room(&mut self, request: u32, reply: u32) -> Result<bool, Violation> {
        self.sound()?;
        if u64::from(self.reserved_reply_bytes) + u64::from(reply) >= u64::from(self.size) {
            return Ok(false);
        }
        if request > self.free() {
            let out_cons = self.shared.out_cons.load(Ordering::Acquire);
            let unread = self.out_prod.wrapping_sub(out_cons);
            if unread > self.out_prod.wrapping_sub(self.out_cons) {
                return self.break_with(&"its request index (out_cons) went backward or too far");
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
        let (requests, mask, mut out_prod) = (self.requests, self.size - 1, self.out_prod);
        for part in parts {
            // Together with the other parts it is no longer than the free space, so it stays off what the backend has not
            // read yet.
            requests.copy_in_around((out_prod & mask) as usize, part);
            out_prod = out_prod.wrapping_add(part.len() as u32);
        }
        // Who sees this sees the message.
        self.shared.out_prod.store(out_prod, Ordering::Release);
        self.out_prod = out_prod;
        self.reserved_reply_bytes += reply;
        self.has_unbudgeted |= reply == 0;
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
        self.replies.copy_out_around(self.offset(from), bytes);
    }

    /// Drops the message that [`peek`](Self::peek) showed; its room is the backend's again.
    /// [`release`](Self::release) says whether the backend has to hear of it.
    pub fn consume(&mut self) {
        let Some(header) = self.arriving.take_if(|h| {
            let queued = self.in_prod.wrapping_sub(self.in_cons);
            h.size <= queued
        }) else {
            return;
        };
        let before = self.in_cons;
        self.in_cons = before.wrapping_add(header.size);
        // A backend out of room writes what fits, looks at `in_cons`, and sleeps. Either it sees this, or we see next what it
        // wrote.
        self.shared.in_cons.publish(self.in_cons);
        let filled = self.load_in_prod().wrapping_sub(before);
        self.was_full |= filled > self.size - self.max_message;
    }

    /// Gives back `reply` bytes of the reply budget. To be called after [`consume`](Self::consume).
    ///
    /// The backend is only told when it may be waiting for room: when another request is outstanding, and the
    /// ring, as the backend last could see it, had none left for a largest reply. (Within the reply budget that
    /// never holds a reply up; a server that answers at greater length than its reply should have
    /// been is still woken.)
    pub fn release(&mut self, reply: u32) {
        debug_assert!(
            reply <= self.reserved_reply_bytes,
            "released more than was sent"
        );
        self.reserved_reply_bytes = self.reserved_reply_bytes.saturating_sub(reply);
        let is_waited_for = self.reserved_reply_bytes > 0 || self.has_unbudgeted;
        self.event_due |= mem::take(&mut self.was_full) && is_waited_for;
    }

    /// Whether the backend has written replies since this was last asked or `peek` last looked.
    pub fn has_new_replies(&mut self) -> bool {
        let in_prod = self.load_in_prod();
        mem::replace(&mut self.last_in_prod, in_prod) != in_prod
    }

    /// Whether the backend has to be told of something; forgets that.
    pub fn take_event_due(&mut self) -> bool {
        mem::take(&mut self.event_due)
    }

    /// Bytes of the reply budget that are taken.
    pub fn reserved_reply_bytes(&self) -> u32 {
        self.reserved_reply_bytes
    }

    /// Takes over the backend's reply index if it makes sense.
    fn refresh(&mut self) -> Result<(), Violation> {
        let in_prod = self.load_in_prod();
        self.last_in_prod = in_prod;
        let queued = in_prod.wrapping_sub(self.in_cons);
        if queued > self.size {
            return self
                .break_with(&"its reply index (in_prod) is further ahead than the ring is long");
        }
        if queued < self.queued() {
            return self.break_with(&"its reply index (in_prod) went backward");
        }
        self.in_prod = in_prod;
        Ok(())
    }

    /// Reads the header at `in_cons`, which has arrived, for the only time.
    fn read_header(&mut self) -> Result<Header, Violation> {
        let mut bytes = [0; HEADER as usize];
        let offset = self.offset(self.in_cons);
        self.replies.copy_out_around(offset, &mut bytes);
        let [s0, s1, s2, s3, kind, t0, t1] = bytes;
        let header = Header {
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            kind,
            tag: u16::from_le_bytes([t0, t1]),
        };
        if header.size < HEADER {
            return self.break_with(&"it sent a message shorter than a header");
        }
        if header.size > self.max_message {
            return self.break_with(&"it sent a message longer than the agreed msize");
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

    fn sound(&self) -> Result<(), Violation> {
        self.broken.map_or(Ok(()), Err)
    }

    fn break_with<T>(&mut self, rule: Text) -> Result<T, Violation> {
        self.broken = Some(Violation(rule));
        Err(Violation(rule))
    }

    /// The backend's reply index; the replies that it wrote before are visible afterwards.
    fn load_in_prod(&self) -> u32 {
        self.shared.in_prod.load(Ordering::Acquire)
    }
}

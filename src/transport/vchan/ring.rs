//! One end of a vchan: two byte rings and the words by which both sides say what they wait for.
//!
//! No I/O: the owner of a [`Ring`] sends the events that it [asks for](Ring::take_event_due), and sleeps after
//! [`ask`](Ring::ask) and one more [look](Ring::is_ready).
//!
//! # Wake-ups
//! A side that is going to sleep sets a bit in the byte that the other one looks at, and looks at the ring once more. The
//! other side moves its index, takes the bit away and, if it was set, sends an event. Both change the bit by one
//! instruction that reads and writes, so that one of them sees what the other did: `tests/models/src/notify.rs`.
//!
//! # Example
//! ```
//! use xen9p::transport::vchan::ring::{Ring, Violation};
//!
//! /// Sends as much of a text as there is room for; how much, and whether an event has to follow.
//! fn send(ring: &mut Ring, text: &str) -> Result<(usize, bool), Violation> {
//!     let sent = ring.write(text.as_bytes())?;
//!     if sent < text.len() {
//!         // An event will tell of room.
//!         ring.ask(true);
//!     }
//!     Ok((sent, ring.take_event_due()))
//! }
//! ```

use core::sync::atomic::Ordering;

use super::layout::{
    Indices, LEFT, LEFT_ORDER, Order, Orders, REFS, RIGHT, RIGHT_ORDER, Side, live,
};
use crate::platform::PAGE_SIZE;
use crate::sys;
use crate::transport::Text;
use crate::xen::grant::GrantRef;
use crate::xen::shared::{SharedMemory, SharedWord};

/// Tell me when you have written.
const WRITE: u8 = sys::VCHAN_NOTIFY_WRITE;
/// Tell me when you have read.
const READ: u8 = sys::VCHAN_NOTIFY_READ;

/// The other side broke a rule; the text says which. The ring is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub Text);

/// One direction.
#[derive(Debug)]
struct Half {
    bytes: SharedMemory<'static>,
    size: u32,
    /// Where the other side sees the index that we move.
    shared: SharedWord<'static, u32>,
    /// The index that the other side moves.
    theirs: SharedWord<'static, u32>,
    /// The index that we move.
    own: u32,
    /// The other side's index as it was the last time we looked.
    known: u32,
}

impl Half {
    /// Where in the ring the byte with this index lies.
    fn offset(&self) -> usize {
        (self.own & (self.size - 1)) as usize
    }

    /// Moves our index on and shows it: what was done to the bytes before is seen by who sees it.
    fn advance(&mut self, by: u32) {
        self.own = self.own.wrapping_add(by);
        self.shared.store(self.own, Ordering::Release);
    }
}

/// One end of a vchan. See the [module](self).
#[derive(Debug)]
pub struct Ring {
    page: SharedMemory<'static>,
    side: Side,
    outgoing: Half,
    incoming: Half,
    /// What we have done since the other side was last told: the bits that it may have asked for.
    done: u8,
    broken: Option<Violation>,
}

/// A page and the rings beside it, not yet in use.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    page: SharedMemory<'static>,
    orders: Orders,
    left: SharedMemory<'static>,
    right: SharedMemory<'static>,
}

impl Memory {
    /// The shared page, and the pages of the rings that are not in it: those of the left ring first.
    ///
    /// # Panics
    /// `page` is less than a page, or `rings` has not as many pages as the orders say.
    pub fn new(page: SharedMemory<'static>, orders: Orders, rings: SharedMemory<'static>) -> Self {
        let page = page.subslice(0, PAGE_SIZE);
        assert_eq!(
            rings.len(),
            orders.pages() * PAGE_SIZE,
            "as many pages as the orders say"
        );
        let ring = |order: Order, at: usize| {
            let len = order.bytes() as usize;
            match order.in_page() {
                Some(place) => page.subslice(place, len),
                None => rings.subslice(at * PAGE_SIZE, len),
            }
        };
        Memory {
            page,
            orders,
            left: ring(orders.left(), 0),
            right: ring(orders.right(), orders.left().pages()),
        }
    }

    fn half(&self, indices: Indices, outgoing: bool, start: [u32; 2]) -> Half {
        let (bytes, order) = match indices.cons == LEFT.cons {
            true => (self.left, self.orders.left()),
            false => (self.right, self.orders.right()),
        };
        let [own, theirs] = match outgoing {
            true => [indices.prod, indices.cons],
            false => [indices.cons, indices.prod],
        };
        Half {
            bytes,
            size: order.bytes(),
            shared: self.page.word(own),
            theirs: self.page.word(theirs),
            own: start[0],
            known: start[1],
        }
    }

    /// Prepares the page for a client and is the server's end of it. `refs` are the references of the rings' pages, in order.
    ///
    /// # Panics
    /// `refs` has not as many references as the orders ask for.
    pub fn serve(self, refs: &[GrantRef]) -> Ring {
        self.serve_from(refs, 0)
    }

    /// As [`serve`](Self::serve), with all indices at `start`: for tests close to where they wrap.
    ///
    /// # Panics
    /// As there.
    pub fn serve_from(self, refs: &[GrantRef], start: u32) -> Ring {
        let Memory { page, orders, .. } = self;
        assert_eq!(
            refs.len(),
            orders.pages(),
            "as many references as the orders say"
        );
        for index in [LEFT.cons, LEFT.prod, RIGHT.cons, RIGHT.prod] {
            page.word(index).store(start, Ordering::Relaxed);
        }
        for (at, order) in [(LEFT_ORDER, orders.left()), (RIGHT_ORDER, orders.right())] {
            page.word(at)
                .store(u16::from(order.get()), Ordering::Relaxed);
        }
        for (index, reference) in refs.iter().enumerate() {
            let word = page.word(REFS + index * size_of::<u32>());
            word.store(reference.0, Ordering::Relaxed);
        }
        page.word(Side::Client.live())
            .store(live::NOT_YET, Ordering::Relaxed);
        page.word(Side::Server.notify())
            .store(0_u8, Ordering::Relaxed);
        page.word(Side::Client.notify())
            .store(WRITE, Ordering::Relaxed);
        // Who sees this sees the rest.
        page.word(Side::Server.live())
            .store(live::HERE, Ordering::Release);
        Ring {
            page,
            side: Side::Server,
            outgoing: self.half(RIGHT, true, [start; 2]),
            incoming: self.half(LEFT, false, [start; 2]),
            done: 0,
            broken: None,
        }
    }

    /// The client's end of a page that a server has prepared. Nothing is changed in it yet, but that replies to an earlier
    /// client are dropped; [`join`](Ring::join) tells the server. `None` as long as the server has not read all that an
    /// earlier client sent.
    ///
    /// # Errors
    /// The server is not there, or the indices make no sense.
    pub fn attach(self) -> Result<Option<Ring>, Violation> {
        let load = |at| self.page.word::<u32>(at).load(Ordering::Acquire);
        if self
            .page
            .word::<u8>(Side::Server.live())
            .load(Ordering::Acquire)
            != live::HERE
        {
            return Err(Violation(&"its page says that the server has gone"));
        }
        let (sent, read) = (load(LEFT.prod), load(LEFT.cons));
        let (written, taken) = (load(RIGHT.prod), load(RIGHT.cons));
        if sent.wrapping_sub(read) > self.orders.left().bytes()
            || written.wrapping_sub(taken) > self.orders.right().bytes()
        {
            return Err(Violation(
                &"the indices in its page are further apart than the rings are long",
            ));
        }
        if sent != read {
            return Ok(None);
        }
        let incoming = self.half(RIGHT, false, [written; 2]);
        incoming.shared.store(written, Ordering::Release);
        Ok(Some(Ring {
            page: self.page,
            side: Side::Client,
            outgoing: self.half(LEFT, true, [sent; 2]),
            incoming,
            done: 0,
            broken: None,
        }))
    }
}

/// The orders that a server has written into its page.
///
/// # Errors
/// They are no legal pair.
pub fn orders_of(page: SharedMemory<'_>) -> Result<Orders, (u16, u16)> {
    let load = |at| page.word::<u16>(at).load(Ordering::Acquire);
    let (left, right) = (load(LEFT_ORDER), load(RIGHT_ORDER));
    let orders = u8::try_from(left).ok().zip(u8::try_from(right).ok());
    let orders = orders.and_then(|(left, right)| Orders::new(left, right));
    orders.ok_or((left, right))
}

/// The references that a server has written into its page.
///
/// # Panics
/// The memory is smaller than a page.
pub fn refs_of(page: SharedMemory<'_>, orders: Orders) -> impl Iterator<Item = GrantRef> {
    (0..orders.pages()).map(move |index| {
        let word = page.word(REFS + index * size_of::<u32>());
        GrantRef(word.load(Ordering::Acquire))
    })
}

/// Whether a client has used the page before.
pub(super) fn is_used(page: SharedMemory<'_>) -> bool {
    page.word::<u8>(Side::Client.live()).load(Ordering::Acquire) != live::NOT_YET
}

impl Ring {
    /// Which end it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Tells the server, in its page, that its client is there, and asks to be told of what it writes. An event has to follow.
    pub fn join(&mut self) {
        self.ask(false);
        self.set_live(live::HERE);
        self.done |= WRITE;
    }

    /// Says that this side has gone. An event has to follow, and nothing else.
    pub fn leave(&self) {
        self.set_live(live::GONE);
    }

    fn set_live(&self, value: u8) {
        self.page
            .word(self.side.live())
            .store(value, Ordering::Release);
    }

    /// What the other side says of itself, one of [`live`]: what it wrote before it went is seen afterwards.
    pub fn peer(&self) -> u8 {
        self.page
            .word(self.side.other().live())
            .load(Ordering::Acquire)
    }

    /// Takes as many bytes as have come, and fit, and says how many.
    ///
    /// # Errors
    /// The other side's index makes no sense.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Violation> {
        self.sound()?;
        let mut count = self.arrived();
        if (count as usize) < into.len() {
            count = self.look_for_bytes()?;
        }
        let count = into.len().min(count as usize);
        let (into, _) = into.split_at_mut(count);
        if count > 0 {
            self.incoming
                .bytes
                .copy_out_around(self.incoming.offset(), into);
            self.incoming.advance(count as u32);
            self.done |= READ;
        }
        Ok(count)
    }

    /// Sends as many of the bytes as there is room for, and says how many.
    ///
    /// # Errors
    /// The other side's index makes no sense.
    pub fn write(&mut self, from: &[u8]) -> Result<usize, Violation> {
        self.sound()?;
        let mut count = self.free();
        if (count as usize) < from.len() {
            count = self.look_for_room()?;
        }
        let count = from.len().min(count as usize);
        let (from, _) = from.split_at(count);
        if count > 0 {
            self.outgoing
                .bytes
                .copy_in_around(self.outgoing.offset(), from);
            self.outgoing.advance(count as u32);
            self.done |= WRITE;
        }
        Ok(count)
    }

    /// Whether there is something to read or, if `write`, room to write.
    ///
    /// # Errors
    /// The other side's index makes no sense.
    pub fn is_ready(&mut self, write: bool) -> Result<bool, Violation> {
        Ok(self.look_for_bytes()? > 0 || write && self.has_room()?)
    }

    /// Whether there is room to write.
    ///
    /// # Errors
    /// The other side's index makes no sense.
    pub fn has_room(&mut self) -> Result<bool, Violation> {
        Ok(self.look_for_room()? > 0)
    }

    /// Whether the other side has not read all that was written.
    ///
    /// # Errors
    /// The other side's index makes no sense.
    pub fn is_unread(&mut self) -> Result<bool, Violation> {
        Ok(self.look_for_room()? < self.outgoing.size)
    }

    /// Asks for an event when the other side has written or, if `write`, read. Who sleeps without
    /// [looking](Self::is_ready) once more may sleep for ever.
    pub fn ask(&self, write: bool) {
        let bits = if write { WRITE | READ } else { WRITE };
        self.page.word(self.side.other().notify()).fetch_or(bits);
    }

    /// Whether the other side has asked to be told of something that was done since this was last called.
    pub fn take_event_due(&mut self) -> bool {
        let done = core::mem::take(&mut self.done);
        done != 0 && self.page.word(self.side.notify()).fetch_and(!done) & done != 0
    }

    /// Bytes that have arrived and are not read.
    fn arrived(&self) -> u32 {
        self.incoming.known.wrapping_sub(self.incoming.own)
    }

    /// Bytes that there is room for.
    fn free(&self) -> u32 {
        self.outgoing.size - self.outgoing.own.wrapping_sub(self.outgoing.known)
    }

    fn look_for_bytes(&mut self) -> Result<u32, Violation> {
        self.sound()?;
        let known = self.incoming.theirs.load(Ordering::Acquire);
        let arrived = known.wrapping_sub(self.incoming.own);
        if arrived > self.incoming.size || arrived < self.arrived() {
            return self.break_with(
                &"its write index went backward, or is further ahead than the ring is long",
            );
        }
        self.incoming.known = known;
        Ok(arrived)
    }

    fn look_for_room(&mut self) -> Result<u32, Violation> {
        self.sound()?;
        let known = self.outgoing.theirs.load(Ordering::Acquire);
        let unread = self.outgoing.own.wrapping_sub(known);
        if unread > self.outgoing.own.wrapping_sub(self.outgoing.known) {
            return self
                .break_with(&"its read index went backward, or is ahead of what was written");
        }
        self.outgoing.known = known;
        Ok(self.free())
    }

    fn sound(&self) -> Result<(), Violation> {
        self.broken.map_or(Ok(()), Err)
    }

    fn break_with<T>(&mut self, rule: Text) -> Result<T, Violation> {
        self.broken = Some(Violation(rule));
        Err(Violation(rule))
    }
}

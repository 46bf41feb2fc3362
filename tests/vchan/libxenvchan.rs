//! libxenvchan as a state machine: what tools/libs/vchan/{init,io}.c do to the shared page, one access at a time, with the
//! faults that they have.
//!
//! It waits for whole requests as the packet calls do not: this is the stream form, which vchan-socket-proxy uses. Its faults:
//! an index that makes no sense counts as an empty ring, for ever; bytes that come between its look at the ring and its look
//! at the other side's byte are lost when that side has gone.

use std::sync::atomic::Ordering;

use xen9p::transport::vchan::{Orders, Side};
use xen9p::xen::shared::SharedMemory;

const WRITE: u8 = 1;
const READ: u8 = 2;

/// The page and the rings.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    pub page: SharedMemory<'static>,
    pub left: SharedMemory<'static>,
    pub right: SharedMemory<'static>,
}

impl Pages {
    /// As init.c finds the rings.
    pub fn new(page: SharedMemory<'static>, orders: Orders, rings: SharedMemory<'static>) -> Self {
        let (left, right) = (orders.left().get(), orders.right().get());
        let left_pages = if left >= 12 { 1 << (left - 12) } else { 0 };
        let place = |order: u8, at: usize| match order {
            10 => page.subslice(1024, 1024),
            11 => page.subslice(2048, 2048),
            _ => rings.subslice(at * 4096, 1 << order),
        };
        Pages {
            page,
            left: place(left, 0),
            right: place(right, left_pages),
        }
    }

    /// What a server writes into a page that is all zero, but for orders and references.
    pub fn init_server(&self, orders: Orders, refs: &[u32]) {
        let half = |at, order: u8| self.page.word(at).store(u16::from(order), Ordering::SeqCst);
        half(16, orders.left().get());
        half(18, orders.right().get());
        for (index, reference) in refs.iter().enumerate() {
            self.page
                .word(24 + 4 * index)
                .store(*reference, Ordering::SeqCst);
        }
        for (at, value) in [(20, 2_u8), (21, 1), (22, WRITE), (23, 0)] {
            self.page.word(at).store(value, Ordering::SeqCst);
        }
    }

    /// What a client writes, last of all.
    pub fn init_client(&self) {
        self.page.word(20).store(1_u8, Ordering::SeqCst);
        self.page.word(23).store(WRITE, Ordering::SeqCst);
    }

    pub fn index(&self, at: usize) -> u32 {
        self.page.word(at).load(Ordering::SeqCst)
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.page.word(at).load(Ordering::SeqCst)
    }
}

/// Where a call is, one shared access before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Reading: look at the indices; after the request for an event, if `asked`.
    Look {
        asked: bool,
    },
    /// Ask to be told when bytes are written.
    AskForBytes,
    /// Copy out so many bytes, and move the index.
    Take(u32),
    /// Tell the other side that there is room.
    TellRead,
    /// There is nothing: is the other side there?
    IsOpen,
    /// Writing: look for room.
    Room {
        asked: bool,
    },
    /// Ask to be told when bytes are read.
    AskForRoom,
    /// Copy in so many bytes, and move the index.
    Put(u32),
    /// Tell the other side that there are bytes.
    TellWritten,
    /// No room: is the other side there?
    IsOpenForWriting,
    /// Sleep in the event channel; then go on there.
    Wait {
        write: bool,
    },
    /// Going: the own byte, then the event.
    Leave,
    Left,
    /// The other side has gone, and this one has given up.
    GaveUp,
}

/// One end, as a program with a simple loop: sends what it has to send, then reads.
#[derive(Clone, Debug)]
pub struct Lib {
    pub pages: Pages,
    pub side: Side,
    pub at: At,
    /// Bytes that are to be sent, from `sent` on.
    pub to_send: Vec<u8>,
    pub sent: usize,
    pub received: Vec<u8>,
    /// Most bytes of one read.
    pub chunk: u32,
    /// It goes as soon as all is sent.
    pub leaves: bool,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    Step,
    /// It did something, and sends an event.
    Event,
    /// It sleeps.
    Sleeps,
}

impl Lib {
    pub fn new(pages: Pages, side: Side, to_send: &[u8], chunk: u32) -> Self {
        Lib {
            pages,
            side,
            at: At::Room { asked: false },
            to_send: to_send.to_vec(),
            sent: 0,
            received: Vec::new(),
            chunk,
            leaves: false,
        }
    }

    /// Where the indices of the ring that this side reads are: cons, prod; and its bytes.
    fn incoming(&self) -> (usize, usize, SharedMemory<'static>) {
        match self.side {
            Side::Server => (0, 4, self.pages.left),
            Side::Client => (8, 12, self.pages.right),
        }
    }

    fn outgoing(&self) -> (usize, usize, SharedMemory<'static>) {
        match self.side {
            Side::Client => (0, 4, self.pages.left),
            Side::Server => (8, 12, self.pages.right),
        }
    }

    /// rd_prod - rd_cons, or 0 if that makes no sense.
    fn ready(&self) -> u32 {
        let (cons, prod, ring) = self.incoming();
        let ready = self.pages.index(prod).wrapping_sub(self.pages.index(cons));
        if ready > ring.len() as u32 { 0 } else { ready }
    }

    fn space(&self) -> u32 {
        let (cons, prod, ring) = self.outgoing();
        let size = ring.len() as u32;
        let used = self.pages.index(prod).wrapping_sub(self.pages.index(cons));
        size.saturating_sub(used)
    }

    fn request(&self, bit: u8) {
        let at = if self.side == Side::Server { 22 } else { 23 };
        self.pages.page.word(at).fetch_or(bit);
    }

    fn test(&self, bit: u8) -> Did {
        let at = if self.side == Side::Server { 23 } else { 22 };
        let before = self.pages.page.word(at).fetch_and(!bit);
        if before & bit != 0 {
            Did::Event
        } else {
            Did::Step
        }
    }

    fn peer_is_open(&self) -> bool {
        match self.side {
            // A server's is_open is the client's byte.
            Side::Server => self.pages.byte(20) != 0,
            Side::Client => self.pages.byte(21) == 1,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.to_send[self.sent..]
    }

    fn next_call(&self) -> At {
        if !self.rest().is_empty() {
            At::Room { asked: false }
        } else if self.leaves {
            At::Leave
        } else {
            At::Look { asked: false }
        }
    }

    /// One access. `pending`: the event channel's bit, which is taken when it wakes up.
    pub fn step(&mut self, pending: &mut bool) -> Did {
        let mut did = Did::Step;
        self.at = match self.at {
            At::Look { asked } => match (self.ready().min(self.chunk), asked) {
                (0, false) => At::AskForBytes,
                (0, true) => At::IsOpen,
                (count, _) => At::Take(count),
            },
            At::AskForBytes => {
                self.request(WRITE);
                At::Look { asked: true }
            }
            At::Take(count) => {
                let (cons, _, ring) = self.incoming();
                let own = self.pages.index(cons);
                let mut bytes = vec![0; count as usize];
                ring.copy_out_around(own as usize & (ring.len() - 1), &mut bytes);
                self.received.extend(bytes);
                self.pages
                    .page
                    .word(cons)
                    .store(own.wrapping_add(count), Ordering::SeqCst);
                At::TellRead
            }
            At::TellRead => {
                did = self.test(READ);
                self.next_call()
            }
            // The data is not looked at once more: what came between is lost if the other side has gone.
            At::IsOpen if !self.peer_is_open() => At::GaveUp,
            At::IsOpen => At::Wait { write: false },
            At::Room { asked } => {
                let rest = self.rest().len() as u32;
                match (self.space().min(rest), asked) {
                    _ if rest == 0 => self.next_call(),
                    (count, true) if count > 0 => At::Put(count),
                    (count, false) if count == rest => At::Put(count),
                    (_, false) => At::AskForRoom,
                    (_, true) => At::IsOpenForWriting,
                }
            }
            At::AskForRoom => {
                self.request(READ);
                At::Room { asked: true }
            }
            At::Put(count) => {
                let (_, prod, ring) = self.outgoing();
                let own = self.pages.index(prod);
                let bytes = &self.to_send[self.sent..self.sent + count as usize];
                ring.copy_in_around(own as usize & (ring.len() - 1), bytes);
                self.sent += count as usize;
                self.pages
                    .page
                    .word(prod)
                    .store(own.wrapping_add(count), Ordering::SeqCst);
                At::TellWritten
            }
            At::TellWritten => {
                did = self.test(WRITE);
                self.next_call()
            }
            At::IsOpenForWriting if !self.peer_is_open() => At::GaveUp,
            At::IsOpenForWriting => At::Wait { write: true },
            At::Wait { write } if *pending => {
                *pending = false;
                match write {
                    true => At::Room { asked: false },
                    false => At::Look { asked: false },
                }
            }
            At::Leave => {
                let at = if self.side == Side::Server { 21 } else { 20 };
                self.pages.page.word(at).store(0_u8, Ordering::SeqCst);
                did = Did::Event;
                At::Left
            }
            asleep @ (At::Wait { .. } | At::Left | At::GaveUp) => {
                did = Did::Sleeps;
                asleep
            }
        };
        did
    }
}

//! An end of a vchan, and what is known of it: after each step the memory is what the end may have made of it, to the byte. It
//! has moved its own index, has written its own bytes, and has touched the bits by which it asks and answers.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use xen9p::transport::vchan::ring::{Memory, Ring, Violation};
use xen9p::transport::vchan::{Orders, Side};
use xen9p::xen::grant::GrantRef;
use xen9p::xen::shared::SharedMemory;

const PAGE: usize = 4096;

/// Where the orders are in the shared page.
pub const ORDER_WORDS: usize = 16;

/// Where the bytes are that say who is there and who wants what.
pub const FLAGS: usize = 20;

/// Where the references begin.
pub const REFS: usize = 24;

/// The bits of [`FLAGS`] that ask for an event: after a write, and after a read.
pub const WRITE: u8 = 1;
const READ: u8 = 2;

/// The shared page and those of the rings behind it.
pub struct Shared {
    words: Vec<AtomicU64>,
    pub orders: Orders,
}

impl Shared {
    pub fn new(orders: Orders) -> Self {
        let len = PAGE * (1 + orders.pages());
        Shared {
            words: (0..len / 8).map(|_| AtomicU64::new(0)).collect(),
            orders,
        }
    }

    pub fn size(&self) -> usize {
        8 * self.words.len()
    }

    pub fn memory(&self) -> SharedMemory<'static> {
        // SAFETY: the words live until the end of `run`, where all rings are dropped before them; they are accessed as atomics
        // alone.
        unsafe { SharedMemory::new(NonNull::from(&self.words[..]).cast(), self.size()) }
    }

    pub fn page(&self) -> SharedMemory<'static> {
        self.memory().subslice(0, PAGE)
    }

    fn rings(&self) -> SharedMemory<'static> {
        self.memory().subslice(PAGE, self.size() - PAGE)
    }

    pub fn ends(&self) -> Memory {
        Memory::new(self.page(), self.orders, self.rings())
    }

    /// The references that its server lists.
    pub fn refs(&self) -> Vec<GrantRef> {
        (8..).take(self.orders.pages()).map(GrantRef).collect()
    }

    /// All of it.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.size()];
        self.memory().copy_out(0, &mut image);
        image
    }

    pub fn load(&self, at: usize) -> u32 {
        self.memory().word::<u32>(at).load(Ordering::Acquire)
    }
}

/// One direction: where its indices and its bytes are.
#[derive(Clone, Copy)]
struct Way {
    cons: usize,
    prod: usize,
    bytes: usize,
    size: u32,
}

impl Way {
    /// What `side` sends by.
    fn of(side: Side, orders: Orders) -> Way {
        let (index, order, before) = match side {
            Side::Client => (0, orders.left(), 0),
            Side::Server => (8, orders.right(), orders.left().pages()),
        };
        let bytes = match order.pages() {
            0 => order.bytes() as usize,
            _ => PAGE * (1 + before),
        };
        Way {
            cons: index,
            prod: index + 4,
            bytes,
            size: order.bytes(),
        }
    }

    /// The place of the byte with this index.
    fn at(&self, index: u32) -> usize {
        self.bytes + (index % self.size) as usize
    }
}

/// An end, and what is known of it.
pub struct End {
    pub ring: Ring,
    out: Way,
    into: Way,
    /// Its own indices: written up to there, and read up to there.
    written: u32,
    read: u32,
    /// The other side's as it has believed them last.
    taken: u32,
    come: u32,
    /// What it has done since it was asked for an event.
    pub done: u8,
    broken: Option<Violation>,
}

fn number(side: Side) -> usize {
    usize::from(side == Side::Server)
}

impl End {
    pub fn new(ring: Ring, orders: Orders, start: [u32; 2]) -> End {
        let side = ring.side();
        End {
            out: Way::of(side, orders),
            into: Way::of(side.other(), orders),
            ring,
            written: start[0],
            taken: start[0],
            read: start[1],
            come: start[1],
            done: 0,
            broken: None,
        }
    }

    /// Where this side looks what the other one wants.
    fn wanted(&self) -> usize {
        FLAGS + 2 + number(self.ring.side())
    }

    /// Where this side says what it wants.
    pub fn wants(&self) -> usize {
        FLAGS + 2 + number(self.ring.side().other())
    }

    /// Bytes that the ring holds which it writes to.
    pub fn capacity(&self) -> usize {
        self.out.size as usize
    }

    /// How many bytes there are to be read for one who looks; `None`: it has to break.
    fn look_in(&mut self, memory: &Shared) -> Option<u32> {
        let claim = memory.load(self.into.prod);
        let (now, before) = (
            claim.wrapping_sub(self.read),
            self.come.wrapping_sub(self.read),
        );
        (self.broken.is_none() && now >= before && now <= self.into.size).then(|| {
            self.come = claim;
            now
        })
    }

    /// The same for room.
    fn look_out(&mut self, memory: &Shared) -> Option<u32> {
        let claim = memory.load(self.out.cons);
        let (now, before) = (
            self.written.wrapping_sub(claim),
            self.written.wrapping_sub(self.taken),
        );
        (self.broken.is_none() && now <= before).then(|| {
            self.taken = claim;
            self.out.size - now
        })
    }

    /// Takes an answer, which has to be that one: a number, or the end, which stays the same for ever.
    fn answered<T: PartialEq + std::fmt::Debug>(
        &mut self,
        answer: Result<T, Violation>,
        expected: Option<T>,
    ) {
        match (answer, expected) {
            (Err(violation), None) => {
                let broken = *self.broken.get_or_insert(violation);
                assert_eq!(violation, broken, "broken is broken");
            }
            (answer, expected) => assert_eq!(answer.ok(), expected),
        }
    }

    /// Sends bytes; returns how many went.
    pub fn write(&mut self, memory: &Shared, from: &[u8]) -> usize {
        let mut image = memory.image();
        let known = self.out.size - self.written.wrapping_sub(self.taken);
        let room = match self.broken.is_none() && known as usize >= from.len() {
            true => Some(known),
            false => self.look_out(memory),
        };
        let expected = room.map(|room| from.len().min(room as usize));
        let answer = self.ring.write(from);
        self.answered(answer, expected);
        let count = expected.unwrap_or(0);
        for byte in &from[..count] {
            image[self.out.at(self.written)] = *byte;
            self.written = self.written.wrapping_add(1);
        }
        if count > 0 {
            put(&mut image, self.out.prod, self.written);
            self.done |= WRITE;
        }
        assert!(memory.image() == image, "it writes its bytes and its index");
        count
    }

    /// Reads so many bytes; returns those that came.
    pub fn read(&mut self, memory: &Shared, len: usize) -> Vec<u8> {
        let mut image = memory.image();
        let known = self.come.wrapping_sub(self.read);
        let there = match self.broken.is_none() && known as usize >= len {
            true => Some(known),
            false => self.look_in(memory),
        };
        let expected = there.map(|there| len.min(there as usize));
        let mut into = vec![0xa5; len];
        let answer = self.ring.read(&mut into);
        self.answered(answer, expected);
        let beyond = into.split_off(expected.unwrap_or(0));
        assert!(beyond.iter().all(|byte| *byte == 0xa5), "beyond its end");
        for byte in &into {
            assert_eq!(*byte, image[self.into.at(self.read)]);
            self.read = self.read.wrapping_add(1);
        }
        if !into.is_empty() {
            put(&mut image, self.into.cons, self.read);
            self.done |= READ;
        }
        assert!(memory.image() == image, "it writes its index");
        into
    }

    /// Looks at everything, which changes nothing.
    pub fn look(&mut self, memory: &Shared, write: bool) {
        let image = memory.image();
        let ready = self.look_in(memory).and_then(|there| {
            let room = write && there == 0;
            match room {
                true => self.look_out(memory).map(|room| room > 0),
                false => Some(there > 0),
            }
        });
        let answer = self.ring.is_ready(write);
        self.answered(answer, ready);
        let room = self.look_out(memory);
        let answer = self.ring.has_room();
        self.answered(answer, room.map(|room| room > 0));
        let room = self.look_out(memory);
        let answer = self.ring.is_unread();
        self.answered(answer, room.map(|room| room < self.out.size));
        let peer = FLAGS + number(self.ring.side().other());
        assert_eq!(self.ring.peer(), image[peer]);
        assert!(memory.image() == image, "a look changes nothing");
    }

    pub fn ask(&mut self, memory: &Shared, write: bool) {
        let mut image = memory.image();
        image[self.wants()] |= if write { WRITE | READ } else { WRITE };
        self.ring.ask(write);
        assert!(memory.image() == image, "it asks");
    }

    /// Whether an event is due, which it is once.
    pub fn tell(&mut self, memory: &Shared) {
        let mut image = memory.image();
        let done = std::mem::take(&mut self.done);
        let due = image[self.wanted()] & done != 0;
        image[self.wanted()] &= !done;
        assert_eq!(self.ring.take_event_due(), due);
        assert!(!self.ring.take_event_due(), "once");
        assert!(memory.image() == image, "it answers what was asked for");
    }
}

pub fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

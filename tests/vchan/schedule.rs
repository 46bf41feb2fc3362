//! No wake-up is lost and no byte: both ends of a vchan, each a sequence of small steps, are run in every order, with
//! closing as one of the steps; ours against itself, and either of ours against a model of libxenvchan.
//!
//! A side looks at its rings only when an event has come, and sleeps until one does. A lost wake-up is a state in which both
//! sleep and something is left to do. How accesses of single words may be seen is the business of `models/src/notify.rs`.

use std::collections::HashSet;
use std::ptr::NonNull;

use xen9p::transport::vchan::layout::live;
use xen9p::transport::vchan::ring::{Memory, Ring};
use xen9p::transport::vchan::{Orders, Side};
use xen9p::xen::shared::SharedMemory;

use crate::common::orders;
use crate::libxenvchan::{At as LibAt, Did, Lib, Pages};

/// Where all indices start: they wrap on the way.
const START: u32 = u32::MAX - 700;

#[repr(align(4096))]
struct Page {
    _bytes: [u8; 4096],
}

/// The one page that all runs of a test use, with both rings in it.
struct Plain(NonNull<Page>);

impl Plain {
    fn new() -> Self {
        let page = Box::new(Page { _bytes: [0; 4096] });
        Plain(NonNull::from(Box::leak(page)))
    }

    fn memory(&self) -> SharedMemory<'static> {
        // SAFETY: never freed, and accessed by this alone.
        unsafe { SharedMemory::new(self.0.cast(), 4096) }
    }

    fn clear(&self) {
        self.memory().copy_in(0, &[0; 4096]);
    }
}

/// What both sides do.
#[derive(Clone, Copy)]
struct Plan {
    orders: (u8, u8),
    /// Bytes that the client and the server send.
    sends: [usize; 2],
    /// The side that goes when it has sent all and, if it is ours, received all that comes.
    leaves: Option<Side>,
    /// Whether ours looks at the rings again after it has asked for an event.
    looks_again: bool,
}

const TALK: Plan = Plan {
    orders: (10, 11),
    sends: [1500, 2500],
    leaves: None,
    looks_again: true,
};

/// The byte at a place of what a side sends.
fn bytes(side: Side, len: usize) -> Vec<u8> {
    let salt = if side == Side::Client { 3 } else { 5 };
    (0..len).map(|at| (at * salt % 251) as u8).collect()
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Server)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Write,
    Read,
    Flush,
    Ask,
    LookAgain,
    Sleep,
    Leave,
    Left,
    /// The other side has gone, and all that it sent is read.
    Over,
}

/// Our end, as a stream uses it.
struct Ours {
    ring: Ring,
    at: At,
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    expects: usize,
    plan: Plan,
}

impl Ours {
    fn new(ring: Ring, plan: Plan) -> Self {
        let side = ring.side();
        Ours {
            at: At::Write,
            to_send: bytes(side, plan.sends[index(side)]),
            sent: 0,
            received: Vec::new(),
            expects: plan.sends[index(side.other())],
            ring,
            plan,
        }
    }

    fn wants_room(&self) -> bool {
        self.sent < self.to_send.len()
    }

    fn is_done(&self) -> bool {
        !self.wants_room() && self.received.len() == self.expects
    }

    fn step(&mut self, pending: &mut bool) -> Did {
        let mut did = Did::Step;
        let write = self.wants_room();
        self.at = match self.at {
            At::Write => {
                self.sent += self.ring.write(&self.to_send[self.sent..]).unwrap();
                At::Read
            }
            At::Read => {
                // As a stream does: what comes between the look at the ring and at the byte is looked for once more.
                let gone = self.ring.peer() == live::GONE;
                let mut buffer = [0; 4096];
                let count = self.ring.read(&mut buffer).unwrap();
                self.received.extend(&buffer[..count]);
                match (count, gone) {
                    (0, true) => At::Over,
                    (0, false) => At::Flush,
                    _ => At::Read,
                }
            }
            At::Flush => {
                if self.ring.take_event_due() {
                    did = Did::Event;
                }
                match self.is_done() && self.plan.leaves == Some(self.ring.side()) {
                    true => At::Leave,
                    false => At::Ask,
                }
            }
            At::Ask => {
                self.ring.ask(write);
                match self.plan.looks_again {
                    true => At::LookAgain,
                    false => At::Sleep,
                }
            }
            At::LookAgain => {
                let ready = self.ring.is_ready(write).unwrap() || self.ring.peer() == live::GONE;
                if ready { At::Write } else { At::Sleep }
            }
            At::Sleep if *pending => {
                *pending = false;
                At::Write
            }
            At::Leave => {
                self.ring.leave();
                did = Did::Event;
                At::Left
            }
            asleep @ (At::Sleep | At::Left | At::Over) => {
                did = Did::Sleeps;
                asleep
            }
        };
        did
    }
}

enum End {
    Ours(Ours),
    Lib(Lib),
}

impl End {
    fn step(&mut self, pending: &mut bool) -> Did {
        match self {
            End::Ours(ours) => ours.step(pending),
            End::Lib(lib) => lib.step(pending),
        }
    }

    fn state(&self) -> String {
        match self {
            // The addresses in it are the same in each run.
            End::Ours(Ours {
                ring,
                at,
                sent,
                received,
                ..
            }) => {
                format!("{ring:?} {at:?} {sent} {}", received.len())
            }
            End::Lib(Lib {
                at, sent, received, ..
            }) => format!("{at:?} {sent} {}", received.len()),
        }
    }

    fn received(&self) -> &[u8] {
        match self {
            End::Ours(ours) => &ours.received,
            End::Lib(lib) => &lib.received,
        }
    }

    /// Whether it goes no further by itself.
    fn is_over(&self) -> bool {
        match self {
            End::Ours(ours) => matches!(ours.at, At::Left | At::Over),
            End::Lib(lib) => matches!(lib.at, LibAt::Left | LibAt::GaveUp),
        }
    }
}

/// Which sides are libxenvchan's.
type Libs = Option<Side>;

struct World {
    /// The client, and the server.
    ends: [End; 2],
    pending: [bool; 2],
    asleep: [bool; 2],
}

impl World {
    fn new(plain: &Plain, plan: Plan, libs: Libs) -> World {
        plain.clear();
        let (page, none) = (plain.memory(), plain.memory().subslice(0, 0));
        let orders: Orders = orders(plan.orders.0, plan.orders.1);
        let pages = Pages::new(page, orders, none);
        let memory = Memory::new(page, orders, none);
        let lib = |side: Side| {
            let mut lib = Lib::new(pages, side, &bytes(side, plan.sends[index(side)]), 4096);
            lib.leaves = plan.leaves == Some(side);
            End::Lib(lib)
        };
        let server = match libs {
            Some(Side::Server) => {
                pages.init_server(orders, &[]);
                for at in [0, 4, 8, 12] {
                    page.word(at)
                        .store(START, std::sync::atomic::Ordering::SeqCst);
                }
                lib(Side::Server)
            }
            _ => End::Ours(Ours::new(memory.serve_from(&[], START), plan)),
        };
        let client = match libs {
            Some(Side::Client) => {
                pages.init_client();
                lib(Side::Client)
            }
            _ => {
                let mut ring = memory.attach().unwrap().expect("it is the first client");
                ring.join();
                ring.take_event_due();
                End::Ours(Ours::new(ring, plan))
            }
        };
        World {
            ends: [client, server],
            // Binding a port, and the client's first event.
            pending: [true; 2],
            asleep: [false; 2],
        }
    }

    fn step(&mut self, side: usize) {
        let did = self.ends[side].step(&mut self.pending[side]);
        if did != Did::Sleeps {
            self.asleep = [false; 2];
        }
        if did == Did::Event {
            self.pending[1 - side] = true;
        }
        self.asleep[side] = did == Did::Sleeps;
    }

    fn state(&self, plain: &Plain) -> String {
        let mut head = [0; 24];
        plain.memory().copy_out(0, &mut head);
        let [client, server] = self.ends.each_ref().map(End::state);
        format!(
            "{client} {server} {:?} {:?} {head:?}",
            self.pending, self.asleep
        )
    }

    /// What each side has received is what the other one sent, as far as it goes; says whether it is all.
    fn all_is_there(&self, plan: Plan) -> [bool; 2] {
        [Side::Client, Side::Server].map(|side| {
            let expected = bytes(side.other(), plan.sends[index(side.other())]);
            let received = self.ends[index(side)].received();
            assert!(
                expected.starts_with(received),
                "other bytes came than were sent"
            );
            received.len() == expected.len()
        })
    }
}

/// What was found in all orders of the steps.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    /// Ends of runs in which all bytes arrived, and in which some did not.
    whole: usize,
    lost: usize,
}

/// Visits every state that any order of the steps leads to.
fn explore(plan: Plan, libs: Libs) -> Found {
    let plain = Plain::new();
    let mut known = HashSet::new();
    let mut ways: Vec<Vec<u8>> = vec![Vec::new()];
    let mut found = Found::default();
    while let Some(way) = ways.pop() {
        let mut world = World::new(&plain, plan, libs);
        for &side in &way {
            world.step(side.into());
        }
        if !known.insert(world.state(&plain)) {
            continue;
        }
        assert!(known.len() < 300_000, "too many states");
        let there = world.all_is_there(plan);
        if world.asleep == [true; 2] {
            match there == [true; 2] {
                true => found.whole += 1,
                // Who has left asks for nothing any more; a lost wake-up is with one who sleeps and could go on.
                false => {
                    assert!(
                        world.ends.iter().all(End::is_over),
                        "both sides sleep after {} steps: {}",
                        way.len(),
                        world.state(&plain)
                    );
                    found.lost += 1;
                }
            }
            continue;
        }
        for side in 0..2 {
            ways.push(way.iter().copied().chain([side]).collect());
        }
    }
    found.states = known.len();
    found
}

const WHO: [Libs; 3] = [None, Some(Side::Client), Some(Side::Server)];

#[test]
fn no_wake_up_is_lost_in_any_order() {
    for libs in WHO {
        for sends in [[1500, 2500], [2200, 0], [0, 4500]] {
            let found = explore(Plan { sends, ..TALK }, libs);
            assert!(
                found.states > 30 && found.whole > 0,
                "{libs:?}, {sends:?}: {found:?}"
            );
            assert_eq!(found.lost, 0, "{libs:?}, {sends:?}");
        }
    }
}

/// A side that sleeps without a last look is found: the search is worth something.
#[test]
#[should_panic(expected = "both sides sleep")]
fn a_side_that_does_not_look_again_sleeps_for_ever() {
    let plan = Plan {
        looks_again: false,
        ..TALK
    };
    explore(plan, None);
}

/// The last bytes before the other side goes are read by ours, whichever side goes.
#[test]
fn what_is_sent_before_a_close_arrives() {
    for (leaves, sends) in [(Side::Client, [1500, 0]), (Side::Server, [0, 3000])] {
        let plan = Plan {
            leaves: Some(leaves),
            sends,
            ..TALK
        };
        // Ours reads; ours or libxenvchan closes.
        for libs in [None, Some(leaves)] {
            let found = explore(plan, libs);
            assert!(found.whole > 0, "{leaves:?}, {libs:?}: {found:?}");
            assert_eq!(found.lost, 0, "{leaves:?}, {libs:?}");
        }
        // libxenvchan reads, ours closes: its fault, which the model has to show.
        let found = explore(plan, Some(leaves.other()));
        assert!(found.whole > 0 && found.lost > 0, "{leaves:?}: {found:?}");
    }
}

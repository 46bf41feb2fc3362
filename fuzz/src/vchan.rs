//! Both ends of a vchan, in memory where anything is written anywhere; and 9P messages from an end like that.
//!
//! As long as nothing was written over, every byte arrives in order.

mod end;
mod messages;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use xen9p::transport::vchan::Orders;
use xen9p::transport::vchan::layout::live;
use xen9p::transport::vchan::ring::{Ring, orders_of, refs_of};

use self::end::{End, FLAGS, ORDER_WORDS, REFS, Shared, WRITE, put};
use super::input::Input;

/// The most operations of one run.
const MOST_OPERATIONS: usize = 200;

/// The pairs of orders: both rings in the shared page, or one, or none.
const ORDERS: [(u8, u8); 6] = [(10, 11), (11, 10), (12, 10), (11, 12), (12, 12), (13, 12)];

/// Input: what runs, where the indices start; then operations, each with its numbers.
pub fn run(input: &[u8]) {
    let [shape, begin, rest @ ..] = input else {
        return;
    };
    let (left, right) = ORDERS[usize::from(shape & 0x7f) % ORDERS.len()];
    let orders = Orders::new(left, right).expect("a legal pair");
    let start = match *begin {
        // Near the wrap at 2^32, or just anywhere.
        0..128 => 0u32.wrapping_sub(u32::from(*begin) * 8),
        _ => u32::from(*begin) << 24 | u32::from(*shape),
    };
    let memory = Shared::new(orders);
    let server = memory.ends().serve_from(&memory.refs(), start);
    match shape & 0x80 {
        0 => ends(&memory, server, start, Input(rest)),
        _ => messages::run(&memory, server, start, Input(rest)),
    }
}

/// Both ends, and a peer that writes to the memory. What it writes over an index of the one end is a lie to the other one.
fn ends(memory: &Shared, server: Ring, start: u32, mut input: Input<'_>) {
    let orders = memory.orders;
    let client = memory.ends().attach().expect("the server is there");
    let mut client = client.expect("nothing was sent");
    client.join();
    let mut ends = [
        End::new(client, orders, [start; 2]),
        End::new(server, orders, [start; 2]),
    ];
    ends[0].done = WRITE;
    // What is on its way from each end, and whether nothing was written over yet.
    let mut flows: [VecDeque<u8>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut honest = true;
    let mut next = 0_u8;
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.operation() else {
            break;
        };
        let side = usize::from(operation >> 7);
        let end = &mut ends[side];
        match operation % 11 {
            0 | 1 => {
                let from: Vec<u8> = (0..input.number() % 9000)
                    .map(|_| {
                        next = next.wrapping_mul(5).wrapping_add(1);
                        next
                    })
                    .collect();
                let room = end.capacity().saturating_sub(flows[side].len());
                let count = end.write(memory, &from);
                flows[side].extend(&from[..count]);
                assert!(!honest || count == from.len().min(room));
            }
            2 | 3 => {
                let len = input.number() as usize % 9000;
                let bytes = end.read(memory, len);
                let flow = &mut flows[1 - side];
                if honest {
                    assert_eq!(bytes.len(), len.min(flow.len()));
                    assert!(flow.drain(..bytes.len()).eq(bytes), "in order");
                }
            }
            4 => {
                let number = input.byte();
                match number % 3 {
                    0 => end.ask(memory, number > 127),
                    1 => end.tell(memory),
                    _ => end.look(memory, number > 127),
                }
            }
            // An index a little or a lot further, a flag, the orders, any word.
            5 => {
                let (index, by) = (4 * (input.number() as usize % 4), input.number() % 64);
                let value = memory.load(index).wrapping_add(by);
                memory.page().word(index).store(value, Ordering::Release);
                honest = false;
            }
            6 => {
                let index = 4 * (input.number() as usize % 4);
                let value = input.word();
                memory.page().word(index).store(value, Ordering::Release);
                honest = false;
            }
            7 => {
                let at = FLAGS + usize::from(input.byte() % 4);
                let value = input.byte();
                memory.page().word(at).store(value, Ordering::Release);
            }
            8 => {
                let at = ORDER_WORDS + 2 * usize::from(operation >> 7);
                let value = input.number() as u16;
                memory.page().word(at).store(value, Ordering::Release);
            }
            9 => {
                let at = 4 * (input.number() as usize % (memory.size() / 4));
                let value = input.word();
                memory.memory().word(at).store(value, Ordering::Release);
                honest = false;
            }
            // The client goes, and another one comes.
            _ => {
                if let Some(client) = come_again(memory, &mut ends[0]) {
                    ends[0] = client;
                    // It drops what was for the one before.
                    flows[1].clear();
                }
            }
        }
    }
}

/// A client that looks at a page in which there may be anything. It is one of a server that is there, or none at all.
fn come_again(memory: &Shared, before: &mut End) -> Option<End> {
    let mut image = memory.image();
    image[FLAGS] = live::GONE;
    before.ring.leave();
    assert!(memory.image() == image, "it leaves");
    let page = memory.page();
    let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    let said = (word(ORDER_WORDS), word(ORDER_WORDS + 2));
    let orders = match orders_of(page) {
        Ok(orders) => orders,
        Err(refused) => {
            assert_eq!(refused, said);
            return None;
        }
    };
    let found = (orders.left().get().into(), orders.right().get().into());
    assert_eq!(found, said);
    let refs: Vec<u32> = refs_of(page, orders).map(|reference| reference.0).collect();
    assert_eq!(refs.len(), orders.pages(), "as many as the orders say");
    for (index, reference) in refs.iter().enumerate() {
        assert_eq!(*reference, memory.load(REFS + 4 * index));
    }
    // Those of other orders have other pages.
    if orders != memory.orders {
        return None;
    }
    let (sent, read) = (memory.load(4), memory.load(0));
    let (written, taken) = (memory.load(12), memory.load(8));
    let attached = memory.ends().attach();
    let sound = image[FLAGS + 1] == live::HERE
        && sent.wrapping_sub(read) <= orders.left().bytes()
        && written.wrapping_sub(taken) <= orders.right().bytes();
    assert_eq!(attached.is_ok(), sound);
    let Ok(Some(mut ring)) = attached else {
        assert!(!sound || sent != read);
        assert!(memory.image() == image, "it has changed nothing");
        return None;
    };
    assert_eq!(sent, read);
    put(&mut image, 8, written);
    assert!(memory.image() == image, "it drops what was for another");
    ring.join();
    let mut end = End::new(ring, orders, [sent, written]);
    image[FLAGS] = live::HERE;
    image[end.wants()] |= WRITE;
    assert!(memory.image() == image, "it joins");
    end.done = WRITE;
    Some(end)
}

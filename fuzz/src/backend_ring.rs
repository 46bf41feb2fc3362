//! The backend's end of a 9pfs ring whose frontend writes anything anywhere.
//!
//! After each step the memory is what the backend may have made of it, to the byte. A message that does not go out of a ring is
//! compared with what went in.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use xen9p::xen::shared::SharedMemory;
use xen9p::xen::xenbus::backend::ring::{HEADER_SIZE, Lie, MAX_ORDER, references, split};
use xen9p_testing::backend::RingView;

use super::input::Input;

/// The most operations of one run.
const MOST_OPERATIONS: usize = 200;

const PAGE: usize = 4096;

/// The indices, those of the frontend first.
const INDICES: [usize; 4] = [
    RingView::IN_CONS,
    RingView::OUT_PROD,
    RingView::IN_PROD,
    RingView::OUT_CONS,
];

/// Input: the order and where the indices start; then operations of either side, each with its numbers.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (shape, begin) = (input.byte(), input.byte());
    let size = (PAGE << (shape % 2)) as u32;
    let start = match begin {
        // Near the wrap at 2^32, or just anywhere.
        0..128 => 0u32.wrapping_sub(u32::from(begin) * 8),
        _ => u32::from(begin) << 24 | u32::from(shape),
    };
    let len = PAGE + 2 * size as usize;
    let words: Vec<AtomicU64> = (0..len / 8).map(|_| AtomicU64::new(0)).collect();
    // SAFETY: the words live until the end of this function, where the rings are dropped before them; they are accessed as
    // atomics alone.
    let memory = unsafe { SharedMemory::<'static>::new(NonNull::from(&words[..]).cast(), len) };
    let (interface, data) = (memory.subslice(0, PAGE), memory.subslice(PAGE, len - PAGE));
    let load = |at: usize| interface.word::<u32>(at).load(Ordering::Acquire);
    let store = |at: usize, value: u32| interface.word(at).store(value, Ordering::Release);
    let image = || {
        let mut image = vec![0; len];
        memory.copy_out(0, &mut image);
        image
    };
    let (reply_at, request_at) = (PAGE, PAGE + size as usize);
    let place = |ring: usize, index: u32| ring + (index % size) as usize;
    for index in INDICES {
        store(index, start);
    }
    let (mut requests, mut replies) = split(interface, data);
    assert_eq!((requests.capacity(), replies.capacity()), (size, size));
    // The own indices, and the size that the request at the front had when it was read.
    let (mut out_cons, mut in_prod, mut front) = (start, start, None);
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.operation() else {
            return;
        };
        let before = image();
        let mut expected = before.clone();
        match operation % 12 {
            0 | 1 => {
                let queued = load(RingView::OUT_PROD).wrapping_sub(out_cons);
                let read = || {
                    let byte = |at| before[place(request_at, out_cons.wrapping_add(at))];
                    u32::from_le_bytes([0, 1, 2, 3].map(byte))
                };
                let found = match front {
                    _ if queued > size => Err(Lie::Sent(queued)),
                    None if queued < HEADER_SIZE => Ok(None),
                    None if !(HEADER_SIZE..=size).contains(&read()) => Err(Lie::Size(read())),
                    known => {
                        let claimed = known.unwrap_or_else(read);
                        front = Some(claimed);
                        Ok((claimed <= queued).then_some(claimed))
                    }
                };
                assert_eq!(requests.front(), found);
                if let Ok(Some(claimed)) = found {
                    let mut message = claimed.to_le_bytes().to_vec();
                    let sent = |at| before[place(request_at, out_cons.wrapping_add(at))];
                    message.extend((4..claimed).map(sent));
                    let from = input.number() % claimed;
                    let mut whole = vec![0; claimed as usize];
                    requests.copy_out(0, &mut whole);
                    assert!(whole == message, "the size is as it was read");
                    let (_, part) = whole.split_at_mut(from as usize);
                    part.fill(0);
                    requests.copy_out(from, part);
                    assert!(whole == message);
                }
            }
            2 => {
                requests.consume();
                if let Some(claimed) = front.take() {
                    out_cons = out_cons.wrapping_add(claimed);
                    put(&mut expected, RingView::OUT_CONS, out_cons);
                }
            }
            3 | 4 => {
                let left = in_prod.wrapping_sub(load(RingView::IN_CONS));
                let room = replies.room();
                assert_eq!(room, size.checked_sub(left).ok_or(Lie::Taken(left)));
                // A message in two pieces, the second one first.
                let count = input.number().min(room.unwrap_or(0));
                let message: Vec<u8> = (0..count).map(|at| operation ^ at as u8).collect();
                let (head, tail) = message.split_at(count as usize / 3);
                replies.copy_in(head.len() as u32, tail);
                replies.copy_in(0, head);
                for (at, byte) in (0..).zip(&message) {
                    expected[place(reply_at, in_prod.wrapping_add(at))] = *byte;
                }
                if operation % 12 == 4 {
                    replies.publish(count);
                    in_prod = in_prod.wrapping_add(count);
                    put(&mut expected, RingView::IN_PROD, in_prod);
                }
            }
            5 => {
                let most = u32::from(operation) / 12;
                let order = load(RingView::RING_ORDER);
                match references(interface, most) {
                    Ok(refs) => {
                        assert!((1..=most.min(MAX_ORDER)).contains(&order));
                        assert_eq!(refs.len(), 1 << order);
                        let there = (0..).map(|index| load(RingView::REF + 4 * index));
                        assert!(
                            refs.iter()
                                .map(|reference| reference.0)
                                .eq(there.take(refs.len()))
                        );
                    }
                    Err(refused) => {
                        assert_eq!(refused, order);
                        assert!(!(1..=most.min(MAX_ORDER)).contains(&order));
                    }
                }
            }
            // The frontend: an index a little or a lot further, the order, any word, any bytes.
            6 | 7 => {
                let at = INDICES[input.number() as usize % 4];
                let by = match operation % 12 {
                    6 => input.number() % 64,
                    _ => input.word(),
                };
                store(at, load(at).wrapping_add(by));
                continue;
            }
            8 => {
                let order = input.number();
                store(RingView::RING_ORDER, order % 12);
                continue;
            }
            9 => {
                let at = 4 * (input.number() as usize % (len / 4));
                memory.word(at).store(input.word(), Ordering::Release);
                continue;
            }
            // All that was sent is taken.
            10 => {
                store(RingView::IN_CONS, in_prod);
                continue;
            }
            // A request behind what was sent, of that size, or one that says so.
            _ => {
                let (count, says) = (input.number() % size, input.number());
                let mut message = vec![operation; count as usize];
                let says = if says > 0x7fff { says & 0x3fff } else { count };
                for (byte, says) in message.iter_mut().zip(says.to_le_bytes()) {
                    *byte = says;
                }
                let at = load(RingView::OUT_PROD);
                let ring = data.subslice(size as usize, size as usize);
                ring.copy_in_around((at % size) as usize, &message);
                store(RingView::OUT_PROD, at.wrapping_add(count));
                continue;
            }
        }
        assert!(image() == expected, "operation {}", operation % 12);
    }
}

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

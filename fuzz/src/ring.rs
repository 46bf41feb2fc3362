//! A ring whose backend writes anything anywhere, while the frontend uses it in every way.

use xen9p::transport::xen9pfs::ring::{Order, Ring, Violation};
use xen9p_testing::backend::{PlainRing, RingView};

/// The most operations of one run.
const MOST_OPERATIONS: usize = 200;

/// What the frontend has seen so far, to hold the ring against.
#[derive(Default)]
struct Seen {
    /// What broke it.
    broken: Option<Violation>,
    /// Reply budget that is taken, request by request.
    taken: Vec<u32>,
}

/// Takes the answer of the ring, which stays broken once it is.
fn check<T>(seen: &mut Seen, answer: Result<T, Violation>) -> Option<T> {
    if let Some(broken) = seen.broken {
        assert_eq!(answer.err(), Some(broken), "broken is broken");
        return None;
    }
    match answer {
        Ok(value) => Some(value),
        Err(violation) => {
            seen.broken = Some(violation);
            None
        }
    }
}

/// Input: the order and where the indices start; then operations of either side, each with its numbers.
pub fn run(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut byte = || bytes.next();
    let (Some(shape), Some(begin)) = (byte(), byte()) else {
        return;
    };
    let order = Order::new(2 + shape % 3).expect("2 to 4");
    let start = match begin {
        // Near the wrap at 2^32, or just anywhere.
        0..128 => 0u32.wrapping_sub(u32::from(begin) * 8),
        _ => u32::from(begin) << 24 | u32::from(shape),
    };
    let memory = PlainRing::new(order);
    let view = memory.backend();
    let mut ring = memory.frontend(start);
    let max = 64 + u32::from(shape) * 16 % order.max_message();
    ring.set_max_message(max);
    let mut seen = Seen::default();
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = byte() else { return };
        let mut number = || {
            let parts = [byte(), byte()].map(|part| part.unwrap_or(0));
            u32::from(u16::from_le_bytes(parts))
        };
        match operation % 12 {
            0 => {
                let (len, reply) = (number() as usize, number());
                let before = ring.reserved_reply_bytes();
                let request = vec![operation; len];
                let (first, second) = request.split_at(len / 3);
                let sent = check(&mut seen, ring.send(&[first, second], reply));
                if sent == Some(true) {
                    seen.taken.push(reply);
                    assert_eq!(ring.reserved_reply_bytes(), before + reply);
                    assert!(
                        ring.reserved_reply_bytes() < order.bytes(),
                        "a byte stays free"
                    );
                } else {
                    assert_eq!(ring.reserved_reply_bytes(), before, "nothing was sent");
                }
            }
            1 => {
                check(&mut seen, ring.has_room(number(), number()));
            }
            2 => look(&mut ring, &view, &mut seen, max, number()),
            3 => {
                ring.consume();
                if let Some(reply) = seen.taken.pop() {
                    ring.release(reply);
                }
            }
            4 => {
                let _ = (ring.has_new_replies(), ring.take_event_due());
            }
            // The backend: an index a little or a lot further, any word, any bytes.
            5 => shift(&view, RingView::IN_PROD, number() % 64),
            6 => shift(&view, RingView::IN_PROD, number()),
            7 => shift(&view, RingView::OUT_CONS, number() % 64),
            8 => shift(&view, RingView::OUT_CONS, number() << 16 | number()),
            9 => view.set((number() as usize * 4) % 4096, number() << 16 | number()),
            10 => {
                let (at, len) = (number(), number() % 64);
                let noise: Vec<u8> = (0..len).map(|_| number() as u8).collect();
                view.write_replies(start.wrapping_add(at), &noise);
            }
            // A whole reply, at the place where it belongs.
            _ => {
                let len = 7 + number() % 200;
                let at = view.get(RingView::IN_PROD);
                let mut reply = len.to_le_bytes().to_vec();
                reply.resize(len as usize, operation);
                view.write_replies(at, &reply);
                shift(&view, RingView::IN_PROD, len);
            }
        }
    }
}

fn shift(view: &RingView, word: usize, by: u32) {
    view.set(word, view.get(word).wrapping_add(by));
}

/// Looks at the next message, which does not change any more once it was seen, whatever the backend writes.
fn look(ring: &mut Ring, view: &RingView, seen: &mut Seen, max: u32, offset: u32) {
    let Some(header) = check(seen, ring.peek()) else {
        return;
    };
    let Some(header) = header else { return };
    assert!(header.size >= 7 && header.size <= max, "{header:?}");
    let at = view.get(RingView::IN_CONS);
    view.write_replies(at, &u32::MAX.to_le_bytes());
    assert_eq!(ring.peek(), Ok(Some(header)), "read once");
    let mut into = vec![1; 300];
    ring.copy_out(offset, &mut into);
    let there = header.size.saturating_sub(offset).min(300) as usize;
    assert!(
        into[there..].iter().all(|&byte| byte == 0),
        "beyond its end"
    );
}

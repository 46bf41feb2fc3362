//! A word of pending events: Xen sets the bit of a port, and the guest takes it, while Xen sets another one.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

const PORTS: [u32; 2] = [1, 2];

fn ports(take: fn(&AtomicU32, u32) -> bool) {
    loom::model(move || {
        let word = Arc::new(AtomicU32::new(0));
        let senders = PORTS.map(|bit| {
            let word = word.clone();
            thread::spawn(move || {
                word.fetch_or(bit, Ordering::SeqCst);
            })
        });
        let mut taken = PORTS.map(|bit| take(&word, bit));
        for sender in senders {
            sender.join().unwrap();
        }
        for (taken, bit) in taken.iter_mut().zip(PORTS) {
            *taken |= take(&word, bit);
        }
        assert_eq!(taken, [true; 2], "an event was lost");
    });
}

/// As `take_pending` of the platforms.
#[test]
fn taking_one_ports_event_leaves_the_others() {
    ports(|word, bit| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0);
}

#[test]
#[should_panic(expected = "an event was lost")]
fn a_word_that_is_read_and_written_back_loses_an_event() {
    ports(|word, bit| {
        let bits = word.load(Ordering::SeqCst);
        if bits & bit != 0 {
            word.store(bits & !bit, Ordering::SeqCst);
        }
        bits & bit != 0
    });
}

//! A side of a vchan that is going to sleep asks for an event by a bit, and looks at the ring once more; the other one
//! moves its index and sends an event where it finds the bit set.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use loom::thread;

const BIT: u8 = 1;

#[derive(Clone, Copy)]
struct Variant {
    /// Whether the bit is set before the last look.
    asks_first: bool,
    /// Of the instructions that set and clear the bit. Both change the same word, so that one of them sees the other; no
    /// fence is needed besides.
    order: Ordering,
}

const RULE: Variant = Variant {
    asks_first: true,
    order: Ordering::AcqRel,
};

fn sleeper_and_writer(variant: Variant) {
    loom::model(move || {
        let index = Arc::new(AtomicU32::new(0));
        let notify = Arc::new(AtomicU8::new(0));
        let writer = {
            let (index, notify) = (index.clone(), notify.clone());
            thread::spawn(move || {
                index.store(1, Ordering::Release);
                notify.fetch_and(!BIT, variant.order) & BIT != 0
            })
        };
        let ask = || notify.fetch_or(BIT, variant.order);
        let look = || index.load(Ordering::Acquire) == 1;
        let seen = if variant.asks_first {
            ask();
            look()
        } else {
            let seen = look();
            ask();
            seen
        };
        let told = writer.join().unwrap();
        assert!(seen || told, "a wake-up was lost");
    });
}

#[test]
fn whoever_sleeps_has_seen_the_bytes_or_gets_an_event() {
    sleeper_and_writer(RULE);
}

#[test]
#[should_panic(expected = "a wake-up was lost")]
fn a_bit_that_is_set_after_the_look_loses_a_wake_up() {
    sleeper_and_writer(Variant {
        asks_first: false,
        ..RULE
    });
}

#[test]
#[should_panic(expected = "a wake-up was lost")]
fn a_bit_that_orders_nothing_loses_a_wake_up() {
    sleeper_and_writer(Variant {
        order: Ordering::Relaxed,
        ..RULE
    });
}

//! A ring whose backend sends replies, and a frontend that sleeps until an event comes.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::thread;

/// What differs between the library's code and a broken variant of it.
#[derive(Clone, Copy)]
struct Variant {
    /// Of the store that shows new bytes (`Ring::store`).
    publish: Ordering,
    /// Of the load that looks for them (`Ring::load`).
    look: Ordering,
    /// Whether the event is taken before the ring is looked at (`Events::dispatch` before `peek`).
    event_first: bool,
}

const LIBRARY: Variant = Variant {
    publish: Ordering::Release,
    look: Ordering::Acquire,
    event_first: true,
};

const REPLIES: usize = 2;

#[derive(Default)]
struct Shared {
    bytes: [AtomicU32; REPLIES],
    in_prod: AtomicU32,
    pending: AtomicBool,
}

impl Shared {
    /// Xen sets the bit by a locked instruction.
    fn event(&self) {
        self.pending.swap(true, Ordering::SeqCst);
    }

    fn take_event(&self) {
        self.pending.swap(false, Ordering::SeqCst);
    }
}

/// The backend: the message, then the index that shows it, then the event.
fn backend(shared: &Shared, variant: Variant) {
    for (index, byte) in shared.bytes.iter().enumerate() {
        let next = index as u32 + 1;
        byte.store(next, Ordering::Relaxed);
        shared.in_prod.store(next, variant.publish);
        shared.event();
    }
}

/// The frontend takes what the index shows; each reply must be there.
fn look(shared: &Shared, taken: &mut usize, variant: Variant) {
    let in_prod = shared.in_prod.load(variant.look) as usize;
    for index in *taken..in_prod {
        let byte = shared.bytes[index].load(Ordering::Relaxed);
        assert_eq!(byte as usize, index + 1, "a reply was read before it came");
    }
    *taken = in_prod;
}

/// Looks once without an event, as a frontend that is about to sleep does, and then after each event. Sleeps where
/// this returns.
fn frontend(shared: &Shared, taken: &mut usize, variant: Variant) {
    look(shared, taken, variant);
    while shared.pending.load(Ordering::SeqCst) {
        if variant.event_first {
            shared.take_event();
            look(shared, taken, variant);
        } else {
            look(shared, taken, variant);
            shared.take_event();
        }
    }
}

fn replies(variant: Variant) {
    loom::model(move || {
        let shared = Arc::new(Shared::default());
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || backend(&shared, variant))
        };
        let mut taken = 0;
        frontend(&shared, &mut taken, variant);
        sender.join().unwrap();
        // Both are asleep now. An event that is still pending wakes the frontend.
        if shared.pending.load(Ordering::SeqCst) {
            frontend(&shared, &mut taken, variant);
        }
        assert_eq!(taken, REPLIES, "a wake-up was lost");
    });
}

#[test]
fn every_reply_comes_whole_and_wakes_the_frontend() {
    replies(LIBRARY);
}

#[test]
#[should_panic(expected = "a reply was read before it came")]
fn an_index_that_is_stored_without_release_shows_too_much() {
    replies(Variant {
        publish: Ordering::Relaxed,
        ..LIBRARY
    });
}

#[test]
#[should_panic(expected = "a reply was read before it came")]
fn an_index_that_is_loaded_without_acquire_shows_too_much() {
    replies(Variant {
        look: Ordering::Relaxed,
        ..LIBRARY
    });
}

#[test]
#[should_panic(expected = "a wake-up was lost")]
fn an_event_that_is_taken_after_the_look_is_lost() {
    replies(Variant {
        event_first: false,
        ..LIBRARY
    });
}

/// Bytes of a ring that is almost full: one is used, and the largest reply has one.
const SIZE: u32 = 2;
const MAX_MESSAGE: u32 = 1;

/// A backend out of room writes what fits, looks for room, and sleeps (`Ring::consume` has to wake it).
fn room(fenced: bool) {
    let barrier = move || {
        if fenced {
            fence(Ordering::SeqCst);
        }
    };
    loom::model(move || {
        let in_prod = Arc::new(AtomicU32::new(1));
        let in_cons = Arc::new(AtomicU32::new(0));
        let sender = {
            let (in_prod, in_cons) = (in_prod.clone(), in_cons.clone());
            thread::spawn(move || {
                in_prod.store(2, Ordering::Release);
                barrier();
                2 - in_cons.load(Ordering::Acquire) < SIZE
            })
        };
        in_cons.store(1, Ordering::Release);
        barrier();
        let told = in_prod.load(Ordering::Acquire) > SIZE - MAX_MESSAGE;
        let has_room = sender.join().unwrap();
        assert!(has_room || told, "the backend sleeps with room in the ring");
    });
}

#[test]
fn a_backend_that_waits_for_room_is_told() {
    room(true);
}

#[test]
#[should_panic(expected = "the backend sleeps with room in the ring")]
fn without_fences_a_backend_that_waits_for_room_is_not_told() {
    room(false);
}

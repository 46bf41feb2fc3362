//! A xenstored that is silent or slow is waited for in bounded time; and handlers use the store while a request waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::time::Instant;
use xen9p::xen::event::Events;
use xen9p::xen::store::{StoreError, XenStore};
use xen9p_testing::fake::{FakeDomain, FakeXen, Peer};

use super::{CONNECTION, GUEST, guest, poke, soon};

#[test]
fn a_silent_xenstored_is_waited_for_in_vain_and_answers_later() {
    let (xen, store) = guest();
    let watch = store.watch("data/watched").unwrap();
    store.set_timeout(Duration::from_millis(200));
    xen.store_faults(|faults| faults.mute = true);
    let before = xen.now();
    assert_eq!(store.read("domid"), Err(StoreError::Timeout));
    let waited = xen.now() - before;
    assert!(waited >= Duration::from_millis(200) && waited < Duration::from_millis(201));
    // Many of them: what waits is bounded too.
    let mut last = StoreError::Timeout;
    for _ in 0..1000 {
        last = store.write("data/x", &[b'x'; 2000]).unwrap_err();
        if last != StoreError::Timeout {
            break;
        }
    }
    assert_eq!(last, StoreError::Backlog);
    // Nor is there room for small ones in the end.
    let full = (0..1000).any(|_| store.read("domid") == Err(StoreError::Backlog));
    assert!(full);
    // What ends something is never too much; what was never begun is not ended.
    drop(watch);
    for _ in 0..10 {
        let refused = store.watch("data/other").map(drop);
        assert_eq!(refused, Err(StoreError::Backlog));
    }
    assert_eq!(store.open_watches(), 0);
    // The late answers belong to abandoned requests; the next one is for us.
    xen.store_faults(|faults| faults.mute = false);
    xen.settle();
    store.poll().unwrap();
    xen.settle();
    for _ in 0..100 {
        xen.settle();
        store.poll().unwrap();
    }
    assert_eq!(store.read("name").unwrap(), b"guest");
    assert_eq!(xen.usage(GUEST).watches, 0);
}

/// Lets xenstored speak for a few turns at a time, and not for long in between.
struct Slow {
    turns: u32,
    next: Instant,
}

impl Peer for Slow {
    fn step(&mut self, xen: &FakeXen) -> bool {
        if self.turns == 0 && xen.now() >= self.next {
            self.turns = 8;
            self.next = xen.now() + Duration::from_millis(900);
        }
        self.turns = self.turns.saturating_sub(1);
        let mute = self.turns == 0;
        xen.store_faults(|faults| faults.mute = mute);
        !mute
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// What takes many requests is bounded as a whole, even if each of them is answered in time.
#[test]
fn many_slow_answers_are_not_waited_for_one_by_one() {
    let (xen, store) = guest();
    for index in 0..3000 {
        let path = format!("/local/domain/1/data/with a name of some length {index:04}");
        xen.dom0().write(&path.replace(' ', "-"), "");
    }
    store.set_timeout(Duration::from_secs(1));
    let turns = 0;
    let next = xen.now();
    xen.add_peer(Slow { turns, next });
    let begun = xen.now();
    let listed = store.directory("data").map(|names| names.len());
    assert_eq!(listed, Err(StoreError::Timeout));
    let took = xen.now() - begun;
    assert!(took < Duration::from_secs(3), "{took:?}");

    xen.store_faults(|faults| faults.conflicts = u32::MAX);
    let begun = xen.now();
    let outcome = store.transaction(|transaction| {
        for _ in 0..10 {
            transaction.read("domid")?;
        }
        Ok::<_, StoreError>(())
    });
    assert_eq!(outcome, Err(StoreError::Conflict));
    let took = xen.now() - begun;
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// Xenstored lets a domain have ten transactions at a time.
#[test]
fn a_transaction_that_began_when_nobody_waited_any_more_is_ended() {
    let (xen, store) = guest();
    for _ in 0..12 {
        xen.store_faults(|faults| faults.mute = true);
        let outcome = store.transaction(|_| Ok::<_, StoreError>(()));
        assert_eq!(outcome, Err(StoreError::Timeout));
        xen.store_faults(|faults| faults.mute = false);
        xen.settle();
        store.poll().unwrap();
    }
    store
        .transaction(|transaction| transaction.write("data/a", b"1"))
        .unwrap();
}

#[test]
fn a_domain_whose_xenstored_is_not_there_yet_waits_for_it() {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(GUEST));
    poke(&xen, CONNECTION, 1);
    let before = xen.now();
    let refused = XenStore::connect(&events).map(drop);
    assert_eq!(refused, Err(StoreError::Timeout));
    assert!(xen.now() - before >= Duration::from_secs(5));
    poke(&xen, CONNECTION, 0);
    XenStore::connect(&events).unwrap();
    assert_eq!(events.open_ports(), 0);
}

#[test]
fn handlers_may_use_the_store_while_another_request_waits() {
    let (xen, store) = guest();
    let events = store.events().clone();
    let channel = events.alloc_unbound(DomId(0)).unwrap();
    let other = xen
        .dom0()
        .bind_interdomain(GUEST, channel.port().0)
        .unwrap();
    let inner = Rc::new(RefCell::new(Vec::new()));
    channel.on_event({
        let (store, inner) = (store.clone(), Rc::clone(&inner));
        move || inner.borrow_mut().push(store.read("domid"))
    });
    xen.store_faults(|faults| faults.chunk = 3);
    xen.dom0().send(other);
    store.write("data/x", &[b'x'; 1500]).unwrap();
    assert_eq!(*inner.borrow(), [Ok(b"1".to_vec())]);
    assert_eq!(store.read("data/x").unwrap(), [b'x'; 1500]);
}

/// However fast its port fires, a handler that waits is not called on top of itself.
#[test]
fn a_handler_that_waits_is_not_stacked_up_by_a_storm() {
    struct Storm(FakeDomain, u32);
    impl Peer for Storm {
        fn step(&mut self, _: &FakeXen) -> bool {
            self.0.send(self.1);
            true
        }
    }
    let (xen, store) = guest();
    let events = store.events().clone();
    let channel = events.alloc_unbound(DomId(0)).unwrap();
    let other = xen
        .dom0()
        .bind_interdomain(GUEST, channel.port().0)
        .unwrap();
    let (depth, calls) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    channel.on_event({
        let (store, depth, calls) = (store.clone(), depth.clone(), calls.clone());
        move || {
            assert_eq!(depth.replace(1), 0, "called on top of itself");
            assert_eq!(store.read("domid").as_deref(), Ok(&b"1"[..]));
            depth.set(0);
            calls.set(calls.get() + 1);
        }
    });
    xen.add_peer(Storm(xen.dom0(), other));
    events.sleep_until(soon(&store));
    xen.remove_peers();
    assert!(calls.get() > 100, "{} calls", calls.get());
    // The last event that came while it ran is not lost.
    events.dispatch();
    let before = calls.get();
    xen.dom0().send(other);
    events.dispatch();
    assert_eq!(calls.get(), before + 1);
    assert!(!events.dispatch());
}

//! The xenstore client does each operation over the real ring; a xenstored that is silent, floods or lies costs a
//! bounded time and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::platform::{InUse, Platform, Resource};
use xen9p::time::Instant;
use xen9p::xen::Xen;
use xen9p::xen::console::Console;
use xen9p::xen::event::Events;
use xen9p::xen::store::wire::Kind;
use xen9p::xen::store::{
    Access, Permission, Refusal, StoreError, Transaction, WatchEvent, XenStore,
};
use xen9p_testing::fake::{FakeDomain, FakePlatform, FakeXen, Peer};

pub(super) const GUEST: DomId = DomId(1);

pub(super) fn guest() -> (FakeXen, XenStore<FakePlatform>) {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(GUEST));
    let store = XenStore::connect(&events).unwrap();
    (xen, store)
}

/// A word of the guest's ring page.
pub(super) fn poke(xen: &FakeXen, offset: usize, value: u32) {
    let page = xen.platform(GUEST).xenstore_ring().unwrap().page;
    // SAFETY: an aligned word inside the page.
    unsafe { page.cast::<u32>().add(offset / 4).write_volatile(value) };
}

pub(super) const RSP_PROD: usize = 2060;
pub(super) const REQ_CONS: usize = 2048;
const CONNECTION: usize = 2068;
pub(super) const ERROR: usize = 2072;

pub(super) fn soon(store: &XenStore<FakePlatform>) -> xen9p::time::Instant {
    store.events().now() + Duration::from_secs(1)
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let (_xen, store) = guest();
    store.write("data/a/b", b"some\0bytes\xff").unwrap();
    assert_eq!(store.read("data/a/b").unwrap(), b"some\0bytes\xff");
    assert_eq!(store.read("data/a").unwrap(), b"");
    store.mkdir("data/a/c").unwrap();
    assert_eq!(store.directory("data/a").unwrap(), ["b", "c"]);
    assert!(store.directory("data/a/c").unwrap().is_empty());
    store.rm("data/a").unwrap();
    let gone = store.read("data/a/b").unwrap_err();
    assert!(gone.is_not_found());
    assert!(store.directory("data/a").unwrap_err().is_not_found());
    assert_eq!(store.read_text("/local/domain/1/name").unwrap(), "guest");
    assert_eq!(store.read_number("domid").unwrap(), 1);
    assert_eq!(
        store.read_number("name"),
        Err(StoreError::BadAnswer("a number"))
    );
    let denied = StoreError::Refused(Refusal::Access);
    assert_eq!(store.write("/local/domain/0/x", b""), Err(denied));
}

#[test]
fn requests_made_together_are_answered_each() {
    let (xen, store) = guest();
    // More than xenstored takes at once, and more than fit in the ring.
    let value = [b'x'; 300];
    let nodes: Vec<_> = (0..40)
        .map(|index| (format!("data/{index}"), &value[..]))
        .collect();
    store
        .transaction(|transaction| transaction.write_all(&nodes))
        .unwrap();
    assert_eq!(store.directory("data").unwrap().len(), 40);
    let [first, none, bad, last] = store.read_all(["data/0", "data/40", "no node", "data/39"]);
    assert_eq!(
        (first.unwrap(), last.unwrap()),
        (value.into(), value.into())
    );
    assert!(none.unwrap_err().is_not_found());
    assert!(matches!(bad, Err(StoreError::Invalid(_))));

    let denied = StoreError::Refused(Refusal::Access);
    let some: [(String, &[u8]); 3] = [
        ("data/40".into(), b""),
        ("/local/domain/0/x".into(), b""),
        ("data/41".into(), b""),
    ];
    let refused = store.transaction(|transaction| transaction.write_all(&some));
    assert_eq!(refused, Err(denied));
    assert_eq!(store.directory("data").unwrap().len(), 40);

    // A silent xenstored is waited for once, not for each.
    xen.store_faults(|faults| faults.mute = true);
    let start = store.events().now();
    let timeout = Duration::from_secs(2);
    store.set_timeout(timeout);
    for answer in store.read_all(["data/0", "data/1", "data/2"]) {
        assert_eq!(answer, Err(StoreError::Timeout));
    }
    assert!(store.events().now() - start < 2 * timeout);
}

#[test]
fn permissions_are_set_and_got() {
    let (xen, store) = guest();
    xen.add_domain(DomId(7));
    store.write("data/x", b"1").unwrap();
    let list = [
        Permission {
            domain: GUEST,
            access: Access::None,
        },
        Permission {
            domain: DomId(7),
            access: Access::Both,
        },
    ];
    store.set_permissions("data/x", &list).unwrap();
    assert_eq!(store.permissions("data/x").unwrap(), list);
    let other = xen.domain(DomId(7));
    other.write("/local/domain/1/data/x", "2");
    assert_eq!(store.read("data/x").unwrap(), b"2");
}

#[test]
fn bad_requests_are_refused_before_they_are_sent() {
    let (_xen, store) = guest();
    let long = "x".repeat(2049);
    for path in ["", "a b", "a\0b", "\u{fc}", &long] {
        assert!(matches!(store.read(path), Err(StoreError::Invalid(_))));
        assert!(matches!(store.watch(path), Err(StoreError::Invalid(_))));
    }
    let value = [b'x'; 4096];
    assert!(matches!(
        store.write("data/x", &value),
        Err(StoreError::Invalid(_))
    ));
    // The connection has not suffered.
    assert_eq!(store.read("domid").unwrap(), b"1");
}

#[test]
fn pieces_of_any_size_make_whole_messages() {
    let (xen, store) = guest();
    let value: Vec<u8> = (0..1900).map(|i| i as u8).collect();
    for chunk in (1..=40).chain([1023, 1024]) {
        xen.store_faults(|faults| faults.chunk = chunk);
        let _watch = store.watch("data").unwrap();
        store.write("data/big", &value).unwrap();
        assert_eq!(store.read("data/big").unwrap(), value);
        assert!(store.read("data/none").unwrap_err().is_not_found());
    }
}

#[test]
fn long_listings_come_in_parts() {
    let (xen, store) = guest();
    let names: BTreeSet<String> = (0..2000).map(|i| format!("entry-{i}")).collect();
    for name in &names {
        xen.dom0()
            .write(&format!("/local/domain/1/data/{name}"), "");
    }
    let listed = store.directory("data").unwrap();
    assert_eq!(listed.len(), 2000);
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), names);

    xen.store_faults(|faults| faults.listing_changes = 3);
    assert_eq!(store.directory("data").unwrap().len(), 2000);
    xen.store_faults(|faults| faults.listing_changes = u32::MAX);
    assert_eq!(store.directory("data"), Err(StoreError::Conflict));
}

#[test]
fn a_watch_fires_at_once_and_on_changes() {
    let (xen, store) = guest();
    for events_first in [false, true] {
        xen.store_faults(|faults| faults.events_first = events_first);
        let watch = store.watch("data").unwrap();
        let changed = |path: &str| Some(WatchEvent::Changed(path.into()));
        assert_eq!(watch.wait(soon(&store)).unwrap(), changed("data"));
        assert_eq!(watch.take().unwrap(), None);
        xen.dom0().write("/local/domain/1/data/x", "1");
        xen.dom0().write("/local/domain/1/data/y", "1");
        xen.dom0().write("/local/domain/1/data/x", "2");
        xen.dom0().write("/local/domain/1/database", "not below");
        assert_eq!(watch.wait(soon(&store)).unwrap(), changed("data/x"));
        assert_eq!(watch.wait(soon(&store)).unwrap(), changed("data/y"));
        xen.settle();
        assert_eq!(watch.take().unwrap(), None);
        let deadline = soon(&store);
        assert_eq!(watch.wait(deadline).unwrap(), None);
        assert!(xen.now() >= deadline);
    }
    let absolute = store.watch("/local/domain/1/data").unwrap();
    assert_eq!(
        absolute.wait(soon(&store)).unwrap(),
        Some(WatchEvent::Changed("/local/domain/1/data".into()))
    );
}

#[test]
fn a_dropped_watch_is_ended_without_waiting() {
    let (xen, store) = guest();
    let watch = store.watch("data").unwrap();
    assert_eq!((store.open_watches(), xen.usage(GUEST).watches), (1, 1));
    // Events of watches that are gone do no harm.
    xen.dom0().write("/local/domain/1/data/x", "1");
    xen.store_faults(|faults| faults.mute = true);
    let before = xen.now();
    drop(watch);
    assert!(xen.now() - before < Duration::from_micros(10));
    xen.store_faults(|faults| faults.mute = false);
    assert_eq!(store.read("domid").unwrap(), b"1");
    assert_eq!((store.open_watches(), xen.usage(GUEST).watches), (0, 0));
}

#[test]
fn a_refused_watch_leaves_nothing_behind() {
    let (_xen, store) = guest();
    let watches: Vec<_> = (0..128).map(|_| store.watch("data").unwrap()).collect();
    let refused = store.watch("data").map(drop);
    assert_eq!(refused, Err(StoreError::Refused(Refusal::TooBig)));
    assert_eq!(store.open_watches(), 128);
    drop(watches);
    assert_eq!(store.open_watches(), 0);
    drop(store.watch("data").unwrap());
}

#[test]
fn a_flood_of_changes_is_remembered_in_bounded_space() {
    let (xen, store) = guest();
    let watch = store.watch("data").unwrap();
    watch.wait(soon(&store)).unwrap();
    for index in 0..1000 {
        xen.dom0()
            .write(&format!("/local/domain/1/data/{index}"), "");
    }
    xen.dom0().write("/local/domain/1/control/other", "");
    store.read("domid").unwrap();
    xen.settle();
    let mut events = Vec::new();
    while let Some(event) = watch.take().unwrap() {
        events.push(event);
        xen.settle();
    }
    assert!(events.contains(&WatchEvent::Overflow));
    assert!(events.len() < 1000);
}

#[test]
fn leftover_watches_are_reset() {
    let (xen, store) = guest();
    // A program that was here before us is gone without a trace but its watches.
    std::mem::forget(store.watch("data").unwrap());
    let again = XenStore::connect(&Events::new(xen.next_program(GUEST))).unwrap();
    assert_eq!(xen.usage(GUEST).watches, 0);
    assert_eq!(again.read("domid").unwrap(), b"1");
}

#[test]
fn a_domain_has_one_connection() {
    let (xen, store) = guest();
    let watch = store.watch("data").unwrap();
    let second = || XenStore::connect(&Events::new(xen.platform(GUEST))).map(drop);
    let in_use = StoreError::InUse(InUse(Resource::XenstoreRing));
    assert_eq!(second(), Err(in_use));
    drop(store);
    assert_eq!(second(), Err(in_use), "a watch keeps it");
    drop(watch);
    xen.settle();
    assert_eq!(second(), Ok(()));
    // A second `Xen` is refused, and gives back what it had claimed.
    let first = Xen::new(Events::new(xen.platform(GUEST))).unwrap();
    let refused = Xen::new(first.events.clone()).map(drop);
    assert_eq!(refused, Err(StoreError::InUse(InUse(Resource::GrantTable))));
    drop(first);
    let console = Console::open(&Events::new(xen.platform(GUEST))).unwrap();
    assert!(Xen::new(Events::new(xen.platform(GUEST))).is_ok());
    drop(console);
}

#[test]
fn a_transaction_happens_all_at_once() {
    let (xen, store) = guest();
    let result: Result<u32, StoreError> = store.transaction(|transaction| {
        transaction.write("data/a", b"1")?;
        transaction.write("data/b", b"2")?;
        transaction.mkdir("data/c")?;
        transaction.rm("data/b")?;
        assert_eq!(transaction.directory("data")?, ["a", "c"]);
        assert_eq!(transaction.read("data/a")?, b"1");
        assert_eq!(xen.domain(GUEST).read("data/a"), None);
        Ok(5)
    });
    assert_eq!(result, Ok(5));
    assert_eq!(store.directory("data").unwrap(), ["a", "c"]);
}

#[test]
fn a_transaction_that_meets_another_runs_again() {
    let (xen, store) = guest();
    let runs = Cell::new(0);
    let add = |transaction: &Transaction<'_, FakePlatform>| -> Result<(), StoreError> {
        runs.set(runs.get() + 1);
        let value = transaction.read("data/n")?;
        if runs.get() == 1 {
            xen.dom0().write("/local/domain/1/data/n", "10");
        }
        transaction.write("data/n", &[&value[..], b"!"].concat())
    };
    store.write("data/n", b"1").unwrap();
    store.transaction(add).unwrap();
    assert_eq!(
        (runs.get(), &store.read("data/n").unwrap()[..]),
        (2, &b"10!"[..])
    );

    xen.store_faults(|faults| faults.conflicts = 5);
    runs.set(1);
    store.transaction(add).unwrap();
    assert_eq!(runs.get(), 7);
    xen.store_faults(|faults| faults.conflicts = u32::MAX);
    assert_eq!(store.transaction(add), Err(StoreError::Conflict));
    assert!(runs.get() < 100);
}

#[test]
fn a_transaction_whose_body_fails_has_no_effect() {
    let (_xen, store) = guest();
    for _ in 0..20 {
        // More often than a domain may have transactions open: each one is ended.
        let result: Result<(), StoreError> = store.transaction(|transaction| {
            transaction.write("data/a", b"1")?;
            transaction.read("data/nothing").map(drop)
        });
        assert!(result.unwrap_err().is_not_found());
    }
    assert!(store.directory("data").unwrap().is_empty());
}

#[test]
fn unknown_refusals_are_refusals() {
    let (xen, store) = guest();
    for (name, refusal) in [
        ("EQUOTA", Refusal::Quota),
        ("ENOTEMPTY", Refusal::NotEmpty),
        ("ESOMETHING", Refusal::Unknown),
        ("", Refusal::Unknown),
    ] {
        xen.store_faults(|faults| {
            faults.refuse.insert(Kind::READ, name);
        });
        assert_eq!(store.read("domid"), Err(StoreError::Refused(refusal)));
    }
}

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
fn dom0_has_no_xenstore_ring() {
    let xen = FakeXen::new();
    let events = Events::new(xen.platform(DomId(0)));
    let missing = XenStore::connect(&events).map(drop);
    assert_eq!(missing, Err(StoreError::Missing));
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

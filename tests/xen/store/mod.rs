//! The xenstore client does each operation over the real ring; a xenstored that is silent, floods or lies costs a
//! bounded time and nothing else.

mod waits;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::platform::{InUse, Platform, Resource};
use xen9p::xen::Xen;
use xen9p::xen::console::Console;
use xen9p::xen::event::Events;
use xen9p::xen::store::wire::Kind;
use xen9p::xen::store::{
    Access, Permission, Refusal, StoreError, Transaction, WatchEvent, XenStore,
};
use xen9p_testing::fake::{FakePlatform, FakeXen};

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
    let (written, read) = store.write_and_read(&nodes, "data/39");
    assert_eq!((written, read.unwrap()), (Ok(()), value.to_vec()));
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
    // One that is refused does not keep the others from being done.
    let (refused, read) = store.write_and_read(&some, "data/41");
    assert_eq!((refused, read.unwrap()), (Err(denied), Vec::new()));
    let (written, read) = store.write_and_read(&some[..1], "no/such/node");
    assert_eq!(written, Ok(()));
    assert!(read.unwrap_err().is_not_found());

    // A silent xenstored is waited for once, not for each.
    xen.store_faults(|faults| faults.mute = true);
    let start = store.events().now();
    let timeout = Duration::from_secs(2);
    store.set_timeout(timeout);
    for answer in store.read_all(["data/0", "data/1", "data/2"]) {
        assert_eq!(answer, Err(StoreError::Timeout));
    }
    assert!(store.events().now() - start < 2 * timeout);
    let start = store.events().now();
    let (written, read) = store.write_and_read(&some, "data/0");
    assert_eq!(
        (written, read),
        (Err(StoreError::Timeout), Err(StoreError::Timeout))
    );
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
    // With the first request that is waited for.
    assert_eq!(again.read("domid").unwrap(), b"1");
    assert_eq!(xen.usage(GUEST).watches, 0);
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
fn dom0_has_no_xenstore_ring() {
    let xen = FakeXen::new();
    let events = Events::new(xen.platform(DomId(0)));
    let missing = XenStore::connect(&events).map(drop);
    assert_eq!(missing, Err(StoreError::Missing));
}

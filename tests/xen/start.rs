//! What a start asks xenstore for together: how often it waits, that it misses nothing, and what is left where it fails.

use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::xen::event::Events;
use xen9p::xen::shutdown::{ShutdownRequest, ShutdownWatch};
use xen9p::xen::store::{Access, Permission, StoreError, XenStore};
use xen9p::xen::xenbus::{self, Device, Ready, XenbusError, XenbusState};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

use super::xenbus::{BACK, FRONT, GUEST, add_device, device};

const SHUTDOWN: &str = "/local/domain/1/control/shutdown";
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often `act` waits.
fn waits<T>(xen: &FakeXen, act: impl FnOnce() -> T) -> (u32, T) {
    let before = xen.asked(GUEST).waits;
    let done = act();
    ((xen.asked(GUEST).waits - before) as u32, done)
}

#[test]
fn what_does_not_depend_on_an_answer_does_not_wait_for_it() {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(GUEST));
    let (connect, store) = waits(&xen, || XenStore::connect(&events).unwrap());
    assert_eq!(connect, 1, "what xenstored can");
    let (announce, watch) = waits(&xen, || ShutdownWatch::new(&store, true).unwrap());
    assert_eq!(announce, 1, "a watch and three nodes");
    let (look, asked) = waits(&xen, || watch.take().unwrap());
    assert_eq!((look, asked), (1, None), "the watch's first event");
    let (look, asked) = waits(&xen, || watch.take().unwrap());
    assert_eq!((look, asked), (0, None), "no event");

    add_device(&xen, 0, "share");
    let (find, devices) = waits(&xen, || xenbus::enumerate(&store, "9pfs").unwrap());
    assert_eq!(find, 2, "the list, and all of one device");
    xen.dom0().write(&format!("{BACK}/max-rings"), "4");
    xen.dom0().write(&format!("{BACK}/state"), "2");
    let (offer, (_state, offered)) = waits(&xen, || {
        let found = devices[0].watch_offer(["max-rings", "none"]).unwrap();
        let ready = devices[0].reset(&found.0, TIMEOUT);
        assert_eq!(ready, Ok(Ready::InitWait));
        found
    });
    assert_eq!(offer, 1, "a watch, two states, two nodes");
    let [rings, none] = offered.unwrap();
    assert_eq!(rings.unwrap(), b"4");
    assert!(none.unwrap_err().is_not_found());
    let nodes = [("version", "1"), ("num-rings", "1"), ("ring-ref0", "8")];
    let publish = || devices[0].publish(&nodes, XenbusState::Initialised);
    let (publish, done) = waits(&xen, publish);
    assert_eq!(done, Ok(()));
    assert_eq!(publish, 1, "all nodes, and whether there is a device");
}

/// Does something once, after some turns.
struct Later<F: FnMut(&FakeXen)>(u32, F);

impl<F: FnMut(&FakeXen)> Peer for Later<F> {
    fn step(&mut self, xen: &FakeXen) -> bool {
        let left = self.0.checked_sub(1);
        if left == Some(0) {
            (self.1)(xen);
        }
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Begins with a device, and, if `is_late`, with more events than the ring holds, as when others are added: then xenstored merges a
/// change with the first event of a watch, which has not left yet.
fn at_each_moment(is_late: bool, mut run: impl FnMut(u32, &FakeXen, &Device<FakePlatform>)) {
    for turns in 1..30 {
        let (xen, device) = device();
        let _other = device.store().watch("device/9pfs").unwrap();
        if is_late {
            for index in 0..120 {
                let node = format!("/local/domain/1/device/9pfs/7/node{index:03}");
                xen.dom0().write(&node, "1");
            }
            xen.settle();
        }
        run(turns, &xen, &device);
    }
}

#[test]
fn a_change_while_a_watch_is_made_is_seen() {
    for is_late in [false, true] {
        at_each_moment(is_late, |turns, xen, device| {
            let change = |xen: &FakeXen| xen.dom0().write(&format!("{BACK}/state"), "4");
            xen.add_peer(Later(turns, change));
            let backend = device.watch_backend().unwrap();
            xen.settle();
            let state = backend.wait(|it| it == XenbusState::Connected, xen.now() + TIMEOUT);
            assert_eq!(state, Ok(XenbusState::Connected), "{turns} {is_late}");
        });
    }
}

#[test]
fn a_backend_that_connects_or_closes_while_it_is_watched_is_seen() {
    for (is_late, last) in [(false, "4"), (true, "4"), (false, "6"), (true, "6")] {
        at_each_moment(is_late, |turns, xen, device| {
            xen.dom0().write(&format!("{BACK}/state"), "2");
            let change = move |xen: &FakeXen| xen.dom0().write(&format!("{BACK}/state"), last);
            xen.add_peer(Later(turns, change));
            let (backend, _) = device.watch_offer(["max-rings"]).unwrap();
            // Where it is closed already, it is waited for in vain.
            if device.reset(&backend, TIMEOUT).is_ok() {
                let done = device.establish(&backend, &[("ring-ref0", "8")]);
                assert_eq!(done.is_ok(), last == "4", "{turns} {is_late}: {done:?}");
            }
        });
    }
}

#[test]
fn a_request_to_stop_while_its_watch_is_made_is_seen() {
    for is_late in [false, true] {
        at_each_moment(is_late, |turns, xen, device| {
            xen.add_peer(Later(turns, |xen| xen.dom0().write(SHUTDOWN, "poweroff")));
            let store = device.store();
            let watch = ShutdownWatch::new(store, false).unwrap();
            let events = store.events();
            let end = events.now() + TIMEOUT;
            let found = loop {
                let seen = events.generation();
                let asked = watch.take().unwrap();
                if asked.is_some() || events.now() >= end {
                    break asked;
                }
                events.wait(seen, end);
            };
            assert_eq!(found, Some(ShutdownRequest::PowerOff), "{turns} {is_late}");
            assert_eq!(xen.dom0().read_text(SHUTDOWN).as_deref(), Some(""));
        });
    }
}

#[test]
fn a_silent_xenstored_costs_the_time_of_one_answer() {
    let (xen, device) = device();
    device.store().set_timeout(TIMEOUT);
    xen.store_faults(|faults| faults.mute = true);
    let before = xen.now();
    assert!(device.watch_backend().is_err());
    assert!(xen.now() - before < 2 * TIMEOUT);
}

/// What this side's state is in the end.
fn own_state(xen: &FakeXen) -> Option<String> {
    xen.dom0().read_text(&format!("{FRONT}/state"))
}

/// As where a connection fails: what was offered is gone then.
#[test]
fn what_was_taken_back_in_a_silence_is_not_offered_afterwards() {
    let (xen, device) = device();
    xen.dom0().write(&format!("{BACK}/state"), "2");
    let backend = device.watch_backend().unwrap();
    device.reset(&backend, TIMEOUT).unwrap();
    xen.store_faults(|faults| faults.mute = true);
    let nodes = [("ring-ref0", "8"), ("event-channel-0", "5")];
    let timeout = XenbusError::Store(StoreError::Timeout);
    assert_eq!(device.establish(&backend, &nodes), Err(timeout));
    assert_eq!(device.leave(&backend, TIMEOUT), Err(timeout));
    xen.store_faults(|faults| faults.mute = false);
    for _ in 0..10 {
        xen.settle();
        device.store().poll().unwrap();
    }
    assert_eq!(own_state(&xen).as_deref(), Some("5"));
}

/// One that can't even be asked to be written.
#[test]
fn a_state_is_not_set_without_a_node_before_it() {
    let (xen, device) = device();
    let failed = device.publish(&[("bad node", "1")], XenbusState::Initialised);
    assert!(failed.is_err());
    assert_eq!(own_state(&xen).as_deref(), Some("1"));
}

/// As for the domain's quota of nodes.
#[test]
fn an_offer_of_which_a_node_is_refused_is_taken_back() {
    let (xen, device) = device();
    xen.dom0().write(&format!("{BACK}/state"), "2");
    let path = format!("{FRONT}/ring-ref0");
    xen.dom0().write(&path, "");
    let (domain, access) = (DomId(0), Access::None);
    xen.dom0()
        .set_permissions(&path, &[Permission { domain, access }]);
    let backend = device.watch_backend().unwrap();
    device.reset(&backend, TIMEOUT).unwrap();
    let failed = device.establish(&backend, &[("ring-ref0", "8")]);
    assert!(matches!(failed, Err(XenbusError::Store(_))), "{failed:?}");
    let _ = device.leave(&backend, TIMEOUT);
    assert_eq!(own_state(&xen).as_deref(), Some("6"));
}

/// A toolstack may make a device node by node in the place of one that is gone.
#[test]
fn a_device_in_the_making_is_not_removed() {
    let (xen, device) = device();
    xen.dom0().rm(FRONT);
    xen.dom0().write(FRONT, "");
    let entry = |domain, access| Permission { domain, access };
    let mine = [entry(GUEST, Access::None), entry(DomId(0), Access::Read)];
    xen.dom0().set_permissions(FRONT, &mine);
    xen.dom0().write(&format!("{FRONT}/tag"), "share");
    let gone = device.set_state(XenbusState::Closing);
    assert_eq!(gone, Err(XenbusError::Gone));
    let tag = xen.dom0().read_text(&format!("{FRONT}/tag"));
    assert_eq!(tag.as_deref(), Some("share"));
    assert_eq!(own_state(&xen), None);
}

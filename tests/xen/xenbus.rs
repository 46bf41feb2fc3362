//! Devices are found, their states are set and followed, and a device that an earlier kernel left in any state is
//! brought back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use xen9p::hypercall::DomId;
use xen9p::xen::event::Events;
use xen9p::xen::store::{Access, Permission, XenStore};
use xen9p::xen::xenbus::{self, Device, Ready, XenbusError, XenbusState};
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer};

pub(super) const GUEST: DomId = DomId(1);
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const FRONT: &str = "/local/domain/1/device/9pfs/0";
pub(super) const BACK: &str = "/local/domain/0/backend/9pfs/1/0";

fn guest() -> (FakeXen, XenStore<FakePlatform>) {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(GUEST));
    let store = XenStore::connect(&events).unwrap();
    (xen, store)
}

pub(super) fn add_device(xen: &FakeXen, id: u32, tag: &str) {
    let spec = DeviceSpec {
        kind: "9pfs",
        backend_kind: "9pfs",
        frontend: GUEST,
        id,
    };
    xen.dom0().add_device(&spec, &[("tag", tag)], &[]);
}

/// A guest with one device.
pub(super) fn device() -> (FakeXen, Device<FakePlatform>) {
    let (xen, store) = guest();
    add_device(&xen, 0, "share");
    let mut devices = xenbus::enumerate(&store, "9pfs").unwrap();
    assert_eq!(devices.len(), 1);
    (xen, devices.remove(0))
}

/// How a simulated backend follows the frontend's states; nothing else of it matters here.
struct Backend {
    rules: fn(front: &str, back: &str) -> Option<&'static str>,
    /// The states it went through.
    trace: Rc<RefCell<Vec<&'static str>>>,
}

impl Peer for Backend {
    fn step(&mut self, xen: &FakeXen) -> bool {
        let state = |path: &str| xen.dom0().read_text(&format!("{path}/state"));
        let (Some(front), Some(back)) = (state(FRONT), state(BACK)) else {
            return false;
        };
        let Some(next) = (self.rules)(&front, &back).filter(|&next| next != back) else {
            return false;
        };
        xen.dom0().write(&format!("{BACK}/state"), next);
        self.trace.borrow_mut().push(next);
        true
    }
}

/// QEMU's xen-legacy-backend.
fn qemu(front: &str, back: &str) -> Option<&'static str> {
    match (front, back) {
        ("5", _) => Some("5"),
        ("6", _) => Some("6"),
        ("1", "6" | "5") => Some("1"),
        (_, "1") => Some("2"),
        ("3" | "4", "2") => Some("4"),
        _ => None,
    }
}

/// Xen-9pfsd: never goes back to InitWait.
fn xen_9pfsd(front: &str, back: &str) -> Option<&'static str> {
    match (front, back) {
        ("5", _) => Some("5"),
        ("6", _) => Some("6"),
        (_, "1") => Some("2"),
        ("3", _) => Some("4"),
        _ => None,
    }
}

fn dead(_: &str, _: &str) -> Option<&'static str> {
    None
}

fn serve(
    xen: &FakeXen,
    rules: fn(&str, &str) -> Option<&'static str>,
) -> Rc<RefCell<Vec<&'static str>>> {
    let trace = Rc::new(RefCell::new(Vec::new()));
    xen.add_peer(Backend {
        rules,
        trace: Rc::clone(&trace),
    });
    trace
}

#[test]
fn devices_are_found_in_the_order_of_their_numbers() {
    let (xen, store) = guest();
    assert!(xenbus::enumerate(&store, "9pfs").unwrap().is_empty());
    for (id, tag) in [(10, "ten"), (2, "two"), (0, "zero")] {
        add_device(&xen, id, tag);
    }
    let devices = xenbus::enumerate(&store, "9pfs").unwrap();
    let tags: Vec<_> = devices.iter().map(|device| device.tag().unwrap()).collect();
    assert_eq!(tags, ["zero", "two", "ten"]);
    assert_eq!(devices[0].backend(), BACK);
    assert_eq!(devices[0].backend_id(), DomId(0));
    assert_eq!(devices[2].id(), "10");
}

#[test]
fn entries_that_are_no_devices_are_left_out() {
    let (xen, store) = guest();
    for id in 0..6 {
        add_device(&xen, id, "x");
    }
    let spoil = |id: u32, node: &str, value: &[u8]| {
        xen.dom0()
            .write(&format!("/local/domain/1/device/9pfs/{id}/{node}"), value);
    };
    spoil(0, "backend-id", b"");
    spoil(1, "backend-id", b"32752");
    spoil(2, "backend-id", b"4294967296");
    spoil(3, "backend", b"\xff\xfe");
    spoil(4, "backend", b"");
    xen.dom0().rm("/local/domain/1/device/9pfs/5/backend");
    add_device(&xen, 6, "good");
    xen.dom0()
        .write("/local/domain/1/device/9pfs/7/backend", "x");
    let devices = xenbus::enumerate(&store, "9pfs").unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].tag(), Some("good"));
}

#[test]
fn a_driver_domain_is_followed() {
    let (xen, store) = guest();
    xen.add_domain(DomId(5));
    let spec = DeviceSpec {
        kind: "9pfs",
        backend_kind: "xen_9pfs",
        frontend: GUEST,
        id: 3,
    };
    xen.domain(DomId(5))
        .add_device(&spec, &[], &[("versions", "1")]);
    let device = &xenbus::enumerate(&store, "9pfs").unwrap()[0];
    assert_eq!(device.backend_id(), DomId(5));
    assert_eq!(device.backend(), "/local/domain/5/backend/xen_9pfs/1/3");
    assert_eq!(device.tag(), None);
    assert_eq!(device.read_backend("versions").unwrap(), "1");
    let missing = device.read_backend("nothing").unwrap_err();
    assert_eq!(missing, XenbusError::BadNode("nothing"));
    xen.domain(DomId(5))
        .write("/local/domain/5/backend/xen_9pfs/1/3/max-rings", "8x");
    let nonsense = device.read_backend_number("max-rings").unwrap_err();
    assert_eq!(nonsense, XenbusError::BadNode("max-rings"));
}

#[test]
fn nodes_are_there_when_the_state_changes() {
    /// Notes which nodes are there when the state is set.
    struct Looker(Rc<RefCell<Option<Vec<bool>>>>);

    impl Peer for Looker {
        fn step(&mut self, xen: &FakeXen) -> bool {
            let state = xen.dom0().read_text(&format!("{FRONT}/state"));
            let is_first = state.as_deref() == Some("3") && self.0.borrow().is_none();
            if is_first {
                let has = |number| xen.dom0().read(&format!("{FRONT}/node{number}"));
                *self.0.borrow_mut() = Some((0..40).map(|it| has(it).is_some()).collect());
            }
            is_first
        }
    }

    let (xen, device) = device();
    let seen = Rc::default();
    xen.add_peer(Looker(Rc::clone(&seen)));
    // More than xenstored takes at once.
    let names: Vec<_> = (0..40).map(|number| format!("node{number}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    device.publish(&nodes, XenbusState::Initialised).unwrap();
    assert_eq!(*seen.borrow(), Some(vec![true; 40]));
    assert_eq!(device.state(), Ok(XenbusState::Initialised));
}

#[test]
fn a_removed_device_is_not_brought_back() {
    let (xen, device) = device();
    xen.dom0().rm(FRONT);
    let gone = device.publish(&[("version", "1")], XenbusState::Closing);
    assert_eq!(gone, Err(XenbusError::Gone));
    assert_eq!(device.state(), Err(XenbusError::Gone));
    assert!(xen.dom0().read(FRONT).is_none());

    // Nor where the toolstack lets the guest make devices.
    let all = Permission {
        domain: GUEST,
        access: Access::None,
    };
    let parent = "/local/domain/1/device/9pfs";
    xen.dom0().set_permissions(parent, &[all]);
    let gone = device.publish(&[("version", "1")], XenbusState::Closing);
    assert_eq!(gone, Err(XenbusError::Gone));
    assert!(xen.dom0().read(FRONT).is_none());
}

#[test]
fn the_backends_state_is_followed_without_asking_each_time() {
    let (xen, device) = device();
    let backend = device.watch_backend().unwrap();
    assert_eq!(backend.get(), Ok(XenbusState::Initialising));
    // Between events there are no requests: even a xenstored that is silent does not matter.
    xen.settle();
    backend.get().unwrap();
    xen.store_faults(|faults| faults.mute = true);
    assert_eq!(backend.get(), Ok(XenbusState::Initialising));
    xen.store_faults(|faults| faults.mute = false);
    xen.dom0().write(&format!("{BACK}/state"), "4");
    let deadline = xen.now() + STEP_TIMEOUT;
    let state = backend.wait(|state| state == XenbusState::Connected, deadline);
    assert_eq!(state, Ok(XenbusState::Connected));
    for nonsense in [&b""[..], b"99", b"4x", b"\0", &[b'4'; 2000]] {
        xen.dom0().write(&format!("{BACK}/state"), nonsense);
        xen.settle();
        assert_eq!(backend.get(), Ok(XenbusState::Unknown));
    }
    xen.dom0().rm(BACK);
    xen.settle();
    assert_eq!(backend.get(), Ok(XenbusState::Unknown));
}

#[test]
fn a_fresh_device_is_ready_without_a_detour() {
    let (xen, device) = device();
    let trace = serve(&xen, qemu);
    let backend = device.watch_backend().unwrap();
    assert_eq!(device.reset(&backend, STEP_TIMEOUT), Ok(Ready::InitWait));
    assert_eq!(*trace.borrow(), ["2"]);
}

#[test]
fn a_device_left_in_any_state_is_brought_back() {
    for left in ["2", "3", "4", "5", "6", "7", "99"] {
        let (xen, device) = device();
        xen.dom0().write(&format!("{FRONT}/state"), left);
        let their = if left == "6" { "6" } else { "4" };
        xen.dom0().write(&format!("{BACK}/state"), their);
        let trace = serve(&xen, qemu);
        let backend = device.watch_backend().unwrap();
        assert_eq!(device.reset(&backend, STEP_TIMEOUT), Ok(Ready::InitWait));
        let trace = trace.borrow();
        assert_eq!(trace.last(), Some(&"2"), "left in {left}: {trace:?}");
        assert!(trace.contains(&"6") || left == "6", "left in {left}");
        assert_eq!(device.state(), Ok(XenbusState::Initialising));
    }
}

#[test]
fn a_backend_that_stays_closed_is_told_from_a_dead_one() {
    let (xen, device) = device();
    xen.dom0().write(&format!("{FRONT}/state"), "4");
    xen.dom0().write(&format!("{BACK}/state"), "4");
    serve(&xen, xen_9pfsd);
    let backend = device.watch_backend().unwrap();
    assert_eq!(device.reset(&backend, STEP_TIMEOUT), Ok(Ready::StaysClosed));
    device.set_state(XenbusState::Initialised).unwrap();
    let deadline = xen.now() + STEP_TIMEOUT;
    let state = backend.wait(|state| state == XenbusState::Connected, deadline);
    assert_eq!(state, Ok(XenbusState::Connected));

    // The same, but the toolstack has given the device up.
    device.leave(&backend, STEP_TIMEOUT).unwrap();
    xen.dom0().write(&format!("{BACK}/online"), "0");
    let given_up = device.reset(&backend, STEP_TIMEOUT).unwrap_err();
    assert!(matches!(
        given_up,
        XenbusError::Timeout(_, XenbusState::Closed)
    ));
}

#[test]
fn a_dead_backend_is_waited_for_in_bounded_time_at_each_step() {
    for (front, back) in [("1", "1"), ("4", "4"), ("5", "4"), ("6", "4"), ("1", "4")] {
        let (xen, device) = device();
        xen.dom0().write(&format!("{FRONT}/state"), front);
        xen.dom0().write(&format!("{BACK}/state"), back);
        serve(&xen, dead);
        let backend = device.watch_backend().unwrap();
        let before = xen.now();
        let error = device.reset(&backend, STEP_TIMEOUT).unwrap_err();
        let state = XenbusState::from_value(back.as_bytes());
        assert!(
            matches!(error, XenbusError::Timeout(_, found) if found == state),
            "{front} and {back}: {error}"
        );
        assert!(error.to_string().contains(back));
        assert!(xen.now() - before < 3 * STEP_TIMEOUT);
    }
}

#[test]
fn leaving_ends_closed_whatever_the_backend_does() {
    let (xen, device) = device();
    let backend = device.watch_backend().unwrap();
    xen.dom0().write(&format!("{FRONT}/state"), "4");
    xen.dom0().write(&format!("{BACK}/state"), "4");
    assert!(matches!(
        device.leave(&backend, STEP_TIMEOUT),
        Err(XenbusError::Timeout(_, XenbusState::Connected))
    ));
    assert_eq!(device.state(), Ok(XenbusState::Closed));
    xen.dom0().rm(BACK);
    xen.dom0().write(&format!("{FRONT}/state"), "4");
    device.leave(&backend, STEP_TIMEOUT).unwrap();
    assert_eq!(device.state(), Ok(XenbusState::Closed));
}

#[test]
fn nothing_is_left_when_a_device_is_dropped() {
    let (xen, store) = guest();
    let before = xen.usage(GUEST);
    add_device(&xen, 0, "x");
    let device = xenbus::enumerate(&store, "9pfs").unwrap().remove(0);
    let backend = device.watch_backend().unwrap();
    assert_eq!(xen.usage(GUEST).watches, before.watches + 1);
    drop((device, backend));
    store.read("domid").unwrap();
    assert_eq!(xen.usage(GUEST), before);
}

proptest! {
    /// Whatever a backend writes to its nodes, in whatever order: bounded time, no panic.
    #[test]
    fn any_backend_is_survived(states in proptest::collection::vec(
        prop_oneof![
            "[0-9]{1,2}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..8),
        ],
        1..12,
    )) {
        struct Erratic(Vec<Vec<u8>>);
        impl Peer for Erratic {
            fn step(&mut self, xen: &FakeXen) -> bool {
                let Some(state) = self.0.pop() else { return false };
                xen.dom0().write(&format!("{BACK}/state"), state);
                true
            }
        }
        let (xen, device) = device();
        xen.add_peer(Erratic(states));
        let before = xen.now();
        let backend = device.watch_backend().unwrap();
        let _ = device.reset(&backend, STEP_TIMEOUT);
        let _ = device.leave(&backend, STEP_TIMEOUT);
        prop_assert!(xen.now() - before < 8 * STEP_TIMEOUT);
    }
}

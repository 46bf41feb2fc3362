//! A domain that the toolstack asks to stop hears it, acknowledges it, and stops with that reason.

use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::hypercall::sched::ShutdownReason;
use xen9p::sys;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::shutdown::{ShutdownRequest, ShutdownWatch, shutdown};
use xen9p::xen::store::StoreError;
use xen9p_testing::fake::{FakePlatform, FakeXen};

const GUEST: DomId = DomId(1);
const NODE: &str = "/local/domain/1/control/shutdown";

fn guest(can_suspend: bool) -> (FakeXen, Xen<FakePlatform>, ShutdownWatch<FakePlatform>) {
    let fake = FakeXen::new();
    let xen = Xen::new(Events::new(fake.add_domain(GUEST))).unwrap();
    let watch = ShutdownWatch::new(&xen.store, can_suspend).unwrap();
    (fake, xen, watch)
}

/// What the toolstack's word leads to, waiting for it as a program would.
fn ask(
    fake: &FakeXen,
    xen: &Xen<FakePlatform>,
    watch: &ShutdownWatch<FakePlatform>,
    word: &str,
) -> Option<ShutdownRequest> {
    fake.dom0().write(NODE, word);
    wait_for(xen, watch)
}

/// The next request, if one comes.
fn wait_for(
    xen: &Xen<FakePlatform>,
    watch: &ShutdownWatch<FakePlatform>,
) -> Option<ShutdownRequest> {
    let end = xen.events.now() + Duration::from_millis(100);
    loop {
        let seen = xen.events.generation();
        if let Some(request) = watch.take().unwrap() {
            return Some(request);
        }
        if xen.events.now() >= end {
            return None;
        }
        xen.events.wait(seen, end);
    }
}

#[test]
fn features_are_announced() {
    for can_suspend in [false, true] {
        let (fake, _xen, _watch) = guest(can_suspend);
        let feature = |name| {
            let path = format!("/local/domain/1/control/feature-{name}");
            fake.dom0().read_text(&path).unwrap()
        };
        assert_eq!(feature("poweroff"), "1");
        assert_eq!(feature("reboot"), "1");
        assert_eq!(feature("suspend"), if can_suspend { "1" } else { "0" });
    }
}

#[test]
fn requests_are_seen_and_acknowledged() {
    let (fake, xen, watch) = guest(true);
    assert_eq!(watch.take(), Ok(None));
    for (word, request) in [
        ("poweroff", Some(ShutdownRequest::PowerOff)),
        ("reboot", Some(ShutdownRequest::Reboot)),
        ("suspend", Some(ShutdownRequest::Suspend)),
        ("halt", Some(ShutdownRequest::Halt)),
        ("crash", Some(ShutdownRequest::Crash)),
        ("dance", None),
        ("", None),
    ] {
        assert_eq!(ask(&fake, &xen, &watch, word), request);
        assert_eq!(
            fake.dom0().read_text(NODE).unwrap(),
            "",
            "{word} is acknowledged"
        );
    }
    // Our own acknowledgement fires the watch too, and asks for nothing.
    assert_eq!(watch.take(), Ok(None));
}

#[test]
fn a_suspend_that_was_not_announced_is_refused() {
    let (fake, xen, watch) = guest(false);
    assert_eq!(ask(&fake, &xen, &watch, "suspend"), None);
    assert_eq!(fake.dom0().read_text(NODE).unwrap(), "");
}

#[test]
fn a_request_that_came_before_we_listened_is_seen() {
    let fake = FakeXen::new();
    let xen = Xen::new(Events::new(fake.add_domain(GUEST))).unwrap();
    fake.dom0().write(NODE, "poweroff");
    let watch = ShutdownWatch::new(&xen.store, false).unwrap();
    let request = wait_for(&xen, &watch);
    assert_eq!(request, Some(ShutdownRequest::PowerOff));
}

#[test]
fn a_domain_stops_with_the_reason_it_was_asked_for() {
    for (request, reason) in [
        (ShutdownRequest::PowerOff, sys::SHUTDOWN_poweroff),
        (ShutdownRequest::Halt, sys::SHUTDOWN_poweroff),
        (ShutdownRequest::Reboot, sys::SHUTDOWN_reboot),
        (ShutdownRequest::Crash, sys::SHUTDOWN_crash),
    ] {
        let fake = FakeXen::new();
        let platform = fake.add_domain(GUEST);
        assert_eq!(fake.shutdown_reason(GUEST), None);
        shutdown(&platform, request.reason().unwrap()).unwrap();
        assert_eq!(fake.shutdown_reason(GUEST), Some(reason));
    }
    assert_eq!(ShutdownRequest::Suspend.reason(), None, "it goes on");
    assert_eq!(ShutdownReason::Crash.number(), 3);
}

#[test]
fn a_request_that_xenstored_did_not_tell_in_time_is_asked_for_again() {
    let (fake, xen, watch) = guest(true);
    assert_eq!(watch.take(), Ok(None));
    fake.dom0().write(NODE, "poweroff");
    fake.settle();
    xen.store.poll().unwrap();
    fake.store_faults(|faults| faults.mute = true);
    assert_eq!(watch.take(), Err(StoreError::Timeout));
    assert_eq!(
        watch.take(),
        Ok(None),
        "a program does not wait for it each time"
    );
    fake.store_faults(|faults| faults.mute = false);
    let answered = (0..5).find_map(|_| {
        fake.settle();
        watch.take().unwrap()
    });
    assert_eq!(answered, Some(ShutdownRequest::PowerOff));
    assert_eq!(watch.take(), Ok(None));
}

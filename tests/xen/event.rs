//! Event channels notify both ways, no event is lost, and handlers may do anything.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::event_channel::Status;
use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::{BuilderRing, DomainState, Frame, Page, Platform};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::xen::event::{EventChannel, Events, Port};
use xen9p_testing::fake::{FakeDomain, FakePlatform, FakeXen, Peer};

fn guest() -> (FakeXen, Events<FakePlatform>) {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(DomId(1)));
    (xen, events)
}

/// A channel and domain 0's end of it.
fn pair(xen: &FakeXen, events: &Events<FakePlatform>) -> (EventChannel<FakePlatform>, u32) {
    let channel = events.alloc_unbound(DomId(0)).unwrap();
    let other = xen.dom0().bind_interdomain(DomId(1), channel.port().0);
    let other = other.unwrap();
    xen.dom0().take_pending(other);
    (channel, other)
}

#[test]
fn notifications_travel_both_ways() {
    let (xen, events) = guest();
    let (channel, other) = pair(&xen, &events);
    channel.notify().unwrap();
    assert!(xen.dom0().take_pending(other));
    assert!(!events.dispatch());
    xen.dom0().send(other);
    assert!(events.dispatch());
    assert!(!events.dispatch());
}

#[test]
fn status_follows_the_other_end() {
    let (xen, events) = guest();
    let channel = events.alloc_unbound(DomId(0)).unwrap();
    assert_eq!(channel.status(), Ok(Status::Unbound(DomId(0))));
    assert!(!channel.is_connected());
    let other = xen
        .dom0()
        .bind_interdomain(DomId(1), channel.port().0)
        .unwrap();
    assert_eq!(
        channel.status(),
        Ok(Status::Interdomain(DomId(0), Port(other)))
    );
    assert!(channel.is_connected());
    xen.dom0().close(other);
    assert_eq!(channel.status(), Ok(Status::Unbound(DomId(0))));
    // No domain is bound there: not an error.
    channel.notify().unwrap();
    let virq = events.bind_virq(sys::VIRQ_TIMER).unwrap();
    assert_eq!(virq.status(), Ok(Status::Virq(sys::VIRQ_TIMER)));
    assert_eq!(events.bind_ipi().unwrap().status(), Ok(Status::Ipi));
}

#[test]
fn a_dropped_channel_is_closed_and_an_adopted_one_is_not() {
    let (xen, events) = guest();
    let before = (events.open_ports(), xen.usage(DomId(1)));
    let (channel, other) = pair(&xen, &events);
    drop(channel);
    assert!(!xen.dom0().is_connected(other));
    let builder = events.platform().console_ring().unwrap().port;
    let adopted = events.adopt(builder).unwrap();
    assert_eq!(events.adopt(builder).map(drop), Err(XenError::EEXIST));
    drop(adopted);
    assert!(events.adopt(builder).unwrap().is_connected());
    assert_eq!((events.open_ports(), xen.usage(DomId(1))), before);
}

#[test]
fn a_new_owner_of_a_port_does_not_see_the_last_ones_event() {
    let (xen, events) = guest();
    let (channel, other) = pair(&xen, &events);
    let port = channel.port();
    xen.dom0().send(other);
    drop(channel);
    let (channel, _) = pair(&xen, &events);
    assert_eq!(channel.port(), port);
    assert!(!events.dispatch());
}

#[test]
fn refusals_come_back_by_name() {
    let (xen, events) = guest();
    assert!(events.is_domain(DomId(0)) && events.is_domain(DomId(1)));
    assert!(!events.is_domain(DomId(77)));
    // Xen gives a port for it all the same.
    assert!(events.alloc_unbound(DomId(77)).is_ok());
    let wrong = events.bind_interdomain(DomId(0), Port(500));
    assert_eq!(wrong.map(drop), Err(XenError::EINVAL));
    let _first = events.bind_virq(0).unwrap();
    assert_eq!(events.bind_virq(0).map(drop), Err(XenError::EEXIST));
    xen.fail_hypercall(
        sys::__HYPERVISOR_event_channel_op,
        sys::EVTCHNOP_alloc_unbound,
        0,
        XenError::ENOSPC,
    );
    let full = events.alloc_unbound(DomId(0));
    assert_eq!(full.map(drop), Err(XenError::ENOSPC));
}

#[test]
fn an_event_between_the_check_and_the_wait_ends_the_wait() {
    let (xen, events) = guest();
    let (_channel, other) = pair(&xen, &events);
    let seen = events.generation();
    xen.dom0().send(other);
    let before = xen.now();
    events.wait(seen, Instant::NEVER);
    assert!(xen.now() - before < Duration::from_millis(1));
}

#[test]
fn an_event_that_somebody_else_took_ends_the_wait_too() {
    let (xen, events) = guest();
    let (channel, other) = pair(&xen, &events);
    for take in [&(|| events.dispatch()) as &dyn Fn() -> bool, &|| {
        channel.take_pending()
    }] {
        let seen = events.generation();
        xen.dom0().send(other);
        assert!(take());
        // Without the generation this would wait for ever, which the simulation turns into a panic.
        events.wait(seen, Instant::NEVER);
    }
}

#[test]
fn a_wait_in_vain_ends_at_its_deadline() {
    let (xen, events) = guest();
    let deadline = events.now() + Duration::from_secs(3);
    events.sleep_until(deadline);
    let late = xen.now() - deadline;
    assert!(xen.now() >= deadline && late < Duration::from_millis(1));
}

#[test]
fn handlers_may_open_close_and_dispatch() {
    let (xen, events) = guest();
    let (first, first_other) = pair(&xen, &events);
    let (second, second_other) = pair(&xen, &events);
    let calls = Rc::new(Cell::new(0));
    let victim = Rc::new(RefCell::new(Some(second)));
    let opened = Rc::new(RefCell::new(Vec::new()));
    first.on_event({
        let (events, calls, victim, opened) = (
            events.clone(),
            Rc::clone(&calls),
            Rc::clone(&victim),
            Rc::clone(&opened),
        );
        move || {
            calls.set(calls.get() + 1);
            victim.take();
            opened.borrow_mut().push(events.bind_ipi().unwrap());
            events.dispatch();
        }
    });
    xen.dom0().send(first_other);
    xen.dom0().send(second_other);
    assert!(events.dispatch());
    assert_eq!(calls.get(), 1);
    assert_eq!(opened.borrow().len(), 1);
    assert!(!xen.dom0().is_connected(second_other));
}

#[test]
fn dropping_a_channel_drops_its_handler() {
    let (xen, events) = guest();
    let (channel, _) = pair(&xen, &events);
    let (owned, owned_other) = pair(&xen, &events);
    // The handler owns another channel, which is closed when the handler goes.
    channel.on_event(move || owned.notify().unwrap());
    drop(channel);
    assert!(!xen.dom0().is_connected(owned_other));
}

/// Sends to a port a while after the start, each time it was asked to.
struct Bell {
    dom0: FakeDomain,
    port: u32,
    at: Option<Instant>,
}

impl Peer for Bell {
    fn step(&mut self, xen: &FakeXen) -> bool {
        if self.at.is_some_and(|at| at <= xen.now()) {
            self.at = None;
            self.dom0.send(self.port);
            return true;
        }
        false
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.at
    }
}

#[test]
fn more_ports_than_xen_polls_at_a_time_are_all_heard() {
    let (xen, events) = guest();
    let channels: Vec<_> = (0..300).map(|_| pair(&xen, &events)).collect();
    for index in [0, 127, 128, 199, 299] {
        let heard = Rc::new(Cell::new(false));
        channels[index].0.on_event({
            let heard = Rc::clone(&heard);
            move || heard.set(true)
        });
        let start = events.now();
        xen.add_peer(Bell {
            dom0: xen.dom0(),
            port: channels[index].1,
            at: Some(start + Duration::from_millis(20)),
        });
        let deadline = start + Duration::from_secs(1);
        while !heard.get() && events.now() < deadline {
            events.wait(events.generation(), deadline);
        }
        assert!(heard.get(), "channel {index}");
        assert!(events.now() - start < Duration::from_millis(40));
    }
}

/// Fires as fast as it is looked at.
struct Storm {
    dom0: FakeDomain,
    port: u32,
}

impl Peer for Storm {
    fn step(&mut self, _: &FakeXen) -> bool {
        self.dom0.send(self.port);
        true
    }
}

#[test]
fn a_storm_of_events_does_not_stop_the_clock() {
    let (xen, events) = guest();
    let (channel, other) = pair(&xen, &events);
    let count = Rc::new(Cell::new(0u64));
    channel.on_event({
        let count = Rc::clone(&count);
        move || count.set(count.get() + 1)
    });
    xen.add_peer(Storm {
        dom0: xen.dom0(),
        port: other,
    });
    let deadline = events.now() + Duration::from_millis(50);
    events.sleep_until(deadline);
    assert!(count.get() > 100);
    assert!(events.now() - deadline < Duration::from_millis(1));
    xen.remove_peers();
}

/// A domain whose interrupt handler notes which ports fired, before any hypercall that comes then.
#[derive(Clone)]
struct Interrupts {
    domain: FakePlatform,
    fired: Rc<RefCell<BTreeSet<Port>>>,
}

impl Interrupts {
    fn interrupt(&self) {
        let ports = (0..64).map(Port);
        let fired = ports.filter(|&port| self.domain.take_pending(port));
        self.fired.borrow_mut().extend(fired);
    }
}

// SAFETY: all that matters is done by another platform.
unsafe impl Platform for Interrupts {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        self.domain.alloc_pages(count)
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        // SAFETY: the caller vouches for it.
        unsafe { self.domain.free_pages(first, count) }
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        self.domain.frame(page)
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        self.interrupt();
        // SAFETY: the caller vouches for it.
        unsafe { self.domain.hypercall(number, args) }
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        self.domain.grant_frame(index)
    }

    fn domain_state(&self) -> &DomainState {
        self.domain.domain_state()
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        self.domain.xenstore_ring()
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        self.domain.console_ring()
    }

    fn now(&self) -> Instant {
        self.domain.now()
    }

    fn wall_clock(&self) -> u64 {
        self.domain.wall_clock()
    }

    fn take_pending(&self, port: Port) -> bool {
        self.interrupt();
        self.fired.borrow_mut().remove(&port)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        self.domain.wait(ports, deadline);
    }
}

#[test]
fn the_event_of_a_closed_port_is_not_for_the_next_port_of_its_number() {
    let xen = FakeXen::new();
    let events = Events::new(Interrupts {
        domain: xen.add_domain(DomId(1)),
        fired: Rc::default(),
    });
    let first = events.bind_ipi().unwrap();
    let port = first.port();
    first.notify().unwrap();
    drop(first);
    let second = events.bind_ipi().unwrap();
    assert_eq!(second.port(), port, "Xen gives the number again");
    assert!(!second.take_pending());
    second.notify().unwrap();
    assert!(second.take_pending());
}

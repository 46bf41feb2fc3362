//! Nodes that others write all the time are looked at, and the guest goes on.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::time::Duration;

use xen9p::hypercall::XenError;
use xen9p::platform::{BuilderRing, DomainState, Frame, Page, Platform};
use xen9p::time::Instant;
use xen9p::xen::event::{Events, Port};
use xen9p::xen::shutdown::ShutdownWatch;
use xen9p::xen::store::XenStore;
use xen9p::xen::xenbus::{self, XenbusState};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

use super::xenbus::{BACK, GUEST, add_device};

/// A domain beside which the others go on working, as on processors of their own: also while it does not wait.
#[derive(Clone)]
struct Beside(FakePlatform);

// SAFETY: all is done by another platform.
unsafe impl Platform for Beside {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        self.0.alloc_pages(count)
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        // SAFETY: the caller vouches for it.
        unsafe { self.0.free_pages(first, count) }
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        self.0.frame(page)
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        // SAFETY: the caller vouches for it.
        let result = unsafe { self.0.hypercall(number, args) };
        self.0.xen().run_for(Duration::from_nanos(1));
        result
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        self.0.grant_frame(index)
    }

    fn domain_state(&self) -> &DomainState {
        self.0.domain_state()
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        self.0.xenstore_ring()
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        self.0.console_ring()
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall_clock(&self) -> u64 {
        self.0.wall_clock()
    }

    fn take_pending(&self, port: Port) -> bool {
        self.0.take_pending(port)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        self.0.wait(ports, deadline)
    }
}

/// Writes to nodes whenever it can.
struct Storm(Vec<String>, u32);

impl Peer for Storm {
    fn step(&mut self, xen: &FakeXen) -> bool {
        self.1 += 1;
        assert!(self.1 < 10_000, "no progress in the storm");
        for path in &self.0 {
            xen.dom0().write(path, "4");
        }
        true
    }
}

/// Row S10: a frontend that looks at a state that is written all the time gets to know it, and goes on.
#[test]
fn a_storm_of_writes_does_not_keep_who_looks() {
    let xen = FakeXen::new();
    let events = Events::new(Beside(xen.add_domain(GUEST)));
    let store = XenStore::connect(&events).unwrap();
    add_device(&xen, 0, "share");
    let device = xenbus::enumerate(&store, "9pfs").unwrap().remove(0);
    let state = device.watch_backend().unwrap();
    let stop = ShutdownWatch::new(&store, true).unwrap();
    let nodes = [&format!("{BACK}/state"), "/local/domain/1/control/shutdown"];
    xen.add_peer(Storm(nodes.map(String::from).into(), 0));
    for round in 0..10 {
        // Also where a look makes no hypercall, and so gives the others no time.
        xen.run_for(Duration::from_nanos(1));
        let (state, written) = state.look().unwrap();
        assert!(round == 0 || (state == XenbusState::Connected && written));
        let _ = stop.take();
    }
}

//! Another domain, in Rust, which serves and mounts trees; and the kernel in C as such a domain meets it.

use std::cell::RefCell;
use std::ffi::CStr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::fs::{self, aio};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::p9::session::Session;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::vchan::{Export, Listener, Orders};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_capi::*;
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

use crate::kernel::memory::inside;
use crate::kernel::{GUEST, World, last_error};

/// The other domain.
pub const OTHER: DomId = DomId(7);

/// The drivers of the other domain, which is in Rust.
pub fn other(world: &World, pv: bool) -> Xen<FakePlatform> {
    let platform = world.fake.add_domain(OTHER);
    if pv {
        world.fake.make_pv(OTHER);
    }
    world.fake.dom0().make_home(OTHER);
    Xen::new(Events::new(platform)).unwrap()
}

pub fn world(pv: bool) -> World {
    let world = World::new();
    if pv {
        world.fake.make_pv(GUEST);
    }
    world.fake.dom0().make_home(GUEST);
    world
}

/// A server in the other domain.
pub struct Serving {
    pub xen: Xen<FakePlatform>,
    pub export: Export<FakePlatform>,
    /// What has to be over before anything is served.
    pub first: Option<Pin<Box<dyn Future<Output = fs::Result<aio::Fs>>>>>,
    pub session: Option<Session>,
}

impl Serving {
    pub fn of(xen: &Xen<FakePlatform>, tree: &MemTree) -> Serving {
        let listener = Listener::new(xen, GUEST, "9p", Orders::default()).unwrap();
        let root = tree.root();
        let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
        Serving {
            xen: xen.clone(),
            export: Export::new(listener, policy, Limits::default()),
            first: None,
            session: None,
        }
    }

    pub fn start(self, world: &World) -> Rc<RefCell<Serving>> {
        let serving = Rc::new(RefCell::new(self));
        world.fake.share_peer(serving.clone());
        serving
    }
}

impl Peer for Serving {
    fn step(&mut self, _: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        if let Some(session) = &self.session {
            session.pump();
        }
        if let Some(first) = &mut self.first {
            let mut cx = Context::from_waker(Waker::noop());
            match first.as_mut().poll(&mut cx) {
                Poll::Ready(mounted) => {
                    mounted.unwrap();
                    self.first = None;
                }
                Poll::Pending => {
                    self.session.as_ref().unwrap().pump();
                    return progressed;
                }
            }
        }
        self.export.poll();
        progressed
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.export.next_check())
    }
}

/// Serves a tree by this address.
///
/// # Safety
/// The library is set up.
pub unsafe fn serve(address: &CStr, tree: xen9p_handle, flags: u32) -> xen9p_handle {
    let mut endpoint = 0;
    // SAFETY: all pointers are valid.
    let served = unsafe { xen9p_serve(address.as_ptr(), tree, flags, &mut endpoint) };
    assert_eq!(served, 0, "{address:?}: {}", last_error());
    endpoint
}

/// The kernel in C while another domain waits: it polls its endpoint.
pub struct Looping {
    pub fake: FakeXen,
    pub endpoint: xen9p_handle,
    /// What xen9p_poll() said last.
    pub said: i64,
}

impl Peer for Looping {
    fn step(&mut self, _: &FakeXen) -> bool {
        let calls = || self.fake.hypercalls(GUEST).values().sum::<u64>();
        let before = calls();
        self.said = inside(|| xen9p_poll(self.endpoint));
        calls() != before
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.fake.now() + Duration::from_millis(500))
    }
}

pub fn looping(world: &World, endpoint: xen9p_handle) -> Rc<RefCell<Looping>> {
    let looping = Rc::new(RefCell::new(Looping {
        fake: world.fake.clone(),
        endpoint,
        said: 0,
    }));
    world.fake.share_peer(looping.clone());
    looping
}

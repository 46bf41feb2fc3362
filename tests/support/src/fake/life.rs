//! How domains come and go: built as the toolstack does, restored under the same number, and destroyed.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;

use xen9p::hypercall::DomId;
use xen9p::platform::{BuilderRing, Page};
use xen9p::xen::event::Port;

use super::console::ConsoleServer;
use super::event::Channel;
use super::{Asked, Domain, FakePlatform, FakeXen};

impl FakeXen {
    pub(super) fn insert(&self, id: DomId) {
        let domain = Domain {
            grant_frames: Vec::new(),
            max_grant_frames: 64,
            max_pages: usize::MAX / 2,
            store_ring: None,
            console_ring: None,
            console: None,
            shutdown: None,
            cancels_suspend: false,
            hypervisor_log: Vec::new(),
            is_pv: false,
            max_maps: 1 << 18,
            drivers: Rc::default(),
            hypercalls: BTreeMap::new(),
            asked: Asked::default(),
            copied_by_xen: 0,
        };
        let former = self.world.domains.borrow_mut().insert(id, domain);
        assert!(former.is_none(), "domain {id} exists already");
    }

    /// Builds a domain as the toolstack does: with rings for xenstore and console, and its
    /// directory in xenstore. Returns it as seen from inside.
    pub fn add_domain(&self, id: DomId) -> FakePlatform {
        self.insert(id);
        let store = self.builder_ring(id);
        let console = self.builder_ring(id);
        self.serve_rings(id, store, console);
        self.platform(id)
    }

    /// Puts another domain of the same number in a domain's place, as a restore does: its memory stays, and ports,
    /// grants, and nodes and watches in xenstore are gone. The toolstack has cleared the builder's rings (as for PVH)
    /// or left them as they were (as for PV).
    ///
    /// # Panics
    /// Pages of the domain are still mapped: its backends die with it.
    pub fn restore(&self, id: DomId, clears_rings: bool) {
        let world = &self.world;
        let mapped = world
            .maps
            .borrow()
            .keys()
            .any(|(granter, _)| *granter == id);
        assert!(!mapped, "the domain's backends are gone");
        let console = world.with_domain(id, |domain| {
            domain.grant_frames.clear();
            domain.shutdown = None;
            domain.console.take().expect("the domain has a console")
        });
        let mut store = world.store.borrow_mut();
        let old_ends = [console.port(), store.forget(id)];
        world.argo.borrow_mut().forget(id);
        let mut channels = world.channels.borrow_mut();
        for port in channels.ports_of(id) {
            channels.close(id, port).expect("it is one of its ports");
        }
        for port in old_ends {
            channels.close(DomId(0), port).expect("its other end");
        }
        drop((store, channels));
        let rings = world.with_domain(id, |domain| [domain.store_ring, domain.console_ring]);
        let [store_ring, console_ring] = rings.map(|ring| {
            let page = ring.expect("the domain has the ring").page;
            if clears_rings {
                // SAFETY: a page of this machine, which no reference points to.
                unsafe { page.write_bytes(0, 1) };
            }
            self.connect_ring(id, page)
        });
        self.serve_rings(id, store_ring, console_ring);
        world.with_domain(id, |domain| {
            let server = domain.console.as_mut().expect("made above");
            server.output = console.output;
        });
    }

    /// Destroys a domain, as `xl destroy` does: its directory in xenstore first, then itself. What its drivers held is
    /// gone: their handles have to be forgotten, not dropped. Pages that others have mapped stay until they are unmapped.
    pub fn destroy(&self, id: DomId) {
        self.dom0().rm(&format!("/local/domain/{id}"));
        let world = &self.world;
        let console = world.with_domain(id, |domain| {
            domain.console.take().map(|console| console.port())
        });
        let store = world.store.borrow_mut().forget(id);
        let mut channels = world.channels.borrow_mut();
        for port in channels.ports_of(id) {
            channels.close(id, port).expect("it is one of its ports");
        }
        for port in console.into_iter().chain([store]) {
            channels.close(DomId(0), port).expect("its other end");
        }
        drop(channels);
        world.unmap_all_for(id);
        world.argo.borrow_mut().forget(id);
        world.domains.borrow_mut().remove(&id);
    }

    /// Whether a domain that is destroyed still has pages that others have mapped: `xl list` shows it as a zombie.
    pub fn is_zombie(&self, id: DomId) -> bool {
        let gone = !self.world.domains.borrow().contains_key(&id);
        gone && self
            .world
            .maps
            .borrow()
            .keys()
            .any(|(granter, _)| *granter == id)
    }

    fn serve_rings(&self, id: DomId, store: (BuilderRing, u32), console: (BuilderRing, u32)) {
        self.world.with_domain(id, |domain| {
            domain.store_ring = Some(store.0);
            domain.console_ring = Some(console.0);
            domain.console = Some(ConsoleServer::new(console.0.page, console.1));
        });
        let mut server = self.world.store.borrow_mut();
        server.introduce(id, store.0.page, store.1);
    }

    /// A ring page of a new domain, and domain 0's end of its port.
    fn builder_ring(&self, id: DomId) -> (BuilderRing, u32) {
        let page = self
            .world
            .memory
            .borrow_mut()
            .alloc(DomId(xen9p::sys::DOMID_XEN), NonZeroUsize::MIN);
        self.connect_ring(id, page)
    }

    /// A ring in that page, and domain 0's end of its port.
    fn connect_ring(&self, id: DomId, page: NonNull<Page>) -> (BuilderRing, u32) {
        let mut channels = self.world.channels.borrow_mut();
        let port = channels
            .open(id, Channel::Unbound(DomId(0)))
            .expect("a new domain has ports to spare");
        let other = channels
            .bind_interdomain(DomId(0), id, port)
            .expect("domain 0 has ports to spare");
        let ring = BuilderRing {
            page,
            port: Port(port),
        };
        (ring, other)
    }
}

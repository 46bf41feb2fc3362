//! Two domains, one of which serves a tree in memory to the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::vchan::{self, Export, Listener, Orders, VchanError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

pub const CLIENT: DomId = DomId(1);
pub const SERVER: DomId = DomId(2);

/// How long a client waits for its server here, of the simulated time.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

/// A new domain, with the permission to write below its own `data`, as xl makes it.
pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    fake.dom0().make_home(id);
    Xen::new(Events::new(platform)).unwrap()
}

/// An export as a program in the server's domain runs it.
pub struct Serving {
    pub xen: Drivers,
    pub export: Export<FakePlatform>,
}

impl Peer for Serving {
    fn step(&mut self, _: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        self.export.poll();
        progressed
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.export.next_check())
    }
}

/// A client, a server with a tree, and the machine that they run on.
pub struct Bed {
    pub fake: FakeXen,
    pub client: Drivers,
    pub tree: MemTree,
    pub serving: Rc<RefCell<Serving>>,
}

pub fn orders(left: u8, right: u8) -> Orders {
    Orders::new(left, right).expect("a legal pair")
}

impl Bed {
    /// The server publishes a vchan with rings of these orders. Which of the domains are PV ones.
    pub fn new(orders: Orders, pv: [bool; 2]) -> Bed {
        let fake = FakeXen::new();
        let (client, server) = (domain(&fake, CLIENT), domain(&fake, SERVER));
        for (id, pv) in [CLIENT, SERVER].into_iter().zip(pv) {
            if pv {
                fake.make_pv(id);
            }
        }
        Bed::of(fake, client, server, MemTree::new(), orders)
    }

    /// The server publishes a vchan for this tree.
    pub fn of(
        fake: FakeXen,
        client: Drivers,
        server: Drivers,
        tree: MemTree,
        orders: Orders,
    ) -> Bed {
        let listener = Listener::new(&server, CLIENT, "9p", orders).unwrap();
        let root = tree.root();
        let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
        let export = Export::new(listener, policy, Limits::default());
        let serving = Rc::new(RefCell::new(Serving {
            xen: server,
            export,
        }));
        fake.share_peer(serving.clone());
        Bed {
            fake,
            client,
            tree,
            serving,
        }
    }

    pub fn connect(&self) -> Result<vchan::Stream<FakePlatform>, VchanError> {
        vchan::connect(&self.client, SERVER, "9p", TIMEOUT)
    }

    pub fn mount(&self) -> Fs {
        let transport = vchan::framed(self.connect().unwrap(), vchan::DEFAULT_MESSAGE);
        let options = MountOptions::new().timeout(Duration::from_secs(20));
        Fs::mount(transport, &options).unwrap()
    }
}

//! Two domains, one of which serves a tree in memory to the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::argo::{self, DialError, Export, Listener, Stream};
use xen9p::xen::Xen;
use xen9p::xen::argo::Argo;
use xen9p::xen::event::Events;
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

pub const CLIENT: DomId = DomId(1);
pub const SERVER: DomId = DomId(2);

/// The server's port.
pub const PORT: u32 = 564;

/// How long a client waits for its server here, of the simulated time.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

/// A machine with Argo.
pub fn machine() -> FakeXen {
    let fake = FakeXen::new();
    fake.refuse_argo(None);
    fake
}

/// A new domain.
pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    let node = format!("/local/domain/{id}/domid");
    fake.dom0().write(&node, id.to_string());
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
    pub client: Argo<FakePlatform>,
    pub tree: MemTree,
    pub serving: Rc<RefCell<Serving>>,
}

impl Bed {
    /// Both sides take messages of at most so many bytes.
    pub fn new(max_message: u32) -> Bed {
        let fake = machine();
        let client = Argo::new(&domain(&fake, CLIENT)).unwrap();
        let tree = MemTree::new();
        let serving = serve(&fake, domain(&fake, SERVER), &tree, max_message);
        Bed {
            fake,
            client,
            tree,
            serving,
        }
    }

    pub fn connect(&self) -> Result<Stream<FakePlatform>, DialError> {
        argo::connect(&self.client, SERVER, PORT, argo::DEFAULT_MESSAGE, TIMEOUT)
    }

    pub fn mount(&self) -> Fs {
        let options = MountOptions::new().timeout(Duration::from_secs(20));
        Fs::mount(argo::framed(self.connect().unwrap()), &options).unwrap()
    }
}

/// Serves a tree from now on.
pub fn serve(
    fake: &FakeXen,
    xen: Drivers,
    tree: &MemTree,
    max_message: u32,
) -> Rc<RefCell<Serving>> {
    let own = Argo::new(&xen).unwrap();
    let listener = Listener::new(&own, CLIENT, PORT, max_message).unwrap();
    let root = tree.root();
    let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
    let mut limits = Limits::default();
    limits.msize = limits.msize.min(max_message);
    let export = Export::new(listener, policy, limits);
    let serving = Rc::new(RefCell::new(Serving { xen, export }));
    fake.share_peer(serving.clone());
    serving
}

//! Domains one of which is the backend of the others' devices.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::xen9pfs::backend::{Backend, Request, Rings};
use xen9p::transport::xen9pfs::{self, Config, Xen9pfs};
use xen9p::tree::DynNode;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::xenbus::XenbusState;
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer, Usage};
use xen9p_testing::gate::Gate;

pub const BACKEND: DomId = DomId(2);
pub const FRONTEND: DomId = DomId(5);
pub const OTHER: DomId = DomId(6);

/// How soon a frontend that died has to be let go of.
pub const SOON: Duration = Duration::from_secs(2);

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    let home = format!("/local/domain/{id}");
    fake.dom0().write(&format!("{home}/domid"), id.to_string());
    Xen::new(Events::new(platform)).unwrap()
}

/// The program in the backend's domain.
pub struct Serving {
    pub xen: Drivers,
    pub backend: Backend<FakePlatform>,
}

impl Peer for Serving {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        self.backend.poll();
        progressed || self.backend.next_check() <= fake.now()
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.backend.next_check())
    }
}

/// A backend, and the machine that it runs on.
pub struct Bed {
    pub fake: FakeXen,
    /// What the path `/srv` means; `/other` is another tree, and `/gate` one in which requests wait.
    pub tree: MemTree,
    pub other_tree: MemTree,
    pub gate: Gate,
    pub serving: Rc<RefCell<Serving>>,
    /// What the backend's domain has while there is no device.
    pub before: Usage,
}

/// The directories of a device: the frontend's, and the backend's.
pub struct Device {
    pub front: String,
    pub back: String,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::offering(Rings::default(), Limits::default())
    }

    pub fn offering(rings: Rings, limits: Limits) -> Bed {
        let fake = FakeXen::new();
        let xen = domain(&fake, BACKEND);
        let (tree, other_tree, gate) = (MemTree::new(), MemTree::new(), Gate::new());
        let roots = [tree.root(), other_tree.root()].map(DynNode::new);
        let [root, other_root] = roots;
        let gated = DynNode::new(gate.clone());
        let policy = move |request: &Request| match request.path.as_str() {
            "/srv" => Ok(Exports::new(root.clone(), Rights::ReadWrite)),
            "/other" => Ok(Exports::new(other_root.clone(), Rights::ReadOnly)),
            "/gate" => Ok(Exports::new(gated.clone(), Rights::ReadWrite)),
            other => Err(format!("there is no {other}")),
        };
        let backend = Backend::new(&xen, rings, limits, policy, None).unwrap();
        let serving = Rc::new(RefCell::new(Serving { xen, backend }));
        fake.share_peer(serving.clone());
        fake.settle();
        Bed {
            before: fake.usage(BACKEND),
            fake,
            tree,
            other_tree,
            gate,
            serving,
        }
    }

    /// Makes a device as the toolstack does.
    pub fn plug(&self, frontend: DomId, id: u32, path: &str) -> Device {
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind: "9pfs",
            frontend,
            id,
        };
        let nodes = [("path", path), ("security_model", "none")];
        let backend = self.fake.domain(BACKEND);
        let (front, back) = backend.add_device(&spec, &[("tag", "share")], &nodes);
        Device { front, back }
    }

    pub fn state(&self, directory: &str) -> XenbusState {
        let value = self.fake.dom0().read(&format!("{directory}/state"));
        value.map_or(XenbusState::Unknown, |value| {
            XenbusState::from_value(&value)
        })
    }

    /// Lets the machine run until a directory's state is that one, for a minute at most.
    pub fn reaches(&self, directory: &str, state: XenbusState) {
        for _ in 0..6000 {
            if self.state(directory) == state {
                return;
            }
            self.fake.run_for(Duration::from_millis(10));
        }
        panic!("{directory} is {}, not {state}", self.state(directory));
    }

    pub fn is_there(&self, directory: &str) -> bool {
        self.fake.dom0().read(directory).is_some()
    }

    pub fn mapped(&self) -> usize {
        let serving = self.serving.borrow();
        serving.xen.grants.counters().mapped_pages
    }

    pub fn connections(&self) -> usize {
        self.serving.borrow().backend.connections()
    }

    /// Fails unless the backend has what it had at the beginning, but for the watches on so many devices.
    pub fn is_at_rest(&self, devices: usize) {
        self.fake.settle();
        let mut now = self.fake.usage(BACKEND);
        now.watches -= devices;
        // What stands in for pages that are lost comes with the first mapping, and stays.
        now.pages = now.pages.saturating_sub(1);
        assert_eq!((self.mapped(), now), (0, self.before));
        assert_eq!(self.serving.borrow().backend.devices(), devices);
    }
}

pub fn config(rings: u16, order: u8) -> Config {
    let mut config = Config::default();
    (config.rings, config.order) = (Some(rings), Some(order));
    config
}

pub fn connect(xen: &Drivers, config: &Config) -> Xen9pfs<FakePlatform> {
    let device = xen9pfs::device(xen, None).unwrap();
    xen9pfs::connect(xen, device, config).unwrap()
}

pub fn mount(xen: &Drivers, config: &Config) -> Fs {
    let options = MountOptions::new().timeout(Duration::from_secs(20));
    Fs::mount(connect(xen, config), &options).unwrap()
}

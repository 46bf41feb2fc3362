//! Domains that serve each other, in circles and in chains, by vchans and as backends of devices, all of them busy at once over
//! rings of the smallest order: each finishes; and a lookup that goes round without end is told so at once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::{MemTree, Namespace};
use xen9p::p9::session::Session;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::vchan::{self, Export, Listener};
use xen9p::transport::xen9pfs::backend::{Backend, Rings};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer};
use xen9p_testing::random::content;

use crate::common::{Drivers, domain, orders};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// By what one domain serves another.
#[derive(Clone, Copy, Debug)]
enum By {
    Vchan,
    /// A device with so many rings.
    Device(u16),
}

/// By what the domains serve each other, in turn.
const WAYS: [&[By]; 4] = [
    &[By::Vchan],
    &[By::Device(1)],
    &[By::Device(3)],
    &[By::Vchan, By::Device(1)],
];

/// The program of a domain with one processor: it serves, and does its own work in between.
struct Program {
    xen: Drivers,
    ns: Namespace,
    exports: Vec<Export<FakePlatform>>,
    /// Serves the name space to whatever domain has a device of this one.
    backend: Backend<FakePlatform>,
    mounts: Vec<Session>,
    tasks: Vec<Task>,
}

impl Program {
    fn pump(&self) -> u64 {
        self.mounts.iter().for_each(Session::pump);
        self.mounts.iter().map(Session::progress).sum()
    }
}

impl Peer for Program {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        let before = self.pump();
        self.mounts
            .iter()
            .for_each(|session| session.ask_for_others(true));
        self.exports.iter_mut().for_each(Export::poll);
        self.backend.poll();
        self.mounts
            .iter()
            .for_each(|session| session.ask_for_others(false));
        let mut cx = Context::from_waker(Waker::noop());
        self.tasks
            .retain_mut(|task| task.as_mut().poll(&mut cx) == Poll::Pending);
        let again = self.backend.next_check() <= fake.now();
        progressed || self.pump() != before || again
    }

    fn wakes_at(&self) -> Option<Instant> {
        let exports = self.exports.iter().map(Export::next_check);
        let mounts = self.mounts.iter().map(Session::next_wakeup);
        let checks = exports.chain(mounts);
        checks.chain([self.backend.next_check()]).min()
    }
}

/// Domains with the numbers from 1 on, each with a name space of its own.
struct World {
    fake: FakeXen,
    ways: &'static [By],
    programs: Vec<Rc<RefCell<Program>>>,
}

fn id(index: usize) -> DomId {
    DomId(index as u16 + 1)
}

impl World {
    fn new(ways: &'static [By], count: usize) -> World {
        let fake = FakeXen::new();
        let programs = (0..count).map(|index| {
            let xen = domain(&fake, id(index));
            if index.is_multiple_of(2) {
                fake.make_pv(id(index));
            }
            let tree = MemTree::new();
            tree.put("/name", format!("{index}")).unwrap();
            let ns = Namespace::new(tree);
            let served = ns.clone();
            let policy = move |_: &_| Ok(Exports::new(served.node(), Rights::ReadWrite));
            let rings = Rings::new(3, 2).unwrap();
            let backend = Backend::new(&xen, rings, Limits::default(), policy, None);
            let program = Program {
                xen,
                ns,
                exports: Vec::new(),
                backend: backend.unwrap(),
                mounts: Vec::new(),
                tasks: Vec::new(),
            };
            let program = Rc::new(RefCell::new(program));
            fake.share_peer(program.clone());
            program
        });
        let programs = programs.collect();
        World {
            fake,
            ways,
            programs,
        }
    }

    /// Has `client` mount the name space of `server`.
    fn connect(&self, client: usize, server: usize) -> Fs {
        let options = MountOptions::new().msize(8192).window(256);
        let fs = match self.ways[client % self.ways.len()] {
            By::Vchan => self.connect_vchan(client, server, &options),
            By::Device(rings) => self.connect_device(client, server, rings, &options),
        };
        let session = fs.to_async().session().clone();
        self.programs[client].borrow_mut().mounts.push(session);
        fs
    }

    fn connect_vchan(&self, client: usize, server: usize, options: &MountOptions) -> Fs {
        let mut serving = self.programs[server].borrow_mut();
        let listener = Listener::new(&serving.xen, id(client), "9p", orders(10, 11)).unwrap();
        let ns = serving.ns.clone();
        let policy = move || Exports::new(ns.node(), Rights::ReadWrite);
        let export = Export::new(listener, policy, Limits::default());
        serving.exports.push(export);
        drop(serving);
        let xen = self.programs[client].borrow().xen.clone();
        let stream = vchan::connect(&xen, id(server), "9p", Duration::from_secs(5)).unwrap();
        Fs::mount(vchan::framed(stream, 8192), options).unwrap()
    }

    fn connect_device(
        &self,
        client: usize,
        server: usize,
        rings: u16,
        options: &MountOptions,
    ) -> Fs {
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind: "9pfs",
            frontend: id(client),
            id: server as u32,
        };
        let tag = server.to_string();
        let backend = self.fake.domain(id(server));
        backend.add_device(&spec, &[("tag", &tag)], &[("path", "/")]);
        let xen = self.programs[client].borrow().xen.clone();
        let device = xen9pfs::device(&xen, Some(&tag)).unwrap();
        let mut config = Config::default();
        (config.rings, config.order) = (Some(rings), Some(2));
        let rings = xen9pfs::connect(&xen, device, &config).unwrap();
        Fs::mount(rings, options).unwrap()
    }

    /// Has the program of a domain write, read and look, all at once, in this directory.
    fn work(&self, index: usize, fs: &Fs, dir: &str) {
        self.work_times(60, index, fs, dir);
    }

    fn work_times(&self, count: usize, index: usize, fs: &Fs, dir: &str) {
        let mut program = self.programs[index].borrow_mut();
        for number in 0..4 {
            let (fs, path) = (fs.to_async().clone(), format!("{dir}/{index}-{number}"));
            let content = content(60_000 + number);
            program.tasks.push(Box::pin(async move {
                fs.write(&path, &content).await.unwrap();
                assert!(fs.read(&path).await.unwrap() == content);
            }));
        }
        for number in 0..count {
            let (fs, dir) = (fs.to_async().clone(), dir.to_owned());
            program.tasks.push(Box::pin(async move {
                for _ in 0..5 {
                    fs.read(format!("{dir}/name")).await.unwrap();
                    let none = fs.metadata(format!("{dir}/none-{number}")).await;
                    assert_eq!(none.unwrap_err().errno(), Errno::ENOENT);
                }
            }));
        }
    }

    /// Lets all programs finish. How long that took.
    fn finish(&self) -> Duration {
        let begun = self.fake.now();
        let busy = || {
            self.programs
                .iter()
                .any(|program| !program.borrow().tasks.is_empty())
        };
        while busy() {
            let took = self.fake.now() - begun;
            assert!(took < Duration::from_secs(20), "they wait for each other");
            self.fake.run_for(Duration::from_millis(1));
        }
        self.fake.now() - begun
    }

    fn mount(&self, index: usize, fs: &Fs, at: &str) {
        self.programs[index]
            .borrow()
            .ns
            .mount(fs.clone(), at)
            .unwrap();
    }
}

#[test]
fn two_domains_serve_each_other() {
    for ways in WAYS {
        let world = World::new(ways, 2);
        let [first, second] = [world.connect(0, 1), world.connect(1, 0)];
        world.work(0, &first, "");
        world.work(1, &second, "");
        world.finish();
    }
}

/// The one in the middle works there, too.
#[test]
fn a_domain_asks_another_one_before_it_answers_a_third() {
    for ways in WAYS {
        let world = World::new(ways, 3);
        let last = world.connect(1, 2);
        world.mount(1, &last, "/next");
        let first = world.connect(0, 1);
        world.work(0, &first, "/next");
        world.work(0, &first, "");
        world.work(1, &last, "");
        world.finish();
    }
}

/// Each works on the files of the next one, and by it on those of the one behind.
#[test]
fn three_domains_in_a_ring_reach_through_one_another() {
    for ways in WAYS {
        let world = World::new(ways, 3);
        let mounts: Vec<Fs> = (0..3)
            .map(|index| world.connect(index, (index + 1) % 3))
            .collect();
        for (index, fs) in mounts.iter().enumerate() {
            world.mount(index, fs, "/next");
        }
        for (index, fs) in mounts.iter().enumerate() {
            world.work(index, fs, "");
            world.work(index, fs, "/next");
        }
        world.finish();
    }
}

/// Every name on the way leads to the other domain.
#[test]
fn a_way_that_goes_round_many_times_has_an_end() {
    for ways in WAYS {
        let world = World::new(ways, 2);
        let mounts = [world.connect(0, 1), world.connect(1, 0)];
        for (index, fs) in mounts.iter().enumerate() {
            world.mount(index, fs, "/next");
        }
        for (index, fs) in mounts.iter().enumerate() {
            world.work_times(12, index, fs, &"/next".repeat(6));
        }
        world.finish();
    }
}

/// The root of each is what the other one serves. Nothing in it can be found, and nothing is left behind.
#[test]
fn a_lookup_that_goes_round_for_ever_is_told_so_at_once() {
    for ways in WAYS {
        let world = World::new(ways, 2);
        let mounts = [world.connect(0, 1), world.connect(1, 0)];
        for (index, fs) in mounts.iter().enumerate() {
            let tree = MemTree::new();
            tree.put("/name", "mine").unwrap();
            world.mount(index, fs, "/");
            world.programs[index]
                .borrow()
                .ns
                .mount(tree, "/mine")
                .unwrap();
        }
        for _ in 0..3 {
            for (index, fs) in mounts.iter().enumerate() {
                let fs = fs.to_async().clone();
                let mut program = world.programs[index].borrow_mut();
                program.tasks.push(Box::pin(async move {
                    let lost = fs.metadata("/nowhere").await.unwrap_err();
                    assert_eq!(lost.errno(), Errno::EAGAIN);
                }));
            }
            assert!(world.finish() < Duration::from_secs(1));
        }
        // What has an end is there all the same, also while others go round.
        for (index, fs) in mounts.iter().enumerate() {
            world.work(index, fs, "/mine");
        }
        world.finish();
    }
}

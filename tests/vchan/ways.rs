//! One tree at two addresses: one server dies, the mount goes on by the other; a server of another tree is never taken for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Error, Fs, MountOptions, SystemTime};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::p9::session::{Recovery, Redial};
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::vchan::{self, Export, Listener};
use xen9p::transport::{Transport, TransportError};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};
use xen9p_testing::random::content;

use crate::common::{CLIENT, Drivers, SERVER, domain, orders};

const OTHER: DomId = DomId(3);

/// For how long a server is looked for.
const SEARCH: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The domain is destroyed.
    Destroyed,
    /// The program ends, and begins anew this long afterwards.
    Restarted(Duration),
}

/// A server that ends when the file has so many bytes.
struct Mortal {
    id: DomId,
    xen: Option<Drivers>,
    tree: MemTree,
    export: Option<Export<FakePlatform>>,
    dies: Option<(usize, End)>,
    returns_at: Instant,
}

impl Mortal {
    fn serve(&mut self) {
        let xen = self.xen.as_ref().unwrap();
        let listener = Listener::new(xen, CLIENT, "9p", orders(12, 12)).unwrap();
        let root = self.tree.root();
        let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
        let mut limits = Limits::default();
        limits.msize = 8192;
        self.export = Some(Export::new(listener, policy, limits));
    }

    fn end(&mut self, end: End, fake: &FakeXen) {
        let export = self.export.take();
        match end {
            End::Destroyed => {
                std::mem::forget((export, self.xen.take()));
                fake.destroy(self.id);
            }
            End::Restarted(after) => self.returns_at = fake.now() + after,
        }
    }
}

impl Peer for Mortal {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let Some(xen) = &self.xen else { return false };
        let progressed = xen.events.dispatch();
        match &mut self.export {
            Some(export) => export.poll(),
            None if fake.now() >= self.returns_at => self.serve(),
            None => return progressed,
        }
        let size = self.tree.len("/file");
        if let Some((_, end)) = self.dies.take_if(|(at, _)| size >= *at) {
            self.end(end, fake);
        }
        progressed
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.xen.as_ref()?;
        Some(match &self.export {
            Some(export) => export.next_check(),
            None => self.returns_at,
        })
    }
}

trait Size {
    fn len(&self, path: &str) -> usize;
}

impl Size for MemTree {
    /// The length of a file; 0 if there is none.
    fn len(&self, path: &str) -> usize {
        let fs = xen9p::tree::files::Fs::new(self.root());
        fs.metadata(path).map_or(0, |file| file.len() as usize)
    }
}

/// A tree that was made so many seconds after 1970.
fn tree(second: u64) -> MemTree {
    MemTree::with_clock(64 << 20, move || {
        SystemTime::from(Duration::from_secs(second))
    })
}

struct Bed {
    fake: FakeXen,
    client: Drivers,
    fs: Fs,
    tries: Rc<RefCell<Vec<DomId>>>,
}

fn way(client: &Drivers, server: DomId, tries: &Rc<RefCell<Vec<DomId>>>) -> Box<dyn Redial> {
    let (client, tries) = (client.clone(), tries.clone());
    Box::new(move || {
        tries.borrow_mut().push(server);
        let stream = vchan::connect(&client, server, "9p", Duration::from_millis(500));
        let transport =
            stream.map(|stream| Box::new(vchan::framed(stream, 8192)) as Box<dyn Transport>);
        Ok::<_, TransportError>(transport.ok())
    })
}

/// A mount of two servers, which end when the file has so many bytes.
fn bed(trees: [&MemTree; 2], deaths: [Option<(usize, End)>; 2]) -> Bed {
    let fake = FakeXen::new();
    let client = domain(&fake, CLIENT);
    for ((id, tree), dies) in [SERVER, OTHER].into_iter().zip(trees).zip(deaths) {
        let mut mortal = Mortal {
            id,
            xen: Some(domain(&fake, id)),
            tree: tree.clone(),
            export: None,
            dies,
            returns_at: fake.now(),
        };
        mortal.serve();
        fake.share_peer(Rc::new(RefCell::new(mortal)));
    }
    let stream = vchan::connect(&client, SERVER, "9p", Duration::from_secs(1)).unwrap();
    let tries = Rc::default();
    let ways = vec![way(&client, SERVER, &tries), way(&client, OTHER, &tries)];
    let options = MountOptions::new().timeout(Duration::from_secs(5));
    let recovery = Recovery::among(ways, SEARCH);
    let fs = Fs::mount_recovering(vchan::framed(stream, 8192), &options, recovery).unwrap();
    Bed {
        fake,
        client,
        fs,
        tries,
    }
}

#[test]
fn a_copy_goes_on_by_the_other_address() {
    let content = content(1_000_000);
    for end in [End::Destroyed, End::Restarted(Duration::from_secs(60))] {
        // One tree, which both have.
        let tree = tree(1);
        let bed = bed([&tree, &tree], [Some((300_000, end)), None]);
        bed.fs.write("/file", &content).unwrap();
        assert!(bed.fs.read("/file").unwrap() == content);
        assert_eq!(bed.fs.stats().recoveries, 1);
        assert_eq!(*bed.tries.borrow(), [OTHER]);
        if end == End::Destroyed {
            assert!(!bed.fake.is_zombie(SERVER));
        }
        bed.fs.unmount().unwrap();
        assert_eq!(bed.client.grants.counters().mapped_pages, 0);
    }
}

#[test]
fn a_server_of_another_tree_gets_nothing() {
    // Its files have the same numbers; it was made at another time.
    let (ours, twin) = (tree(1), tree(2));
    twin.put("/file", "theirs").unwrap();
    let content = content(1_000_000);
    let bed = bed([&ours, &twin], [Some((300_000, End::Destroyed)), None]);
    let open = {
        bed.fs.write("/open", "open").unwrap();
        bed.fs.open("/open").unwrap()
    };
    let begun = bed.fake.now();
    assert_eq!(bed.fs.write("/file", &content), Err(Error::Stale));
    assert!(bed.fake.now() - begun < SEARCH + Duration::from_secs(6));
    assert_eq!(open.read(&mut [0; 4]), Err(Error::Stale));
    assert_eq!(bed.fs.write("/new", "text"), Err(Error::Stale));
    let theirs = xen9p::tree::files::Fs::new(twin.root());
    assert_eq!(theirs.read("/file").unwrap(), b"theirs");
    assert_eq!(theirs.read_dir("/").unwrap().count(), 1);
}

#[test]
fn the_first_one_comes_back_when_both_are_gone() {
    let content = content(1_000_000);
    let tree = tree(1);
    let deaths = [
        Some((300_000, End::Restarted(Duration::from_secs(15)))),
        Some((600_000, End::Destroyed)),
    ];
    let bed = bed([&tree, &tree], deaths);
    bed.fs.write("/file", &content).unwrap();
    assert!(bed.fs.read("/file").unwrap() == content);
    assert_eq!(bed.fs.stats().recoveries, 2);
    assert_eq!(bed.tries.borrow().last(), Some(&SERVER));
}

#[test]
fn the_search_ends_when_both_stay_away() {
    let tree = tree(1);
    let deaths = [300_000, 600_000].map(|at| Some((at, End::Destroyed)));
    let bed = bed([&tree, &tree], deaths);
    let begun = bed.fake.now();
    let lost = bed.fs.write("/file", content(1_000_000)).unwrap_err();
    assert!(
        matches!(lost, Error::Transport(TransportError::Lost(_))),
        "{lost}"
    );
    assert!(bed.fake.now() - begun < SEARCH + Duration::from_secs(6));
}

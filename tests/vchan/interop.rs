//! Either of our ends works with libxenvchan at the other one, as vchan-socket-proxy uses it: streams in pieces, a page that is
//! used again by the next client, and the rest of an old session in it.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::p9::wire::{Dialect, Request, Tag};
use xen9p::server::{Exports, Frames, Limits, Rights, Server};
use xen9p::transport::vchan::{self, Export, Listener, Orders, Side, VchanError};
use xen9p::tree::{NeverWaits, block_on};
use xen9p::xen::grant::{Grants, SharedPages};
use xen9p::xen::shared::SharedMemory;
use xen9p_testing::fake::{FakePlatform, FakeXen, MappedGrant, Peer};
use xen9p_testing::random::content;

use crate::common::{CLIENT, Drivers, Serving, TIMEOUT, domain, orders};
use crate::libxenvchan::{At, Did, Lib, Pages};

const DOM0: DomId = DomId(0);
const PATH: &str = "/local/domain/0/data/vchan/1/9p";

type MemServer = Server<Exports<xen9p::tree::trees::MemNode>>;

/// vchan-socket-proxy in dom0 with a 9P server behind it.
pub struct Proxy {
    lib: Lib,
    frames: Frames,
    server: MemServer,
    tree: MemTree,
    buffer: Vec<u8>,
    port: u32,
    fake: FakeXen,
    /// Sessions that were begun.
    pub sessions: u32,
    _pages: Vec<SharedPages<FakePlatform>>,
}

fn engine(tree: &MemTree) -> MemServer {
    Server::new(
        Exports::new(tree.root(), Rights::ReadWrite),
        Limits::default(),
    )
}

pub fn memory(pages: &SharedPages<FakePlatform>) -> SharedMemory<'static> {
    // SAFETY: the pages live as long as what is made of them here, and are accessed by this alone on this side.
    unsafe { SharedMemory::new(pages.as_ptr(), pages.size()) }
}

impl Proxy {
    pub fn new(fake: &FakeXen, orders: Orders, tree: &MemTree) -> Rc<RefCell<Proxy>> {
        let grants = Grants::new(fake.platform(DOM0)).unwrap();
        let share = |count| {
            let count = NonZeroUsize::new(count)?;
            Some(grants.share(count, CLIENT).unwrap())
        };
        let page = share(1).unwrap();
        let rings = share(orders.pages());
        let none = memory(&page).subslice(0, 0);
        let pages = Pages::new(memory(&page), orders, rings.as_ref().map_or(none, memory));
        let refs: Vec<u32> = rings
            .iter()
            .flat_map(|rings| rings.refs())
            .map(|r| r.0)
            .collect();
        pages.init_server(orders, &refs);
        let dom0 = fake.dom0();
        let port = dom0.alloc_unbound(CLIENT).unwrap();
        let mut lib = Lib::new(pages, Side::Server, &[], 8192);
        lib.at = At::Left;
        publish(
            fake,
            &[("ring-ref", page.refs()[0].0), ("event-channel", port)],
        );
        let proxy = Rc::new(RefCell::new(Proxy {
            lib,
            frames: Frames::new(),
            server: engine(tree),
            tree: tree.clone(),
            buffer: vec![0; 1 << 20],
            port,
            fake: fake.clone(),
            sessions: 0,
            _pages: rings.into_iter().chain([page]).collect(),
        }));
        fake.share_peer(proxy.clone());
        proxy
    }

    /// Bytes for the client that belong to an earlier session.
    pub fn leave_in_ring(&mut self, bytes: &[u8]) {
        let (ring, prod) = (self.lib.pages.right, self.lib.pages.index(12));
        ring.copy_in_around(prod as usize & (ring.len() - 1), bytes);
        let after = prod.wrapping_add(bytes.len() as u32);
        let word = self.lib.pages.page.word(12);
        word.store(after, std::sync::atomic::Ordering::SeqCst);
    }

    /// What came from the client goes to the server, and its replies back.
    fn serve(&mut self) {
        let mut rest = &std::mem::take(&mut self.lib.received)[..];
        while !rest.is_empty() {
            let space = self.frames.space(1 << 20).unwrap();
            let count = rest.len().min(space.len());
            space[..count].copy_from_slice(&rest[..count]);
            self.frames.filled(count);
            rest = &rest[count..];
            while let Some(message) = self.frames.next(1 << 20).unwrap() {
                let job = self.server.accept(0, message).unwrap();
                let buffer = &mut self.buffer;
                let done = block_on(&NeverWaits, async { Ok(job.run(buffer).await) }).unwrap();
                let reply = self.server.complete(done, &mut self.buffer);
                self.lib
                    .to_send
                    .extend_from_slice(&self.buffer[..reply.len()]);
                self.frames.done();
            }
        }
    }
}

pub fn publish(fake: &FakeXen, nodes: &[(&str, u32)]) {
    use xen9p::xen::store::{Access, Permission};
    let entry = |domain, access| Permission { domain, access };
    for (name, value) in nodes {
        let path = format!("{PATH}/{name}");
        fake.dom0().write(&path, value.to_string());
        fake.dom0().set_permissions(
            &path,
            &[entry(DOM0, Access::None), entry(CLIENT, Access::Read)],
        );
    }
}

impl Peer for Proxy {
    fn step(&mut self, _: &FakeXen) -> bool {
        let dom0 = self.fake.dom0();
        let mut busy = false;
        if matches!(self.lib.at, At::Left | At::GaveUp) {
            if self.lib.pages.byte(20) != 1 {
                return false;
            }
            // A client: a new connection to the server. What was left in the ring to the client stays there.
            self.lib.at = At::Look { asked: false };
            (self.lib.to_send, self.lib.sent) = (Vec::new(), 0);
            self.frames = Frames::new();
            self.server = engine(&self.tree);
            self.sessions += 1;
            busy = true;
        }
        loop {
            let mut pending = dom0.take_pending(self.port);
            match self.lib.step(&mut pending) {
                Did::Sleeps => break,
                Did::Event => dom0.send(self.port),
                Did::Step => {}
            }
            busy = true;
            self.serve();
        }
        if self.lib.at == At::GaveUp {
            // discard_buffers: what the client has sent, not what was for it.
            let word = self.lib.pages.page.word(0);
            word.store(self.lib.pages.index(4), std::sync::atomic::Ordering::SeqCst);
            busy = true;
        }
        busy
    }
}

struct Bed {
    fake: FakeXen,
    client: Drivers,
    proxy: Rc<RefCell<Proxy>>,
}

fn bed(orders: Orders) -> Bed {
    let fake = FakeXen::new();
    let client = domain(&fake, CLIENT);
    let tree = MemTree::new();
    tree.put("/hello", "from dom0").unwrap();
    let proxy = Proxy::new(&fake, orders, &tree);
    Bed {
        fake,
        client,
        proxy,
    }
}

impl Bed {
    fn connect(&self) -> Result<vchan::Stream<FakePlatform>, VchanError> {
        vchan::connect(&self.client, DOM0, "9p", TIMEOUT)
    }

    fn mount(&self) -> Fs {
        let transport = vchan::framed(self.connect().unwrap(), vchan::DEFAULT_MESSAGE);
        let options = MountOptions::new().timeout(Duration::from_secs(20));
        Fs::mount(transport, &options).unwrap()
    }
}

#[test]
fn libxenvchan_serves_us() {
    for (left, right) in [(10, 11), (11, 10), (12, 11), (13, 14)] {
        let bed = bed(orders(left, right));
        let fs = bed.mount();
        assert_eq!(fs.read_to_string("/hello").unwrap(), "from dom0");
        let content = content(200_000);
        fs.write("/file", &content).unwrap();
        assert!(
            fs.read("/file").unwrap() == content,
            "orders {left} and {right}"
        );
        fs.unmount().unwrap();
        assert_eq!(bed.client.grants.counters().mapped_pages, 0);
    }
}

/// Its page, port and nodes are the same for each client; what was left of an earlier session does not reach the next client.
#[test]
fn the_next_session_on_the_same_page_is_a_new_one() {
    let bed = bed(orders(10, 11));
    for round in 1..=4 {
        let fs = bed.mount();
        assert_eq!(fs.read_to_string("/hello").unwrap(), "from dom0");
        fs.unmount().unwrap();
        bed.fake.settle();
        assert_eq!(bed.proxy.borrow().sessions, round);
        // The rest of a reply, in the middle of which the client went.
        let rest = content(100 + round as usize * 391);
        bed.proxy.borrow_mut().leave_in_ring(&rest);
    }
}

/// The rest of an old reply may come even after the new client is there.
#[test]
fn bytes_of_an_old_session_that_come_late_are_dropped() {
    let bed = bed(orders(10, 11));
    bed.mount().unmount().unwrap();
    bed.fake.settle();
    let stream = bed.connect().unwrap();
    let old = [9, 0, 0, 0, 117, 5, 0, 1, 2, 0xff, 0xff, 101, 21, 0, 0, 0];
    bed.proxy.borrow_mut().leave_in_ring(&old);
    let transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
    let options = MountOptions::new().timeout(Duration::from_secs(20));
    let fs = Fs::mount(transport, &options).unwrap();
    assert_eq!(fs.read_to_string("/hello").unwrap(), "from dom0");
}

/// libxenvchan as a client in dom0.
struct DomZero {
    lib: Lib,
    port: u32,
    fake: FakeXen,
    _page: MappedGrant,
}

impl Peer for DomZero {
    fn step(&mut self, _: &FakeXen) -> bool {
        let dom0 = self.fake.dom0();
        let mut busy = false;
        loop {
            let mut pending = dom0.take_pending(self.port);
            match self.lib.step(&mut pending) {
                Did::Sleeps => return busy,
                Did::Event => dom0.send(self.port),
                Did::Step => {}
            }
            busy = true;
        }
    }
}

#[test]
fn we_serve_libxenvchan() {
    const SERVER: DomId = DomId(2);
    let fake = FakeXen::new();
    let server = domain(&fake, SERVER);
    let tree = MemTree::new();
    let listener = Listener::new(&server, DOM0, "9p", orders(10, 11)).unwrap();
    let root = tree.root();
    let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
    let export = Export::new(listener, policy, Limits::default());
    let serving = Rc::new(RefCell::new(Serving {
        xen: server,
        export,
    }));
    fake.share_peer(serving.clone());
    fake.run_for(Duration::from_secs(2));
    let node = |name| {
        let path = format!("/local/domain/2/data/vchan/0/9p/{name}");
        fake.dom0().read_text(&path).unwrap().parse().unwrap()
    };
    let page = fake
        .dom0()
        .map_grant(SERVER, node("ring-ref"), true)
        .unwrap();
    let port = fake
        .dom0()
        .bind_interdomain(SERVER, node("event-channel"))
        .unwrap();
    // SAFETY: mapped as long as the peer lives, and accessed by this alone on this side.
    let shared = unsafe { SharedMemory::<'static>::new(page.as_ptr(), 4096) };
    let pages = Pages::new(shared, orders(10, 11), shared.subslice(0, 0));
    pages.init_client();
    fake.dom0().send(port);
    let mut version = [0; 64];
    let request = Request::Version {
        msize: 8192,
        version: b"9P2000.L",
    };
    let len = request
        .encode(Tag(0xffff), Dialect::Linux, &mut version)
        .unwrap();
    let lib = Lib::new(pages, Side::Client, &version[..len].repeat(100), 8192);
    let client = Rc::new(RefCell::new(DomZero {
        lib,
        port,
        fake: fake.clone(),
        _page: page,
    }));
    fake.share_peer(client.clone());
    fake.run_for(Duration::from_secs(2));
    // A hundred replies through a ring that holds fewer: as many as there were requests.
    let received = client.borrow().lib.received.clone();
    assert_eq!(received.len(), 100 * 21);
    assert!(
        received
            .chunks(21)
            .all(|reply| reply[4] == 101 && reply.ends_with(b"9P2000.L"))
    );
    assert!(serving.borrow().export.is_connected());
    client.borrow_mut().lib.at = At::Leave;
    fake.run_for(Duration::from_secs(3));
    assert!(!serving.borrow().export.is_connected());
}

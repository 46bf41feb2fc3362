//! A backend in a domain, one of whose frontends does anything: with its nodes, its rings, its event channel, and its messages.
//!
//! After each step the backend comes to rest, has mapped no more than it offers, and has written nothing but its own indices
//! and replies. In the end the frontend closes, nothing of it is left, another one is none the worse, and it may come again.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::p9::wire::*;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::xen9pfs::backend::{Backend, Request as Wanted, Rings};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::{EventChannel, Events};
use xen9p::xen::grant::SharedPages;
use xen9p::xen::shared::SharedMemory;
use xen9p::xen::xenbus::XenbusState;
use xen9p_testing::backend::RingView;
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer};

use super::input::Input;

const BACKEND: DomId = DomId(2);
const FRONTEND: DomId = DomId(5);
const OTHER: DomId = DomId(6);

/// The most operations of one run.
const MOST_OPERATIONS: usize = 60;

/// The most simulated time until the backend has done what there is to do.
const REST_TIMEOUT: Duration = Duration::from_millis(300);

const PAGE: usize = 4096;

/// What is offered.
const MOST_RINGS: u32 = 2;
const MOST_ORDER: u32 = 2;

const INDICES: [usize; 4] = [
    RingView::IN_CONS,
    RingView::OUT_PROD,
    RingView::IN_PROD,
    RingView::OUT_CONS,
];

/// The nodes of the frontend that the backend reads.
const NODES: [&str; 5] = [
    "version",
    "num-rings",
    "ring-ref0",
    "event-channel-0",
    "state",
];

type Drivers = Xen<FakePlatform>;

/// The program in the backend's domain.
struct Serving {
    xen: Drivers,
    backend: Backend<FakePlatform>,
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

fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    let home = format!("/local/domain/{id}");
    fake.dom0().write(&format!("{home}/domid"), id.to_string());
    Xen::new(Events::new(platform)).expect("xenstored is honest")
}

/// Makes a device as the toolstack does; returns the frontend's directory.
fn plug(fake: &FakeXen, frontend: DomId) -> String {
    let spec = DeviceSpec {
        kind: "9pfs",
        backend_kind: "9pfs",
        frontend,
        id: 0,
    };
    let nodes = [("path", "/srv"), ("security_model", "none")];
    let backend = fake.domain(BACKEND);
    let (front, _) = backend.add_device(&spec, &[("tag", "share")], &nodes);
    front
}

fn mount(xen: &Drivers) -> Fs {
    let mut config = Config::default();
    (config.rings, config.order) = (Some(1), Some(2));
    let device = xen9pfs::device(xen, None).expect("it has a device");
    let transport = xen9pfs::connect(xen, device, &config).expect("it is served");
    Fs::mount(transport, &MountOptions::new()).expect("it has a tree")
}

/// The frontend that does anything.
struct Liar {
    fake: FakeXen,
    front: String,
    order: u32,
    interface: SharedPages<FakePlatform>,
    data: SharedPages<FakePlatform>,
    channel: Option<EventChannel<FakePlatform>>,
}

impl Liar {
    fn page(&self) -> SharedMemory<'_> {
        self.interface.memory()
    }

    fn get(&self, at: usize) -> u32 {
        self.page().word::<u32>(at).load(Ordering::Acquire)
    }

    fn set(&self, at: usize, value: u32) {
        self.page().word(at).store(value, Ordering::Release);
    }

    fn size(&self) -> usize {
        PAGE << self.order >> 1
    }

    fn write(&self, node: &str, value: impl AsRef<[u8]>) {
        self.fake
            .dom0()
            .write(&format!("{}/{node}", self.front), value);
    }

    fn go(&self, state: u32) {
        self.write("state", state.to_string());
    }

    /// Tells of its ring as it is.
    fn offer(&self) {
        self.set(RingView::RING_ORDER, self.order);
        for (index, reference) in self.data.refs().iter().enumerate() {
            self.set(RingView::REF + 4 * index, reference.0);
        }
        let port = self.channel.as_ref().map_or(0, |channel| channel.port().0);
        let values = [1, 1, self.interface.refs()[0].0, port];
        for (node, value) in NODES.iter().zip(values) {
            self.write(node, value.to_string());
        }
        self.go(XenbusState::Initialised as u32);
    }

    fn tell(&self) {
        if let Some(channel) = &self.channel {
            channel.notify().expect("the own end is open");
        }
    }

    /// Puts bytes behind `out_prod`, whether there is room or not, and tells of them.
    fn send(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.size())];
        let begin = self.get(RingView::OUT_PROD);
        let requests = self.data.memory().subslice(self.size(), self.size());
        requests.copy_in_around(begin as usize & (self.size() - 1), bytes);
        let end = begin.wrapping_add(bytes.len() as u32);
        self.set(RingView::OUT_PROD, end);
        self.tell();
    }

    /// Takes all that has come; those are whole messages if neither side lies.
    fn take(&self, honest: bool) {
        let (begin, end) = (self.get(RingView::IN_CONS), self.get(RingView::IN_PROD));
        let count = end.wrapping_sub(begin) as usize;
        if honest {
            let mut bytes = vec![0; count];
            let replies = self.data.memory().subslice(0, self.size());
            replies.copy_out_around(begin as usize & (self.size() - 1), &mut bytes);
            let mut rest = &bytes[..];
            while let Some(header) = rest.first_chunk() {
                let header = parse_header(header);
                let size = header.size as usize;
                assert!(size >= HEADER_LEN && header.kind % 2 == 1, "{header:?}");
                (_, rest) = rest.split_at(size);
            }
            assert!(rest.is_empty());
        }
        self.set(RingView::IN_CONS, end);
        self.tell();
    }

    /// What the backend may not change: all but its indices, and the room for replies.
    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; PAGE + self.size()];
        let (page, requests) = image.split_at_mut(PAGE);
        self.page().copy_out(0, page);
        self.data.memory().copy_out(self.size(), requests);
        for index in [RingView::IN_PROD, RingView::OUT_CONS] {
            page[index..index + 4].fill(0);
        }
        image
    }
}

/// A request that is well formed.
fn request(input: &mut Input<'_>) -> Vec<u8> {
    let (fid, newfid) = (
        Fid(u32::from(input.byte() % 4)),
        Fid(u32::from(input.byte() % 4)),
    );
    let names: [&[&[u8]]; 4] = [&[], &[b"file"], &[b"dir"], &[b"..", b"dir", b"none"]];
    let names = Names::from_slice(names[usize::from(input.byte() % 4)]).expect("few");
    let (offset, count) = (u64::from(input.byte()), input.number());
    let data = vec![7; count as usize % 2000];
    let request = match input.byte() % 14 {
        0 => Request::Version {
            msize: count,
            version: Dialect::ALL[usize::from(input.byte() % 3)]
                .version()
                .as_bytes(),
        },
        1 | 2 => Request::Attach {
            fid,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        },
        3 | 4 => Request::Walk { fid, newfid, names },
        5 => Request::Lopen {
            fid,
            flags: OpenFlags::from_bits_retain(offset as u32 % 3),
        },
        6 => Request::Lcreate {
            fid,
            name: b"new",
            flags: OpenFlags::from_bits_retain(2),
            mode: 0o644,
            gid: 0,
        },
        7 => Request::Read { fid, offset, count },
        8 => Request::Write {
            fid,
            offset,
            data: Payload::from(&data[..]),
        },
        9 => Request::Readdir { fid, offset, count },
        10 => Request::Flush {
            oldtag: Tag(input.byte().into()),
        },
        11 => Request::Clunk { fid },
        12 => Request::Remove { fid },
        _ => Request::Getattr {
            fid,
            mask: AttrMask::from_bits_retain(count.into()),
        },
    };
    let tag = match request {
        Request::Version { .. } => Tag(u16::MAX),
        _ => Tag(u16::from(input.byte() % 8)),
    };
    let mut bytes = vec![0; 2100];
    let len = request.encode(tag, Dialect::Linux, &mut bytes);
    bytes.truncate(len.expect("it fits"));
    bytes
}

/// Input: the ring's order, where its indices start, and whether it is connected at first; then what the frontend does, each
/// with its numbers.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (shape, begin) = (input.byte(), input.byte());
    let fake = FakeXen::new();
    let xen = domain(&fake, BACKEND);
    let trees = [MemTree::new(), MemTree::new()];
    for path in ["/file", "/dir/name"] {
        for tree in &trees {
            tree.put(path, "content").expect("there is memory");
        }
    }
    let roots = trees.map(|tree| tree.root());
    let policy = move |wanted: &Wanted| {
        let root = &roots[usize::from(wanted.domain == FRONTEND)];
        Ok(Exports::new(root.clone(), Rights::ReadWrite))
    };
    let mut limits = Limits::default();
    limits.msize = 4096;
    let rings = Rings::new(MOST_RINGS, MOST_ORDER).expect("rings that there are");
    let backend = Backend::new(&xen, rings, limits, policy, None).expect("its own directory");
    let serving = Rc::new(RefCell::new(Serving { xen, backend }));
    fake.share_peer(serving.clone());
    fake.settle();

    let other = domain(&fake, OTHER);
    plug(&fake, OTHER);
    let beside = mount(&other);

    let xen = domain(&fake, FRONTEND);
    let before = (fake.usage(BACKEND).ports, mapped(&serving));
    let order = 1 + u32::from(shape >> 1) % MOST_ORDER;
    let share = |pages| {
        let pages = NonZeroUsize::new(pages).expect("some");
        xen.grants.share(pages, BACKEND).expect("there is memory")
    };
    let mut liar = Liar {
        front: plug(&fake, FRONTEND),
        order,
        interface: share(1),
        data: share(1 << order),
        channel: xen.events.alloc_unbound(BACKEND).ok(),
        fake: fake.clone(),
    };
    let start = 0u32.wrapping_sub(u32::from(begin) * 16);
    for index in INDICES {
        liar.set(index, start);
    }
    fake.settle();
    if shape & 1 != 0 {
        liar.offer();
        fake.settle();
        liar.go(XenbusState::Connected as u32);
        assert_eq!(serving.borrow().backend.connections(), 2);
    }
    // Whether its indices and messages are what they should be, and whether its pages are.
    let (mut honest, mut clean) = (true, true);
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.operation() else {
            break;
        };
        match operation % 15 {
            0 => {
                let node = NODES[usize::from(input.byte()) % NODES.len()];
                liar.write(node, input.some());
                (honest, clean) = (false, false);
            }
            1 => liar.go(input.byte().into()),
            2 => liar.offer(),
            3 => liar.send(&input.some()),
            4..7 => liar.send(&request(&mut input)),
            7 => {
                let mut bytes = (input.number() << (input.byte() % 17))
                    .to_le_bytes()
                    .to_vec();
                bytes.extend(input.some());
                liar.send(&bytes);
            }
            8 | 9 => {
                let at = INDICES[usize::from(input.byte() % 4)];
                let by = match input.byte() {
                    small @ 0..128 => small.into(),
                    _ => input.word(),
                };
                liar.set(at, liar.get(at).wrapping_add(by));
                liar.tell();
                honest = false;
            }
            10 => {
                let words = [
                    RingView::RING_ORDER,
                    RingView::REF,
                    RingView::REF + 4,
                    0,
                    64,
                ];
                let at = words[usize::from(input.byte()) % words.len()];
                liar.set(at, input.number());
                (honest, clean) = (false, false);
            }
            11 => {
                let at = 4 * (input.number() as usize % (2 * liar.size() / 4));
                let word = liar.data.memory().word(at);
                word.store(input.word(), Ordering::Release);
                honest = false;
            }
            12 => liar.take(honest),
            13 => fake.run_for(Duration::from_millis((input.number() % 3000).into())),
            _ => match input.byte() {
                0..128 => liar.tell(),
                _ => liar.channel = None,
            },
        }
        let image = liar.image();
        let begun = fake.now();
        fake.settle();
        let took = fake.now() - begun;
        assert!(took < REST_TIMEOUT, "it takes {took:?} to come to rest");
        assert!(
            !clean || liar.image() == image,
            "it writes what is not its own"
        );
        let most = (MOST_RINGS * (1 + (1 << MOST_ORDER))) as usize;
        let now = mapped(&serving) - before.1;
        assert!(now <= most, "{now} pages are mapped");
        let connections = serving.borrow().backend.connections();
        assert_eq!(now > 0, connections > 1, "what is mapped is served");
        if honest && connections > 1 {
            let untaken = liar
                .get(RingView::IN_PROD)
                .wrapping_sub(liar.get(RingView::IN_CONS));
            assert!(
                untaken as usize <= liar.size(),
                "{untaken} bytes in the ring"
            );
        }
    }
    liar.go(XenbusState::Closing as u32);
    fake.settle();
    liar.go(XenbusState::Closed as u32);
    drop(liar);
    fake.run_for(Duration::from_secs(3));
    xen.grants.drain();
    let counters = xen.grants.counters();
    assert_eq!((counters.quarantined_pages, counters.shared_pages), (0, 0));
    assert_eq!((fake.usage(BACKEND).ports, mapped(&serving)), before);
    let content = beside.read_to_string("/file");
    assert_eq!(content.expect("it is served"), "content");
    let again = mount(&xen);
    again.metadata("/").expect("it is served");
    drop((again, beside));
    fake.remove_peers();
}

/// The pages of others that the backend has mapped.
fn mapped(serving: &RefCell<Serving>) -> usize {
    serving.borrow().xen.grants.counters().mapped_pages
}

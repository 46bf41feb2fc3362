//! A frontend that lies loses its connection, is told why where that can be read, and harms no other; and it may come again.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use xen9p::server::Limits;
use xen9p::sys::xen_9pfs_data_intf as Interface;
use xen9p::transport::xen9pfs::backend::Rings;
use xen9p::xen::event::EventChannel;
use xen9p::xen::grant::SharedPages;
use xen9p::xen::shared::SharedMemory;
use xen9p::xen::xenbus::XenbusState::{self, *};
use xen9p_testing::fake::FakePlatform;
use xen9p_testing::random::Random;

use crate::common::{BACKEND, Bed, Device, Drivers, FRONTEND, OTHER, config, domain, mount};

const PAGE: usize = 4096;

/// A frontend of the test's own, with a ring.
struct Liar {
    bed: Bed,
    xen: Drivers,
    device: Device,
    order: u32,
    interface: SharedPages<FakePlatform>,
    data: SharedPages<FakePlatform>,
    channel: EventChannel<FakePlatform>,
}

impl Liar {
    fn new() -> Liar {
        Liar::with_order(2)
    }

    /// Its ring is ready, and nothing of it is told yet.
    fn with_order(order: u32) -> Liar {
        let mut limits = Limits::default();
        limits.msize = 4096;
        let bed = Bed::offering(Rings::new(2, 6).unwrap(), limits);
        let xen = domain(&bed.fake, FRONTEND);
        let device = bed.plug(FRONTEND, 0, "/srv");
        bed.reaches(&device.back, InitWait);
        let share = |pages| {
            let pages = NonZeroUsize::new(pages).unwrap();
            xen.grants.share(pages, BACKEND).unwrap()
        };
        let (interface, data) = (share(1), share(1 << order));
        let channel = xen.events.alloc_unbound(BACKEND).unwrap();
        let liar = Liar {
            bed,
            device,
            order,
            interface,
            data,
            channel,
            xen,
        };
        liar.set(std::mem::offset_of!(Interface, ring_order), order);
        for (index, reference) in liar.data.refs().iter().enumerate() {
            liar.set_reference(index, reference.0);
        }
        liar
    }

    fn page(&self) -> SharedMemory<'_> {
        self.interface.memory()
    }

    fn set(&self, offset: usize, value: u32) {
        self.page()
            .word::<u32>(offset)
            .store(value, Ordering::Release);
    }

    fn get(&self, offset: usize) -> u32 {
        self.page().word::<u32>(offset).load(Ordering::Acquire)
    }

    fn set_reference(&self, index: usize, value: u32) {
        self.set(std::mem::offset_of!(Interface, ref_) + 4 * index, value);
    }

    fn write(&self, node: &str, value: &str) {
        let path = format!("{}/{node}", self.device.front);
        self.xen.store.write(&path, value.as_bytes()).unwrap();
    }

    fn go(&self, state: XenbusState) {
        self.write("state", &(state as u32).to_string());
    }

    /// Tells of the ring, as it should be.
    fn offer(&self) {
        self.write("version", "1");
        self.write("num-rings", "1");
        self.write("ring-ref0", &self.interface.refs()[0].to_string());
        self.write("event-channel-0", &self.channel.port().to_string());
        self.go(Initialised);
    }

    fn connected(self) -> Liar {
        self.offer();
        self.bed.reaches(&self.device.back, Connected);
        self.go(Connected);
        self.bed.fake.settle();
        assert_eq!(self.bed.mapped(), 1 + (1 << self.order));
        self
    }

    fn size(&self) -> usize {
        PAGE << (self.order - 1)
    }

    /// Puts bytes behind `out_prod`, and tells of them.
    fn send(&self, bytes: &[u8]) {
        let at = std::mem::offset_of!(Interface, out_prod);
        let begin = self.get(at);
        let requests = self.data.memory().subslice(self.size(), self.size());
        requests.copy_in_around(begin as usize & (self.size() - 1), bytes);
        self.set(at, begin.wrapping_add(bytes.len() as u32));
        self.channel.notify().unwrap();
    }

    /// The replies that have come, which are taken.
    fn take(&self) -> Vec<u8> {
        self.bed.fake.settle();
        let cons = std::mem::offset_of!(Interface, in_cons);
        let begin = self.get(cons);
        let end = self.get(std::mem::offset_of!(Interface, in_prod));
        let mut bytes = vec![0; end.wrapping_sub(begin) as usize];
        let replies = self.data.memory().subslice(0, self.size());
        replies.copy_out_around(begin as usize & (self.size() - 1), &mut bytes);
        self.set(cons, end);
        self.channel.notify().unwrap();
        bytes
    }

    /// The connection ends, for a reason with these words, and nothing of it is left; another frontend is none the worse, and
    /// this one may come again.
    fn ends_refused(self, words: &str) {
        let Liar {
            bed, device, xen, ..
        } = &self;
        let why = format!("/local/domain/{BACKEND}/error/backend/9pfs/{FRONTEND}/0/error");
        for _ in 0..300 {
            if bed.fake.dom0().read(&why).is_some() {
                break;
            }
            bed.fake.run_for(std::time::Duration::from_millis(10));
        }
        let why = bed.fake.dom0().read_text(&why).unwrap_or_default();
        assert!(why.contains(words), "{why}");
        bed.reaches(&device.back, Closed);
        bed.is_at_rest(1);
        let other = domain(&bed.fake, OTHER);
        bed.plug(OTHER, 0, "/srv");
        let fs = mount(&other, &config(2, 4));
        fs.write("/file", "text").unwrap();
        let again = mount(xen, &config(2, 4));
        assert_eq!(again.read_to_string("/file").unwrap(), "text");
        again.unmount().unwrap();
        fs.unmount().unwrap();
        bed.is_at_rest(2);
    }
}

#[test]
fn nodes_that_make_no_sense() {
    for (node, value, words) in [
        ("version", "2", "version"),
        ("version", "", "version"),
        ("num-rings", "0", "rings"),
        ("num-rings", "3", "rings"),
        ("num-rings", "4294967297", "rings"),
        ("num-rings", "2", "ring 1 lacks"),
        ("ring-ref0", "0", "lacks"),
        ("ring-ref0", "-1", "lacks"),
        ("ring-ref0", "4000000000", "cannot map its index page"),
        ("event-channel-0", "0", "lacks"),
        ("event-channel-0", "4000000", "cannot bind"),
        ("event-channel-0", "1", "cannot bind"),
    ] {
        let liar = Liar::new();
        liar.offer();
        liar.write(node, value);
        liar.ends_refused(words);
    }
}

#[test]
fn index_pages_that_make_no_sense() {
    for order in [0, 7, 9, 10, 31, 32, u32::MAX] {
        let liar = Liar::new();
        liar.set(std::mem::offset_of!(Interface, ring_order), order);
        liar.offer();
        liar.ends_refused("2^");
    }
    for reference in [0, 511, 4_000_000_000] {
        let liar = Liar::new();
        liar.set_reference(3, reference);
        liar.offer();
        liar.ends_refused("cannot map its pages of data");
    }
}

/// What is told after the rings were mapped is not looked at any more.
#[test]
fn what_changes_behind_the_connection_has_no_effect() {
    let liar = Liar::new().connected();
    liar.set(std::mem::offset_of!(Interface, ring_order), 9);
    (0..4).for_each(|index| liar.set_reference(index, 0));
    liar.set(std::mem::offset_of!(Interface, out_cons), 77);
    liar.set(std::mem::offset_of!(Interface, in_prod), 77);
    let version = b"\x15\0\0\0\x64\xff\xff\0\x10\0\0\x08\09P2000.L";
    liar.send(version);
    liar.bed.fake.settle();
    // Its own indices are what they were, and this many bytes further.
    assert_eq!(liar.get(std::mem::offset_of!(Interface, out_cons)), 21);
    assert_eq!(liar.get(std::mem::offset_of!(Interface, in_prod)), 21);
    assert_eq!(liar.take()[4], 101);
    assert_eq!(liar.bed.state(&liar.device.back), Connected);
}

#[test]
fn a_page_that_is_offered_twice_harms_only_who_offers_it() {
    let liar = Liar::new();
    let first = liar.data.refs()[0].0;
    (0..4).for_each(|index| liar.set_reference(index, first));
    let liar = liar.connected();
    liar.send(&[0; 100]);
    liar.ends_refused("0 bytes");
}

#[test]
fn indices_that_make_no_sense() {
    let (out_prod, in_cons) = (
        std::mem::offset_of!(Interface, out_prod),
        std::mem::offset_of!(Interface, in_cons),
    );
    for (index, value, words) in [
        (out_prod, 8193, "8193 bytes are in the ring"),
        (out_prod, u32::MAX, "4294967295 bytes are in the ring"),
        (in_cons, 1, "moved in_cons"),
        (in_cons, 1 << 31, "moved in_cons"),
    ] {
        let liar = Liar::new().connected();
        liar.set(index, value);
        liar.channel.notify().unwrap();
        liar.ends_refused(words);
    }
}

#[test]
fn sizes_that_make_no_sense() {
    for (size, words) in [
        (0, "0 bytes"),
        (6, "6 bytes"),
        (4097, "larger than agreed"),
        (8193, "8193 bytes"),
        (u32::MAX, "4294967295 bytes"),
    ] {
        let liar = Liar::new().connected();
        let mut bytes = vec![0; 4200];
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        liar.send(&bytes);
        liar.ends_refused(words);
    }
}

/// A header whose body never comes is waited for without any work.
#[test]
fn a_request_that_is_never_complete_costs_nothing() {
    let liar = Liar::new().connected();
    liar.send(b"\x15\0\0\0\x64\xff\xff");
    liar.bed.fake.run_for(std::time::Duration::from_secs(60));
    assert_eq!(liar.take(), []);
    assert_eq!(liar.bed.state(&liar.device.back), Connected);
    liar.send(b"\0\x10\0\0\x08\09P2000.L");
    assert_eq!(liar.take()[4], 101);
}

/// A frontend that takes no replies is served no more than fit into the ring, and then goes on.
#[test]
fn replies_that_are_not_taken_stop_the_ring_and_no_other() {
    let liar = Liar::new().connected();
    let version = b"\x15\0\0\0\x64\xff\xff\0\x10\0\0\x08\09P2000.L";
    let rounds = 3 * liar.size() / version.len();
    let mut sent = 0;
    for _ in 0..rounds {
        let out_cons = std::mem::offset_of!(Interface, out_cons);
        let unread = sent - liar.get(out_cons) as usize;
        if unread + version.len() <= liar.size() {
            liar.send(version);
            sent += version.len();
        }
        liar.bed.fake.settle();
    }
    let in_prod = liar.get(std::mem::offset_of!(Interface, in_prod)) as usize;
    assert!(
        in_prod > liar.size() - 600 && in_prod <= liar.size(),
        "{in_prod}"
    );
    let mut got = 0;
    while got < sent {
        let replies = liar.take();
        assert!(!replies.is_empty(), "{got} of {sent}");
        got += replies.len();
    }
    assert_eq!(got, sent);
}

/// Whatever bytes come, in whatever pieces: it is an error, or an answer, and the backend has nothing left afterwards.
#[test]
fn noise_is_survived() {
    let mut random = Random::new(7);
    for round in 0..60 {
        let liar = Liar::new().connected();
        liar.send(b"\x15\0\0\0\x64\xff\xff\0\x10\0\0\x08\09P2000.L");
        liar.take();
        for _ in 0..20 {
            let size = 7 + random.below(60);
            let mut bytes: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
            if round % 3 > 0 {
                bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
                bytes[4] = 6 + 2 * random.below(62) as u8;
            }
            liar.send(&bytes);
            liar.take();
            if liar.bed.state(&liar.device.back) != Connected {
                break;
            }
        }
        liar.go(Closing);
        liar.bed.fake.settle();
        liar.go(Closed);
        liar.bed.reaches(&liar.device.back, Closed);
        liar.bed.is_at_rest(1);
    }
}

/// A state that flaps makes no connection without a turn, and ends as any other.
#[test]
fn states_that_flap() {
    let liar = Liar::new();
    let mut random = Random::new(3);
    for _ in 0..300 {
        liar.go(XenbusState::from_number(random.below(9) as u32));
        if random.below(3) == 0 {
            liar.bed.fake.settle();
        }
    }
    liar.go(Closed);
    liar.bed.reaches(&liar.device.back, Closed);
    liar.bed.is_at_rest(1);
    liar.go(Initialising);
    liar.bed.reaches(&liar.device.back, InitWait);
    liar.connected();
}

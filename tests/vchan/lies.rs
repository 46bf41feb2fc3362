//! A peer that lies, or has left lies behind, is one typed error, in bounded time, and harms no other connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use xen9p::fs::Error;
use xen9p::hypercall::{DomId, XenError};
use xen9p::ns::MemTree;
use xen9p::p9::wire::{Dialect, Fid, Names, OpenFlags, Request, Tag};
use xen9p::server::{Exports, Limits, Rights};
use xen9p::sys;
use xen9p::transport::stream::ByteStream;
use xen9p::transport::vchan::{self, Export, Listener, Orders, VchanError};
use xen9p::transport::{Transport, TransportError};
use xen9p::tree::trees::Synthetic;
use xen9p::xen::grant::{Grants, MapError};
use xen9p::xen::shared::SharedMemory;
use xen9p_testing::fake::{FakePlatform, FakeXen};

use crate::common::{Bed, CLIENT, Drivers, SERVER, TIMEOUT, domain, orders};
use crate::interop::{Proxy, memory, publish};

const DOM0: DomId = DomId(0);

/// A page that dom0 publishes as the server's, and what it does with it.
struct Liar {
    fake: FakeXen,
    client: Drivers,
    page: xen9p::xen::grant::SharedPages<FakePlatform>,
    port: u32,
}

impl Liar {
    fn new() -> Liar {
        let fake = FakeXen::new();
        let client = domain(&fake, CLIENT);
        let grants = Grants::new(fake.platform(DOM0)).unwrap();
        let page = grants.share(std::num::NonZeroUsize::MIN, CLIENT).unwrap();
        let port = fake.dom0().alloc_unbound(CLIENT).unwrap();
        let liar = Liar {
            fake,
            client,
            page,
            port,
        };
        liar.publish();
        let shared = liar.memory();
        for (at, value) in [(16, 10_u16), (18, 11)] {
            shared.word(at).store(value, Ordering::SeqCst);
        }
        for (at, value) in [(20, 2_u8), (21, 1), (22, 1)] {
            shared.word(at).store(value, Ordering::SeqCst);
        }
        liar
    }

    fn publish(&self) {
        let page = self.page.refs()[0].0;
        publish(
            &self.fake,
            &[("ring-ref", page), ("event-channel", self.port)],
        );
    }

    fn memory(&self) -> SharedMemory<'static> {
        memory(&self.page)
    }

    fn connect(&self) -> Result<vchan::Stream<FakePlatform>, VchanError> {
        let begun = self.fake.now();
        let connected = vchan::connect(&self.client, DOM0, "9p", TIMEOUT);
        let took = self.fake.now() - begun;
        assert!(took < TIMEOUT + Duration::from_secs(2), "it took {took:?}");
        let mapped = self.client.grants.counters().mapped_pages;
        assert_eq!(mapped == 0, connected.is_err(), "{mapped} pages are mapped");
        connected
    }

    fn refusal(&self) -> VchanError {
        let before = self.fake.usage(CLIENT).ports;
        let refusal = self.connect().map(drop).unwrap_err();
        assert_eq!(self.fake.usage(CLIENT).ports, before);
        refusal
    }
}

#[test]
fn the_liar_tells_the_truth_if_it_is_let() {
    Liar::new().connect().unwrap();
}

#[test]
fn orders_that_are_no_legal_pair_are_refused() {
    for (left, right) in [
        (0, 0),
        (10, 10),
        (11, 11),
        (10, 20),
        (20, 10),
        (9, 12),
        (12, 21),
        (266, 267),
    ] {
        let liar = Liar::new();
        liar.memory().word(16).store(left, Ordering::SeqCst);
        liar.memory().word(18).store(right, Ordering::SeqCst);
        assert_eq!(liar.refusal(), VchanError::Orders(left, right));
    }
}

#[test]
fn nodes_that_make_no_sense_are_refused() {
    for value in ["0", "", "x", "-1", "99999999999", "8 "] {
        for (node, other) in [("ring-ref", "event-channel"), ("event-channel", "ring-ref")] {
            let liar = Liar::new();
            let path = format!("/local/domain/0/data/vchan/1/9p/{node}");
            liar.fake.dom0().write(&path, value);
            assert_eq!(
                liar.refusal(),
                VchanError::BadNode(node),
                "{value:?}, {other}"
            );
        }
    }
}

#[test]
fn stale_nodes_do_no_harm() {
    // A server that died by a signal leaves its nodes; the numbers in them belong to something else, or to nothing.
    let gone = Liar::new();
    gone.memory().word(21).store(0_u8, Ordering::SeqCst);
    let untouched = || {
        let mut page = [0; 4096];
        gone.memory().copy_out(0, &mut page);
        page
    };
    let before = untouched();
    assert!(matches!(gone.refusal(), VchanError::BadPage(_)));
    assert!(
        before == untouched(),
        "something was written into a page that may be another's"
    );

    let liar = Liar::new();
    publish(&liar.fake, &[("ring-ref", 300)]);
    assert!(matches!(
        liar.refusal(),
        VchanError::Map(MapError::Refused(..))
    ));

    let liar = Liar::new();
    publish(&liar.fake, &[("event-channel", 77)]);
    assert_eq!(liar.refusal(), VchanError::Port(XenError::EINVAL));

    let liar = Liar::new();
    liar.fake.dom0().rm("/local/domain/0/data/vchan/1/9p");
    assert_eq!(liar.refusal(), VchanError::NotPublished(TIMEOUT));
}

#[test]
fn a_reference_of_0_or_one_that_is_none_is_refused() {
    for (reference, at) in [(0_u32, 24), (5000, 24), (0, 28), (5000, 28)] {
        let liar = Liar::new();
        let shared = liar.memory();
        shared.word(16).store(12_u16, Ordering::SeqCst);
        shared.word(18).store(12_u16, Ordering::SeqCst);
        for word in [24, 28] {
            shared
                .word(word)
                .store(liar.page.refs()[0].0, Ordering::SeqCst);
        }
        shared.word(at).store(reference, Ordering::SeqCst);
        match (reference, liar.refusal()) {
            (0, VchanError::BadPage(_)) | (5000, VchanError::Map(MapError::Refused(..))) => {}
            (_, other) => panic!("{reference} at {at}: {other:?}"),
        }
    }
}

#[test]
fn indices_that_make_no_sense_at_the_start_are_refused() {
    for (at, value) in [(0, 1_u32), (4, 1025), (8, 1), (12, 2049), (12, u32::MAX)] {
        let liar = Liar::new();
        liar.memory().word(at).store(value, Ordering::SeqCst);
        assert!(
            matches!(liar.refusal(), VchanError::BadPage(_)),
            "{value} at {at}"
        );
    }
    // What an earlier client sent, and the server does not take.
    let liar = Liar::new();
    liar.memory().word(4).store(100_u32, Ordering::SeqCst);
    assert_eq!(liar.refusal(), VchanError::Busy(TIMEOUT));
}

/// After the connect: an index difference of more than the ring, and an index that goes backward. Our own
/// indices, orders and references are private: what is written over them has no effect.
#[test]
fn an_index_that_lies_ends_the_connection() {
    for (at, value) in [(12, 2049_u32), (12, u32::MAX), (0, 1), (0, u32::MAX)] {
        let liar = Liar::new();
        let mut stream = liar.connect().unwrap();
        liar.memory().word(at).store(value, Ordering::SeqCst);
        let read = stream.read(&mut [0; 10]).map(drop);
        let written = stream.write(&[0; 2000]).map(drop);
        let violations = [read, written];
        let violated = violations
            .iter()
            .any(|r| matches!(r, Err(TransportError::Violation(_))));
        assert!(violated, "{value} at {at}: {violations:?}");
        // And it is over: nothing is mapped any more.
        assert!(stream.fault().is_some());
        assert_eq!(liar.client.grants.counters().mapped_pages, 0);
        assert!(stream.read(&mut [0; 10]).is_err() && stream.write(&[1]).is_err());
    }
    for (at, value) in [(4, 7_u32), (8, 1_000_000), (16, 0x14_0014), (24, 9)] {
        let liar = Liar::new();
        let mut stream = liar.connect().unwrap();
        assert_eq!(stream.write(b"before"), Ok(6));
        liar.memory().word(at).store(value, Ordering::SeqCst);
        assert_eq!(stream.write(b"after"), Ok(5));
        assert_eq!(liar.memory().word::<u32>(4).load(Ordering::SeqCst), 11);
        liar.memory().word(12).store(2_u32, Ordering::SeqCst);
        assert_eq!(stream.read(&mut [0; 10]), Ok(2));
        assert_eq!(liar.memory().word::<u32>(8).load(Ordering::SeqCst), 2);
    }
}

/// The bytes by which a peer says that it is there, and what it wants, may have any value at any moment.
#[test]
fn live_and_notify_bytes_that_flap_are_borne() {
    let liar = Liar::new();
    let mut stream = liar.connect().unwrap();
    for value in 0..=255_u8 {
        for at in [22, 23] {
            liar.memory().word(at).store(value, Ordering::SeqCst);
        }
        assert_eq!(stream.write(b"x"), Ok(1));
        stream.flush().unwrap();
        assert!(!stream.ask(false) || value == 0);
    }
    for value in 2..=255_u8 {
        liar.memory().word(21).store(value, Ordering::SeqCst);
        assert_eq!(stream.read(&mut [0; 10]), Ok(0));
    }
    liar.memory().word(21).store(0_u8, Ordering::SeqCst);
    assert!(matches!(
        stream.read(&mut [0; 10]),
        Err(TransportError::Lost(_))
    ));
    // What it says afterwards comes too late.
    liar.memory().word(21).store(1_u8, Ordering::SeqCst);
    assert!(stream.read(&mut [0; 10]).is_err());
}

/// An answer that never ends, at the level of 9P: a time limit is the cure.
#[test]
fn a_server_that_never_answers_costs_a_bounded_time() {
    let liar = Liar::new();
    let transport = vchan::framed(liar.connect().unwrap(), vchan::DEFAULT_MESSAGE);
    let options = xen9p::fs::MountOptions::new().timeout(Duration::from_secs(3));
    let mounted = xen9p::fs::Fs::mount(transport, &options).map(drop);
    assert!(
        matches!(mounted, Err(Error::TimedOut | Error::Transport(_))),
        "{mounted:?}"
    );
}

#[test]
fn names_and_domains_that_can_not_be_are_refused_at_once() {
    let bed = Bed::new(Orders::default(), [false; 2]);
    let begun = bed.fake.now();
    let long = "n".repeat(30);
    let connect = |domain, name| vchan::connect(&bed.client, domain, name, TIMEOUT).map(drop);
    assert_eq!(connect(CLIENT, "9p"), Err(VchanError::Own));
    assert!(matches!(connect(SERVER, ""), Err(VchanError::Address(_))));
    assert!(matches!(connect(SERVER, &long), Err(VchanError::LongPath(len)) if len > 49));
    let listen =
        |client, name| Listener::new(&bed.client, client, name, Orders::default()).map(drop);
    assert_eq!(listen(CLIENT, "9p"), Err(VchanError::Own));
    assert!(matches!(
        listen(SERVER, &long),
        Err(VchanError::LongPath(_))
    ));
    assert!(bed.fake.now() - begun < Duration::from_secs(1));
    // A domain that is not there publishes nothing.
    assert_eq!(
        connect(DomId(9), "9p"),
        Err(VchanError::NotPublished(TIMEOUT))
    );
    // A client that is not there yet is waited for.
    let mut early = Listener::new(&bed.client, DomId(9), "9p", Orders::default()).unwrap();
    assert!(matches!(early.accept(), Ok(None)));
}

/// Row 3.12: a policy that says no at xenstore, at the port or at the grant is one error each.
#[test]
fn a_refusal_by_policy_is_an_error_of_its_own() {
    let bed = Bed::new(Orders::default(), [false; 2]);
    bed.fake.run_for(Duration::from_secs(2));
    let dom0 = bed.fake.dom0();
    let node = "/local/domain/2/data/vchan/1/9p/ring-ref";
    let value = dom0.read(node).unwrap();
    dom0.set_permissions(
        node,
        &[xen9p::xen::store::Permission {
            domain: SERVER,
            access: xen9p::xen::store::Access::None,
        }],
    );
    assert_eq!(
        bed.connect().map(drop),
        Err(VchanError::NotPublished(TIMEOUT))
    );

    let bed = Bed::new(Orders::default(), [false; 2]);
    bed.fake.run_for(Duration::from_secs(2));
    let (event, bind) = (
        sys::__HYPERVISOR_event_channel_op,
        sys::EVTCHNOP_bind_interdomain,
    );
    for _ in 0..200 {
        bed.fake.fail_hypercall(event, bind, 0, XenError::EPERM);
    }
    assert_eq!(
        bed.connect().map(drop),
        Err(VchanError::Port(XenError::EPERM))
    );

    let bed = Bed::new(Orders::default(), [false; 2]);
    bed.fake.run_for(Duration::from_secs(2));
    let (grant, map) = (
        sys::__HYPERVISOR_grant_table_op,
        sys::GNTTABOP_map_grant_ref,
    );
    bed.fake.fail_hypercall(grant, map, 0, XenError::EPERM);
    let refused = bed.connect().map(drop);
    assert_eq!(
        refused,
        Err(VchanError::Map(MapError::Xen(XenError::EPERM)))
    );
    drop(value);
}

/// A client that lies to our server ends its own connection; the next is served.
#[test]
fn a_lying_client_ends_its_own_connection() {
    for (at, value) in [(4, 70_000_u32), (4, u32::MAX), (4, 1)] {
        let bed = Bed::new(Orders::default(), [false; 2]);
        let fs = bed.mount();
        fs.write("/file", "text").unwrap();
        // The client's own page: it can write anything there.
        let (path, dom0) = (
            bed.serving.borrow().export.path().to_owned(),
            bed.fake.dom0(),
        );
        let page = dom0
            .read_text(&format!("{path}/ring-ref"))
            .unwrap()
            .parse()
            .unwrap();
        let page = bed
            .fake
            .domain(CLIENT)
            .map_grant(SERVER, page, true)
            .unwrap();
        page.store(at, value);
        bed.fake.run_for(Duration::from_secs(2));
        let lost = fs.read("/file").unwrap_err();
        assert!(
            matches!(lost, Error::Transport(_) | Error::TimedOut),
            "{lost}"
        );
        drop((page, fs));
        let again = bed.mount();
        assert_eq!(again.read_to_string("/file").unwrap(), "text");
    }
}

/// Bytes that are no 9P, from a client and from a server.
#[test]
fn bytes_that_are_no_9p_end_the_connection() {
    let bed = Bed::new(Orders::default(), [false; 2]);
    let mut stream = bed.connect().unwrap();
    assert_eq!(stream.write(&[0xff; 100]), Ok(100));
    stream.flush().unwrap();
    bed.fake.run_for(Duration::from_secs(1));
    assert!(matches!(
        stream.read(&mut [0; 10]),
        Err(TransportError::Lost(_))
    ));
    drop(stream);
    bed.mount().write("/file", "text").unwrap();

    let fake = FakeXen::new();
    let client = domain(&fake, CLIENT);
    let proxy = Proxy::new(&fake, orders(10, 11), &MemTree::new());
    let stream = vchan::connect(&client, DOM0, "9p", TIMEOUT).unwrap();
    let mut transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
    proxy.borrow_mut().leave_in_ring(&[0xff; 100]);
    let violation = transport.peek(xen9p::transport::Lane(0)).unwrap_err();
    assert!(matches!(violation, TransportError::Violation(_)));
}

/// It asks again as soon as it is answered, and is never without a request on its way.
#[test]
fn a_client_that_never_stops_asking_does_not_hold_its_server() {
    let fake = FakeXen::new();
    let (client, server) = (domain(&fake, CLIENT), domain(&fake, SERVER));
    let encode = |request: Request<'_>| {
        let mut message = [0; 64];
        let len = request.encode(Tag(1), Dialect::Linux, &mut message);
        message[..len.unwrap()].to_vec()
    };
    let (fid, file, afid) = (Fid(0), Fid(1), Fid::NONE);
    let read = encode(Request::Read {
        fid: file,
        offset: 0,
        count: 1,
    });
    let asking: Rc<RefCell<Option<vchan::Stream<FakePlatform>>>> = Rc::default();
    let answered = Rc::new(Cell::new(0));
    let (asks, counts, again) = (Rc::clone(&asking), Rc::clone(&answered), read.clone());
    let tree = MemTree::new();
    let file = Synthetic::new().stream(move |into| {
        counts.set(counts.get() + 1);
        let mut stream = asks.borrow_mut();
        let stream = stream.as_mut().expect("the client is there");
        assert_eq!(stream.write(&again), Ok(again.len()));
        into[..1].copy_from_slice(b"x");
        Ok(1)
    });
    tree.put_synthetic("/endless", file).unwrap();

    let listener = Listener::new(&server, CLIENT, "9p", Orders::default()).unwrap();
    let policy = move || Exports::new(tree.root(), Rights::ReadOnly);
    let mut export = Export::new(listener, policy, Limits::default());
    export.poll();
    let mut stream = vchan::connect(&client, SERVER, "9p", TIMEOUT).unwrap();
    let start = [
        encode(Request::Version {
            msize: 8192,
            version: b"9P2000.L",
        }),
        encode(Request::Attach {
            fid,
            afid,
            uname: b"",
            aname: b"",
            n_uname: 0,
        }),
        encode(Request::Walk {
            fid,
            newfid: Fid(1),
            names: Names::from_slice(&[b"endless"]).unwrap(),
        }),
        encode(Request::Lopen {
            fid: Fid(1),
            flags: OpenFlags::empty(),
        }),
        read,
    ];
    for message in &start {
        assert_eq!(stream.write(message), Ok(message.len()));
    }
    *asking.borrow_mut() = Some(stream);
    for round in 1..4 {
        let before = answered.get();
        export.poll();
        let answers = answered.get() - before;
        assert!((10..100).contains(&answers), "{round}: {answers}");
        // There is more, which is said.
        assert!(export.next_check() <= fake.now());
    }
    *asking.borrow_mut() = None;
}

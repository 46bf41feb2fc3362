//! Whatever is in a ring is one typed error, in bounded time, and harms no later connection.

use xen9p::hypercall::DomId;
use xen9p::transport::TransportError;
use xen9p::transport::argo::{self, DialError, Listener, Stream};
use xen9p::transport::export::Listen;
use xen9p::transport::stream::ByteStream;
use xen9p::xen::argo::{Address, Argo};
use xen9p_testing::fake::{FakePlatform, FakeXen};

use crate::common::{Bed, CLIENT, PORT, SERVER, TIMEOUT, domain, machine};

const DATA: usize = 64;

/// A client that is connected, and its port.
fn client(fake: &FakeXen) -> (Argo<FakePlatform>, Stream<FakePlatform>, u32) {
    let own = Argo::new(&domain(fake, CLIENT)).unwrap();
    let other = Argo::new(&domain(fake, SERVER)).unwrap();
    let ring = other.register(PORT, CLIENT, 8192).unwrap();
    let stream = argo::connect(&own, SERVER, PORT, 4096, TIMEOUT).unwrap();
    std::mem::forget(ring);
    let port = fake.argo_rings(CLIENT)[0];
    (other, stream, port)
}

fn header(len: u32, source: (u32, u16), kind: &[u8; 4]) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend(source.0.to_le_bytes());
    bytes.extend(source.1.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(u32::from_be_bytes(*kind).to_le_bytes());
    bytes
}

#[test]
fn indices_and_headers_that_make_no_sense_end_the_connection() {
    let from = (PORT, SERVER.0);
    let good = header(16 + 7, from, b"9P2k");
    let with = |len| header(len, from, b"9P2k");
    for (tx, head, what) in [
        (8, good.clone(), "tx_ptr between slots"),
        (1 << 20, good.clone(), "tx_ptr past the end"),
        (u32::MAX, good.clone(), "tx_ptr far past the end"),
        (32, with(0), "a length of 0"),
        (32, with(15), "a length without its header"),
        (32, with(33), "more than there is"),
        (32, with(u32::MAX), "more than there can be"),
        (32, with(16), "a message without content"),
        (32, header(23, (9, SERVER.0), b"9P2k"), "another port"),
        (32, header(23, (PORT, 9), b"9P2k"), "another domain"),
        (32, header(23, from, b"mess"), "another kind"),
        (32, good.clone(), "a size that is not the message's"),
    ] {
        let fake = machine();
        let (_other, mut stream, port) = client(&fake);
        fake.poke_argo_ring(CLIENT, port, DATA, &head);
        fake.poke_argo_ring(CLIENT, port, 4, &u32::to_le_bytes(tx));
        let mut into = [0; 100];
        let error = stream.read(&mut into).unwrap_err();
        assert!(
            matches!(error, TransportError::Violation(_)),
            "{what}: {error}"
        );
        assert_eq!(stream.read(&mut into), Err(error), "{what}");
        assert_eq!(stream.write(&[7, 0, 0, 0, 100, 0, 0]), Err(error), "{what}");
        assert_eq!(stream.wait(false, xen9p::time::Instant::NEVER), Err(error));
        drop(stream);
        assert!(fake.argo_rings(CLIENT).is_empty(), "{what}");
    }
}

#[test]
fn a_client_that_does_not_speak_9p_is_told_the_end_and_the_next_is_served() {
    let bed = Bed::new(8192);
    bed.fake.settle();
    let ring = bed.client.register(77, SERVER, 8192).unwrap();
    let to = Address {
        domain: SERVER,
        port: PORT,
    };
    let message = u32::from_be_bytes(*b"9P2k");
    for (bytes, kind) in [
        (&b"x"[..], message),
        (&[0; 20], message),
        (&[255; 20], message),
        (&[7, 0, 0, 0, 0, 0, 0], message),
        (&b"anything"[..], 3),
        (&b"end"[..], u32::from_be_bytes(*b"9Pno")),
    ] {
        bed.client.send(77, to, &[bytes], kind).unwrap();
        bed.fake.settle();
    }
    assert!(!bed.serving.borrow().export.is_connected());
    drop(ring);
    let fs = bed.mount();
    fs.write("/file", "x").unwrap();
    assert_eq!(fs.read("/file").unwrap(), b"x");
}

#[test]
fn a_broken_ring_of_a_server_is_replaced() {
    let fake = machine();
    let own = Argo::new(&domain(&fake, CLIENT)).unwrap();
    let other = Argo::new(&domain(&fake, SERVER)).unwrap();
    let mut listener = Listener::new(&other, CLIENT, PORT, 4096).unwrap();
    assert!(listener.accept().unwrap().is_none());
    fake.poke_argo_ring(SERVER, PORT, 4, &[1, 0, 0, 0]);
    let error = listener.accept().unwrap_err();
    assert!(matches!(error, DialError::BadRing(_)), "{error}");
    fake.run_for(std::time::Duration::from_secs(2));
    assert!(listener.accept().unwrap().is_none());
    let mut stream = argo::connect(&own, SERVER, PORT, 4096, TIMEOUT).unwrap();
    stream.write(&[7, 0, 0, 0, 100, 0, 0]).unwrap();
    assert!(listener.accept().unwrap().is_some());
}

#[test]
fn no_other_domain_reaches_a_ring() {
    let bed = Bed::new(8192);
    bed.fake.settle();
    let third = Argo::new(&domain(&bed.fake, DomId(3))).unwrap();
    let to = Address {
        domain: SERVER,
        port: PORT,
    };
    assert_eq!(third.query(to), Ok(None));
    assert!(third.send(1, to, &[b"x"], 0).is_err());
    let fs = bed.mount();
    fs.write("/file", "x").unwrap();
}

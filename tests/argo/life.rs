//! A peer that goes is noticed within two seconds; full rings are waited for, by an event or, where none will come, by the
//! clock.

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::hypercall::sched::{self, Suspended};
use xen9p::platform::Frame;
use xen9p::sys;
use xen9p::transport::TransportError;
use xen9p::transport::argo::{self, Listener};
use xen9p::transport::export::{Connection, Listen};
use xen9p::transport::stream::ByteStream;
use xen9p::xen::argo::{Address, Argo};
use xen9p_testing::random::content;

use crate::common::{Bed, CLIENT, PORT, SERVER, TIMEOUT, domain, machine, serve};

/// A 9P message of this size.
fn message(len: u32) -> Vec<u8> {
    let mut bytes = vec![7; len as usize];
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

#[test]
fn a_server_that_dies_is_noticed() {
    let bed = Bed::new(8192);
    let fs = bed.mount();
    fs.write("/file", "x").unwrap();
    bed.fake.remove_peers();
    bed.fake.destroy(SERVER);
    let begun = bed.fake.now();
    let error = fs.read("/file").unwrap_err();
    assert_eq!(error.errno(), Errno::EIO, "{error}");
    assert!(bed.fake.now() - begun < Duration::from_secs(2));
    // Its drivers are gone with it.
    std::mem::forget(bed.serving);
    drop(fs);
    assert!(bed.fake.argo_rings(CLIENT).is_empty());
}

#[test]
fn a_client_that_dies_is_noticed_and_its_ring_forgotten() {
    let bed = Bed::new(8192);
    let fs = bed.mount();
    fs.write("/file", "x").unwrap();
    assert!(bed.serving.borrow().export.is_connected());
    bed.fake.destroy(CLIENT);
    std::mem::forget((fs, bed.client));
    bed.fake.run_for(Duration::from_secs(2));
    assert!(!bed.serving.borrow().export.is_connected());
    bed.fake.run_for(Duration::from_secs(2));
    assert!(bed.fake.argo_rings(SERVER).is_empty());
    // A new domain of that number is served.
    let client = Argo::new(&domain(&bed.fake, CLIENT)).unwrap();
    let stream = argo::connect(&client, SERVER, PORT, 8192, TIMEOUT).unwrap();
    drop(stream);
}

#[test]
fn a_client_that_goes_without_a_word_makes_way_for_the_next() {
    let bed = Bed::new(8192);
    let fs = bed.mount();
    let [old] = bed.fake.argo_rings(CLIENT)[..] else {
        panic!("one ring");
    };
    // As if the program had been replaced: its ring is gone, and no end was sent.
    std::mem::forget(fs);
    let next = bed.mount();
    next.write("/next", "y").unwrap();
    let rings = bed.fake.argo_rings(CLIENT);
    assert!(rings.len() == 2 && rings.contains(&old));
    assert!(bed.serving.borrow().export.is_connected());
}

#[test]
fn a_full_ring_is_waited_for() {
    let fake = machine();
    let own = Argo::new(&domain(&fake, CLIENT)).unwrap();
    let other = Argo::new(&domain(&fake, SERVER)).unwrap();
    let mut listener = Listener::new(&other, CLIENT, PORT, 4096).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let mut stream = argo::connect(&own, SERVER, PORT, 4096, TIMEOUT).unwrap();
    let message = message(1500);
    let mut sent = 0;
    while stream.write(&message).unwrap() > 0 {
        sent += 1;
        assert!(sent < 10, "it is full some time");
    }
    assert!(sent >= 2);
    // Until something is taken out nothing happens.
    own.xen().events.dispatch();
    let seen = own.xen().events.generation();
    stream
        .wait(true, fake.now() + Duration::from_millis(50))
        .unwrap();
    assert_eq!(own.xen().events.generation(), seen);
    let mut end = listener.accept().unwrap().expect("a client");
    let mut all = Vec::new();
    let mut into = [0; 700];
    loop {
        let count = end.read(&mut into).unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&into[..count]);
    }
    end.flush().unwrap();
    assert!(all == message.repeat(sent));
    let begun = fake.now();
    stream.wait(true, begun + Duration::from_secs(9)).unwrap();
    assert!(fake.now() - begun < Duration::from_millis(10), "an event");
    assert_eq!(stream.write(&message).unwrap(), message.len());
}

#[test]
fn a_crowded_ring_is_tried_again_without_an_event() {
    let bed = Bed::new(8192);
    let fs = bed.mount();
    fs.write("/file", "x").unwrap();
    bed.fake.crowd_argo(true);
    let fake = bed.fake.clone();
    let frees = fake.now() + Duration::from_millis(300);
    struct Frees(xen9p::time::Instant, bool);
    impl xen9p_testing::fake::Peer for Frees {
        fn step(&mut self, xen: &xen9p_testing::fake::FakeXen) -> bool {
            let due = !self.1 && xen.now() >= self.0;
            if due {
                self.1 = true;
                xen.crowd_argo(false);
            }
            due
        }
        fn wakes_at(&self) -> Option<xen9p::time::Instant> {
            (!self.1).then_some(self.0)
        }
    }
    fake.add_peer(Frees(frees, false));
    assert_eq!(fs.read("/file").unwrap(), b"x");
    let late = fake.now() - frees;
    assert!(late < Duration::from_millis(100), "{late:?}");
}

#[test]
fn many_bytes_go_both_ways_through_the_smallest_rings() {
    let bed = Bed::new(4096);
    let fs = bed.mount();
    let content = content(1 << 20);
    fs.write("/large", &content).unwrap();
    assert!(fs.read("/large").unwrap() == content);
    let calls = bed.fake.hypercalls(CLIENT);
    assert!(calls[&(sys::__HYPERVISOR_argo_op, sys::XEN_ARGO_OP_sendv)] > 256);
}

#[test]
fn a_connection_that_ends_is_told_to_the_other_side() {
    let fake = machine();
    let own = Argo::new(&domain(&fake, CLIENT)).unwrap();
    let other = Argo::new(&domain(&fake, SERVER)).unwrap();
    let mut listener = Listener::new(&other, CLIENT, PORT, 4096).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let mut stream = argo::connect(&own, SERVER, PORT, 4096, TIMEOUT).unwrap();
    stream.write(&message(100)).unwrap();
    let mut end = listener.accept().unwrap().expect("a client");
    assert!(listener.accept().unwrap().is_none(), "one at a time");
    // What was sent before is read first.
    end.write(&message(50)).unwrap();
    drop(end);
    let mut into = [0; 200];
    assert_eq!(stream.read(&mut into).unwrap(), 50);
    let error = stream.read(&mut into).unwrap_err();
    assert!(matches!(error, TransportError::Lost(_)), "{error}");
    assert_eq!(stream.write(&message(7)), Err(error));
    assert_eq!(stream.check(), Err(error));
    drop(stream);
    assert!(fake.argo_rings(CLIENT).is_empty());
    let address = Address {
        domain: CLIENT,
        port: 1,
    };
    assert_eq!(other.query(address), Ok(None));
}

#[test]
fn a_domain_that_is_saved_loses_its_connections_and_can_make_new_ones() {
    let bed = Bed::new(8192);
    let mut stream = bed.connect().unwrap();
    stream.write(&message(7)).unwrap();
    let xen = bed.client.xen().clone();
    let outcome = xen.suspend(|| {
        bed.fake.restore(CLIENT, true);
        // SAFETY: the simulated Xen takes no notice of the frame.
        unsafe { sched::suspend(&xen.platform, Frame(0)) }
    });
    assert_eq!(outcome, Ok(Suspended::Resumed));
    bed.fake
        .dom0()
        .write(&format!("/local/domain/{CLIENT}/domid"), CLIENT.to_string());
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(error, TransportError::Lost(_)), "{error}");
    drop(stream);
    // With the domain of before Xen has taken its partners' rings away.
    assert!(bed.fake.argo_rings(SERVER).is_empty());
    bed.fake.remove_peers();
    let server = bed.serving.borrow().xen.clone();
    let Bed {
        fake,
        client,
        tree,
        serving,
    } = bed;
    drop(serving);
    let serving = serve(&fake, server, &tree, 8192);
    let bed = Bed {
        fake,
        client,
        tree,
        serving,
    };
    let fs = bed.mount();
    fs.write("/after", "z").unwrap();
    assert_eq!(fs.read("/after").unwrap(), b"z");
}

//! A peer that goes is noticed, by whatever sign there is of it, within two seconds, and all that it sent before is read; it
//! leaves no zombie, in either order of death and in the middle of a transfer.

use std::time::Duration;

use xen9p::fs::Error;
use xen9p::hypercall::sched::{self, SuspendReturn};
use xen9p::platform::Frame;
use xen9p::transport::TransportError;
use xen9p::transport::stream::ByteStream;
use xen9p::transport::vchan::{self, Listener, Orders};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::fake::FakePlatform;
use xen9p_testing::random::content;

use crate::common::{Bed, CLIENT, Drivers, SERVER, TIMEOUT, domain, orders};

/// How soon a death has to be noticed.
const SOON: Duration = Duration::from_secs(2);

type Stream = vchan::Stream<FakePlatform>;

/// Two connected streams with nothing between the program and them: the client's and the server's.
struct Pair {
    fake: xen9p_testing::fake::FakeXen,
    drivers: [Drivers; 2],
    streams: [Option<Stream>; 2],
    listener: Option<Listener<FakePlatform>>,
}

impl Pair {
    fn new() -> Pair {
        let fake = xen9p_testing::fake::FakeXen::new();
        let drivers = [CLIENT, SERVER].map(|id| domain(&fake, id));
        let mut listener = Listener::new(&drivers[1], CLIENT, "9p", orders(12, 12)).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = vchan::connect(&drivers[0], SERVER, "9p", TIMEOUT).unwrap();
        let server = listener.accept().unwrap().expect("the client is there");
        Pair {
            fake,
            drivers,
            streams: [Some(client), Some(server)],
            listener: Some(listener),
        }
    }

    fn stream(&mut self, side: usize) -> &mut Stream {
        self.streams[side].as_mut().expect("the side is there")
    }

    /// Waits in one side until it notices that the other is gone. What it reads meanwhile is returned.
    fn notices(&mut self, side: usize) -> (Vec<u8>, TransportError) {
        let begun = self.fake.now();
        let deadline = begun + Duration::from_secs(10);
        let mut bytes = Vec::new();
        loop {
            let mut buffer = [0; 1000];
            let stream = self.stream(side);
            match stream.read(&mut buffer) {
                Ok(0) => drop(stream.wait(false, deadline)),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(lost) => {
                    let took = self.fake.now() - begun;
                    assert!(took <= SOON, "it took {took:?}");
                    return (bytes, lost);
                }
            }
            assert!(self.fake.now() < deadline, "the death was never noticed");
        }
    }

    /// One side's domain dies: none of its handles is dropped in good order.
    fn destroy(&mut self, side: usize) {
        std::mem::forget(self.streams[side].take());
        if side == 1 {
            std::mem::forget(self.listener.take());
        }
        let id = [CLIENT, SERVER][side];
        // Its drivers are left as they are, too.
        std::mem::forget(self.drivers[side].clone());
        self.fake.destroy(id);
    }
}

#[test]
fn what_was_sent_before_a_close_is_read_and_the_close_noticed() {
    for side in 0..2 {
        let mut pair = Pair::new();
        let last = content(3000);
        assert_eq!(pair.stream(side).write(&last), Ok(3000));
        // No flush: the close itself is the event.
        pair.streams[side] = None;
        let (bytes, lost) = pair.notices(1 - side);
        assert!(bytes == last);
        assert!(
            matches!(lost, TransportError::Lost(how) if how.contains("closed")),
            "{lost}"
        );
        // Writing is over, too, and everything is given back.
        assert!(pair.stream(1 - side).write(b"x").is_err());
        drop(pair.streams);
        assert_eq!(pair.drivers[0].grants.counters().mapped_pages, 0);
        assert_eq!(pair.drivers[1].grants.drain(), 0);
    }
}

#[test]
fn a_domain_that_is_destroyed_is_noticed_and_leaves_no_zombie() {
    for side in 0..2 {
        let mut pair = Pair::new();
        let last = content(1234);
        assert_eq!(pair.stream(side).write(&last), Ok(1234));
        pair.destroy(side);
        let (bytes, lost) = pair.notices(1 - side);
        assert!(
            bytes == last,
            "what it sent is in memory that is still there"
        );
        assert!(matches!(lost, TransportError::Lost(_)), "{lost}");
        // As soon as it is noticed, and not when the program lets go of the stream.
        assert!(!pair.fake.is_zombie([CLIENT, SERVER][side]));
        // The other one after it.
        pair.destroy(1 - side);
        assert!(!pair.fake.is_zombie(CLIENT) && !pair.fake.is_zombie(SERVER));
    }
}

/// A server whose domain is preserved as it was, or that was stopped: it says nothing, but its nodes are removed or
/// written anew by others.
#[test]
fn nodes_that_are_withdrawn_end_the_connection() {
    for change in [None, Some("9999")] {
        let mut pair = Pair::new();
        let node = "/local/domain/2/data/vchan/1/9p/ring-ref";
        match change {
            None => pair.fake.dom0().rm("/local/domain/2/data/vchan"),
            Some(value) => pair.fake.dom0().write(node, value),
        }
        let (_, lost) = pair.notices(0);
        assert!(
            matches!(lost, TransportError::Lost(how) if how.contains("withdrawn")),
            "{lost}"
        );
    }
}

#[test]
fn a_mount_whose_server_dies_fails_and_the_next_server_is_found() {
    for pv in [[false; 2], [true; 2]] {
        let bed = Bed::new(Orders::default(), pv);
        let fs = bed.mount();
        fs.write("/file", "text").unwrap();
        let file = fs.open("/file").unwrap();
        // The server's program ends in good order.
        bed.fake.remove_peers();
        let Bed {
            fake,
            client,
            tree,
            serving,
        } = bed;
        drop(serving);
        let lost = file.read(&mut [0; 4]).unwrap_err();
        assert!(
            matches!(lost, Error::Transport(TransportError::Lost(_))),
            "{lost}"
        );
        drop((file, fs));
        assert_eq!(client.grants.counters().mapped_pages, 0);
        // Another takes its place.
        let server = Xen::new(Events::new(fake.platform(SERVER))).unwrap();
        let bed = Bed::of(fake, client, server, tree, Orders::default());
        assert_eq!(bed.mount().read_to_string("/file").unwrap(), "text");
    }
}

/// A client that bound the port and died before it said that it was there may have written anything to the page.
#[test]
fn what_a_client_left_half_way_is_not_given_to_the_next() {
    let fake = xen9p_testing::fake::FakeXen::new();
    let server = domain(&fake, SERVER);
    let client = domain(&fake, CLIENT);
    let mut listener = Listener::new(&server, CLIENT, "9p", orders(12, 12)).unwrap();
    listener.accept().unwrap();
    let node = |name| {
        let path = format!("/local/domain/2/data/vchan/1/9p/{name}");
        let text = fake.dom0().read_text(&path).unwrap();
        text.parse::<u32>().unwrap()
    };
    let before = (node("ring-ref"), node("event-channel"));
    let other = fake.domain(CLIENT);
    let page = other.map_grant(SERVER, before.0, true).unwrap();
    page.write(2000, b"left behind");
    let port = other.bind_interdomain(SERVER, before.1).unwrap();
    let mut look = || {
        fake.run_for(Duration::from_millis(1100));
        assert!(listener.accept().unwrap().is_none());
    };
    look();
    other.close(port);
    drop(page);
    look();
    look();
    // The numbers may be the same: the memory is new.
    let page = other.map_grant(SERVER, node("ring-ref"), true).unwrap();
    let mut content = [1; 100];
    page.read(2000, &mut content);
    assert_eq!(content, [0; 100]);
    drop(page);
    let stream = vchan::connect(&client, SERVER, "9p", TIMEOUT).unwrap();
    drop((stream, listener));
    assert_eq!(fake.usage(SERVER).grants, 0);
}

/// A page that the peer still maps is not used again.
#[test]
fn pages_that_the_client_keeps_wait_in_quarantine() {
    let mut pair = Pair::new();
    let node = "/local/domain/2/data/vchan/1/9p/ring-ref";
    let page = pair.fake.dom0().read_text(node).unwrap().parse().unwrap();
    let kept = pair
        .fake
        .domain(CLIENT)
        .map_grant(SERVER, page, true)
        .unwrap();
    pair.streams = [None, None];
    pair.listener = None;
    let grants = &pair.drivers[1].grants;
    assert_eq!(grants.drain(), 1);
    kept.write(0, b"late");
    drop(kept);
    assert_eq!(grants.drain(), 0);
    assert_eq!(pair.fake.dirty_frees(), 0);
}

/// A save ends the connection on both sides, whether the domain goes on where it was or elsewhere.
#[test]
fn a_save_ends_the_connection() {
    for cancelled in [true, false] {
        let mut pair = Pair::new();
        assert_eq!(pair.stream(1).write(b"before"), Ok(6));
        if cancelled {
            pair.fake.cancel_suspend(CLIENT);
        }
        let client = pair.drivers[0].clone();
        let fake = pair.fake.clone();
        let machine = || {
            // SAFETY: nothing of the simulated domain is in the way of its suspend.
            let outcome: SuspendReturn = unsafe { sched::suspend(&client.platform, Frame(0)) }?;
            if !cancelled {
                fake.restore(CLIENT, true);
            }
            Ok(outcome)
        };
        client.suspend(machine).unwrap();
        assert_eq!(client.grants.counters().mapped_pages, 0);
        let lost = pair.stream(0).read(&mut [0; 10]).unwrap_err();
        assert!(
            matches!(lost, TransportError::Lost(how) if how.contains("saved")),
            "{lost}"
        );
        pair.streams[0] = None;
        let (_, lost) = pair.notices(1);
        assert!(matches!(lost, TransportError::Lost(_)), "{lost}");
    }
}

/// xenstored ignores what is permitted to a domain that there is not, and goes on to do so when there is one.
#[test]
fn a_client_that_is_made_after_its_server_is_served() {
    let fake = xen9p_testing::fake::FakeXen::new();
    let server = domain(&fake, SERVER);
    let mut listener = Listener::new(&server, CLIENT, "9p", orders(12, 12)).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let client = domain(&fake, CLIENT);
    assert!(vchan::connect(&client, SERVER, "9p", TIMEOUT).is_err());
    assert!(listener.accept().unwrap().is_none());
    let _client = vchan::connect(&client, SERVER, "9p", TIMEOUT).unwrap();
    assert!(listener.accept().unwrap().is_some());
}

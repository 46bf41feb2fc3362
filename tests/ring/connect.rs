//! A device in xenstore becomes a connection with messages over its rings and is closed again; a backend that breaks
//! the rules is refused and leaves nothing behind.

use std::error::Error;
use std::time::Duration;

use xen9p::hypercall::XenError;
use xen9p::sys;
use xen9p::transport::xen9pfs::{self, ConnectError, Endpoints};
use xen9p::transport::{Lane, Transport, TransportError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::grant::GrantError;
use xen9p::xen::xenbus::XenbusState::{self, *};
use xen9p_testing::backend::{Faults, Program, Share, echo};
use xen9p_testing::bed::guest::{GUEST, PROGRAMS, bed, bed_with, config, exchange};
use xen9p_testing::fake::{FakeXen, Peer};

#[test]
fn a_share_connects_carries_messages_and_closes() {
    for program in PROGRAMS {
        let bed = bed(program);
        let mut transport = bed.connect().unwrap();
        assert_eq!(transport.lanes(), 3);
        assert_eq!(transport.max_message(), (64 << 10) + 24);
        assert_eq!(bed.share.borrow().rings(), 3);
        assert_eq!(bed.share.borrow().states(), (Connected, Connected));
        let front = bed.share.borrow().front().to_owned();
        let node = |name: &str| bed.fake.dom0().read_text(&format!("{front}/{name}"));
        assert_eq!(node("version").as_deref(), Some("1"));
        assert_eq!(node("num-rings").as_deref(), Some("3"));
        for ring in 0..3 {
            assert!(node(&format!("ring-ref{ring}")).is_some());
            assert!(node(&format!("event-channel-{ring}")).is_some());
        }
        for seed in 0..100 {
            exchange(&mut transport, seed).unwrap();
        }
        transport.close();
        assert_eq!(bed.share.borrow().states(), (Closed, Closed));
        assert_eq!(bed.share.borrow().troubles(), []);
        transport.close();
        assert_eq!(transport.peek(Lane(0)), Err(TransportError::Closed));
        assert_eq!(transport.flush(), Err(TransportError::Closed));
        assert_eq!(transport.wait(transport.now()), Err(TransportError::Closed));
        assert_eq!(transport.lanes(), 3);
        transport.consume(Lane(0));
        transport.release(Lane(2), 1);
        drop(transport);
        bed.flat();
    }
}

#[test]
fn a_hundred_connections_leave_nothing_behind() {
    for program in PROGRAMS {
        let bed = bed(program);
        for cycle in 0..100 {
            let mut transport = bed.connect().unwrap();
            exchange(&mut transport, cycle).unwrap();
            drop(transport);
            bed.flat();
        }
        assert_eq!(bed.share.borrow().connections(), 100);
        assert_eq!(bed.share.borrow().troubles(), []);
    }
}

#[test]
fn all_rings_and_orders_that_a_backend_offers() {
    for program in PROGRAMS {
        for order in 2..=9 {
            let bed = bed(program);
            let mut config = config();
            config.rings = Some(8);
            config.order = Some(order);
            let mut transport = bed.connect_with(&config).unwrap();
            let most = if program == Program::Qemu { 8 } else { 4 };
            assert_eq!(transport.lanes(), most);
            assert_eq!(transport.max_message(), (1024 << order) + 24);
            if order > 2 {
                exchange(&mut transport, 1).unwrap();
            }
            drop(transport);
            bed.flat();
        }
    }
}

#[test]
fn devices_are_listed_and_picked_by_tag() {
    let fake = FakeXen::new();
    let xen = Xen::new(Events::new(fake.add_domain(GUEST))).unwrap();
    assert_eq!(xen9pfs::devices(&xen).unwrap().len(), 0);
    let none = xen9pfs::device(&xen, Some("a")).unwrap_err();
    assert_eq!(none, ConnectError::NoDevice);
    assert!(none.to_string().contains("p9="));

    // Of the two with one tag the one with the lower number is meant.
    for (id, tag) in [(12, "two"), (10, "ten"), (2, "two"), (0, "zero")] {
        fake.add_peer(Share::new(
            &fake.dom0(),
            GUEST,
            id,
            tag,
            Program::Qemu,
            echo::handler(),
        ));
    }
    let tags: Vec<_> = xen9pfs::devices(&xen)
        .unwrap()
        .iter()
        .map(|device| device.tag().unwrap().to_owned())
        .collect();
    assert_eq!(tags, ["zero", "two", "ten", "two"]);
    let find = |tag| xen9pfs::device(&xen, tag).map(|device| device.id().to_owned());
    assert_eq!(find(None).unwrap(), "0");
    assert_eq!(find(Some("two")).unwrap(), "2");
    let wrong = find(Some("tw")).unwrap_err();
    assert!(matches!(&wrong, ConnectError::NoSuchTag(tags) if tags == "zero, two, ten, two"));
    assert!(
        wrong
            .to_string()
            .ends_with("there are: zero, two, ten, two")
    );

    // Both at once.
    let mut shares: Vec<_> = [Some("two"), Some("ten")]
        .into_iter()
        .map(|tag| xen9pfs::connect(&xen, xen9pfs::device(&xen, tag).unwrap(), &config()).unwrap())
        .collect();
    for seed in 0..10 {
        for share in &mut shares {
            exchange(share, seed).unwrap();
        }
    }
}

#[test]
fn an_offer_that_makes_no_sense_is_refused() {
    let offered = |node, value| bed_with(Program::Qemu, |share| share.offering(node, value));
    for versions in ["", "2", "10", "11,21", "x"] {
        let error = offered("versions", Some(versions)).refused();
        assert_eq!(error, ConnectError::Version, "{versions}");
    }
    for node in ["max-rings", "max-ring-page-order"] {
        assert_eq!(
            offered(node, Some("0")).refused(),
            ConnectError::NoRing(node)
        );
        for value in ["", "x", "4x", "-1", "4294967296", "99999999999999999999"] {
            let error = offered(node, Some(value)).refused();
            assert_eq!(error, ConnectError::BadNode(node), "{value}");
        }
    }
    let error = offered("max-ring-page-order", Some("1")).refused();
    assert_eq!(error, ConnectError::SmallRings);
    for node in ["versions", "max-rings", "max-ring-page-order"] {
        assert_eq!(offered(node, None).refused(), ConnectError::BadNode(node));
    }
    for (node, value) in [
        ("versions", "2,1"),
        ("versions", "1,2,3"),
        ("max-rings", "4294967295"),
        ("max-ring-page-order", "200"),
        ("max-ring-page-order", "2"),
        ("max-rings", "1"),
    ] {
        let bed = offered(node, Some(value));
        drop(bed.connect().unwrap());
        bed.flat();
    }
}

#[test]
fn a_backend_that_falls_silent_is_not_waited_for_for_ever() {
    for program in PROGRAMS {
        for state in [Initialising, InitWait] {
            let bed = bed_with(program, |share| {
                share.faulty(Faults {
                    stuck_in: Some(state),
                    ..Faults::default()
                })
            });
            match bed.refused() {
                ConnectError::Waited { found, timeout, .. } => {
                    assert_eq!((found, timeout), (state, config().timeout));
                }
                error => panic!("{error}"),
            }
        }
        // The way back from Connected and from Closing.
        for state in [Connected, Closing] {
            let bed = bed(program);
            let mut transport = bed.connect().unwrap();
            exchange(&mut transport, 1).unwrap();
            bed.share.borrow_mut().faults.stuck_in = Some(state);
            let start = bed.fake.now();
            drop(transport);
            let took = bed.fake.now() - start;
            assert!(took < Duration::from_secs(15), "{took:?}");
            bed.flat();
        }
    }
}

#[test]
fn a_backend_that_refuses_is_reported_at_once() {
    for state in [Closing, Closed] {
        let bed = bed_with(Program::Qemu, |share| {
            share.faulty(Faults {
                refuses_with: Some(state),
                ..Faults::default()
            })
        });
        let start = bed.fake.now();
        assert_eq!(bed.refused(), ConnectError::Refused(state));
        assert!(bed.fake.now() - start < Duration::from_secs(2));
    }
}

#[test]
fn a_device_left_in_any_state_is_brought_back() {
    for program in PROGRAMS {
        for left in [Initialised, Connected, Closing, Closed] {
            let bed = bed(program);
            // The frontend before us connected, and left it so.
            let endpoints = Endpoints::new(&bed.xen);
            let connect = || endpoints.connect(xen9pfs::device(&bed.xen, None).unwrap(), &config());
            let transport = connect().unwrap();
            let front = format!("{}/state", bed.share.borrow().front());
            if matches!(left, Closing | Closed) {
                bed.fake.dom0().write(&front, (left as u32).to_string());
                bed.fake.settle();
            }
            let mut again = connect().unwrap();
            exchange(&mut again, 3).unwrap();
            drop(again);
            drop(transport);
            drop(endpoints);
            bed.flat();
        }
    }
}

#[test]
fn a_device_is_connected_once_at_a_time() {
    for program in PROGRAMS {
        let bed = bed(program);
        let mut transport = bed.connect().unwrap();
        assert_eq!(bed.connect().err(), Some(ConnectError::InUse));
        // Nothing of the first has changed.
        exchange(&mut transport, 1).unwrap();
        transport.close();
        let mut again = bed.connect().unwrap();
        drop(transport);
        exchange(&mut again, 1).unwrap();
        assert_eq!(bed.connect().err(), Some(ConnectError::InUse));
        drop(again);
        bed.flat();
    }
}

/// Something that happens in the world once a condition is true.
struct Once<F: FnMut() -> bool>(F);

impl<F: FnMut() -> bool> Peer for Once<F> {
    fn step(&mut self, _: &FakeXen) -> bool {
        (self.0)()
    }
}

#[test]
fn a_device_removed_while_connecting_is_gone_and_stays_gone() {
    for side in ["front", "back", "both"] {
        for when in [Initialising, Initialised] {
            let bed = bed_with(Program::Qemu, |share| {
                share.faulty(Faults {
                    stuck_in: Some(if when == Initialised {
                        InitWait
                    } else {
                        Initialising
                    }),
                    ..Faults::default()
                })
            });
            let (front, back) = {
                let share = bed.share.borrow();
                (share.front().to_owned(), share.back().to_owned())
            };
            let dom0 = bed.fake.dom0();
            let started = bed.fake.now() + Duration::from_millis(300);
            let fake = bed.fake.clone();
            let mut done = false;
            bed.fake.add_peer(Once(move || {
                let state = dom0.read(&format!("{front}/state"));
                let now = state.map_or(Unknown, |value| XenbusState::from_value(&value));
                if done || now != when || (when == Initialising && fake.now() < started) {
                    return false;
                }
                done = true;
                if side != "back" {
                    dom0.rm(&front);
                }
                if side != "front" {
                    dom0.rm(&back);
                }
                true
            }));
            let error = bed.refused();
            assert!(
                matches!(error, ConnectError::Gone | ConnectError::Waited { .. }),
                "{side} at {when}: {error}"
            );
            let front = bed.share.borrow().front().to_owned();
            if side != "back" && when == Initialised {
                assert_eq!(bed.fake.dom0().read(&front), None, "it was brought back");
            }
        }
    }
}

#[test]
fn rings_shrink_to_the_memory_there_is() {
    for (pages, expected) in [
        (400, Some(3)),
        (120, Some(3)),
        (15, Some(3)),
        (14, Some(1)),
        (5, Some(1)),
        (4, None),
    ] {
        let bed = bed(Program::Qemu);
        let used = bed.before.pages;
        bed.fake.limit_pages(GUEST, used + pages);
        match (bed.connect(), expected) {
            (Ok(mut transport), Some(lanes)) => {
                assert_eq!(transport.lanes(), lanes, "{pages} pages");
                assert!(transport.max_message() >= 4096, "enough for a 9P session");
                exchange(&mut transport, 1).unwrap();
            }
            (Err(error), None) => {
                assert_eq!(error, ConnectError::Memory(GrantError::NoMemory));
            }
            (result, _) => panic!("{pages} pages: {result:?}"),
        }
        bed.flat();
    }
}

#[test]
fn rings_shrink_to_the_grants_and_ports_there_are() {
    let bed = bed(Program::Qemu);
    bed.fake.limit_grant_frames(GUEST, 1);
    let mut big = config();
    big.rings = Some(2);
    big.order = Some(9);
    let transport = bed.connect_with(&big).unwrap();
    assert_eq!((transport.lanes(), transport.order().get()), (2, 7));
    drop(transport);
    bed.flat();

    for (after, op) in [
        (0, sys::EVTCHNOP_alloc_unbound),
        (2, sys::EVTCHNOP_alloc_unbound),
    ] {
        let number = sys::__HYPERVISOR_event_channel_op;
        bed.fake.fail_hypercall(number, op, after, XenError::ENOSPC);
        assert_eq!(bed.refused(), ConnectError::Port(XenError::ENOSPC));
    }
}

/// QEMU 7.2 dies of a second connection: closing must not begin one.
#[test]
fn closing_does_not_begin_another_connection() {
    let bed = bed_with(Program::Qemu, |share| {
        share.faulty(Faults {
            dies_when_reconnected: true,
            ..Faults::default()
        })
    });
    drop(bed.connect().unwrap());
    bed.fake.run_for(Duration::from_secs(5));
    assert_eq!(bed.share.borrow().states(), (Closed, Closed));
    assert_eq!(bed.share.borrow().connections(), 1);
    assert!(matches!(
        bed.refused(),
        ConnectError::Waited {
            found: InitWait,
            ..
        }
    ));
}

#[test]
fn errors_name_what_caused_them() {
    let cause = XenError::ENOSPC;
    let error = ConnectError::Memory(GrantError::Table(cause));
    let table = error.source().unwrap();
    assert_eq!(table.to_string(), GrantError::Table(cause).to_string());
    assert_eq!(table.source().unwrap().to_string(), cause.to_string());
    assert!(ConnectError::NoDevice.source().is_none());
}

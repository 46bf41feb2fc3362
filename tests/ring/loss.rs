//! A backend that dies, closes or lies ends the connection, with its reason and in bounded time; one that only makes
//! noise does not (docs/lost-backends.md).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::transport::{Transport, TransportError};
use xen9p_testing::backend::{Faults, Lie, Lies, Program};
use xen9p_testing::bed::guest::{Bed, GUEST, PROGRAMS, bed, bed_with, exchange, loss};

#[test]
fn every_way_to_lose_a_backend_is_noticed() {
    let second = Duration::from_secs(1) + Duration::from_millis(10);
    for program in PROGRAMS {
        type Blow = fn(&Bed);
        let blows: [(&str, Blow); 7] = [
            ("died", |bed| bed.share.borrow_mut().kill()),
            ("closed", |bed| bed.set_back_state("5")),
            ("closed", |bed| bed.set_back_state("6")),
            ("restarted", |bed| {
                bed.share.borrow_mut().kill();
                bed.set_back_state("1");
                bed.share.borrow_mut().restart();
            }),
            ("restarted", |bed| bed.set_back_state("2")),
            ("removed", |bed| bed.set_back_state("99")),
            ("removed", |bed| {
                let share = bed.share.borrow();
                bed.fake.dom0().rm(share.back());
                bed.fake.dom0().rm(share.front());
            }),
        ];
        for (index, (word, blow)) in blows.into_iter().enumerate() {
            let bed = bed(program);
            let mut transport = bed.connect().unwrap();
            exchange(&mut transport, 1).unwrap();
            blow(&bed);
            let (error, took) = loss(&bed, &mut transport);
            let text = error.to_string();
            assert!(
                matches!(error, TransportError::Lost(how) if how.contains(word)),
                "{index}: {text}"
            );
            assert!(took < second, "{index}: {took:?}");
            drop(transport);
            bed.share.borrow_mut().kill();
            bed.flat();
        }
    }
}

/// One lie on one ring ends the connection; the device can be connected again.
#[test]
fn a_lie_ends_the_connection_and_the_next_one_works() {
    let lies = [
        Lie::Size(0),
        Lie::Size(6),
        Lie::Size((64 << 10) + 1),
        Lie::Size(u32::MAX),
        Lie::InProd(1 << 20),
        Lie::InProd(-5000),
    ];
    for program in PROGRAMS {
        for lie in lies {
            let bed = bed_with(program, |share| {
                share.faulty(Faults {
                    lies: Lies::from([(4, lie)]),
                    ..Faults::default()
                })
            });
            let mut transport = bed.connect().unwrap();
            exchange(&mut transport, 0).unwrap();
            let error = exchange(&mut transport, 1).unwrap_err();
            assert!(
                matches!(error, TransportError::Violation(_)),
                "{lie:?}: {error}"
            );
            assert_eq!(transport.flush(), Err(error));
            assert_eq!(transport.wait(transport.now()), Err(error));
            drop(transport);
            bed.flat();
            bed.share.borrow_mut().faults.lies = Lies::default();
            exchange(&mut bed.connect().unwrap(), 2).unwrap();
            bed.flat();
        }
    }
}

#[test]
fn pages_that_a_backend_keeps_wait_in_quarantine() {
    let bed = bed_with(Program::Qemu, |share| {
        share.faulty(Faults {
            keeps_maps: true,
            ..Faults::default()
        })
    });
    drop(bed.connect().unwrap());
    let held = bed.xen.grants.counters().quarantined_pages;
    assert_eq!(held, 3 * 65);
    exchange(&mut bed.connect().unwrap(), 1).unwrap();
    assert_eq!(bed.xen.grants.counters().quarantined_pages, 2 * held);
    assert_eq!(bed.xen.grants.drain(), 2 * held);
    bed.share.borrow_mut().unmap();
    assert_eq!(bed.xen.grants.drain(), 0);
    bed.flat();
}

#[test]
fn noise_in_xenstore_changes_nothing() {
    let bed = bed(Program::Qemu);
    let mut transport = bed.connect().unwrap();
    let back = bed.share.borrow().back().to_owned();
    let dom0 = bed.fake.dom0();
    for seed in 0..200 {
        for _ in 0..20 {
            dom0.write(&format!("{back}/state"), "4");
        }
        exchange(&mut transport, seed).unwrap();
    }
    drop(transport);
    for nonsense in [&b""[..], b"4x", b" 4", b"\xff\xfe", &[b'4'; 2000]] {
        let mut transport = bed.connect().unwrap();
        dom0.write(&format!("{back}/state"), nonsense);
        let (error, _) = loss(&bed, &mut transport);
        assert!(matches!(error, TransportError::Lost(_)));
        dom0.write(&format!("{back}/state"), "4");
    }
    exchange(&mut bed.connect().unwrap(), 1).unwrap();
}

/// While one waits for replies, what else the domain has to do goes on.
#[test]
fn a_wait_lets_the_rest_of_the_domain_live() {
    let bed = bed(Program::Qemu);
    let mut transport = bed.connect().unwrap();
    let watch = bed.xen.store.watch("control/shutdown").unwrap();
    let channel = bed.xen.events.alloc_unbound(DomId(0)).unwrap();
    let rung = Rc::new(Cell::new(0));
    channel.on_event({
        let rung = rung.clone();
        move || rung.set(rung.get() + 1)
    });
    let dom0 = bed.fake.dom0();
    let port = dom0.bind_interdomain(GUEST, channel.port().0).unwrap();
    transport
        .wait(transport.now() + Duration::from_secs(1))
        .unwrap();
    while watch.take().unwrap().is_some() {}
    let before = rung.get();
    dom0.send(port);
    bed.fake.dom0().write(
        &format!("/local/domain/{GUEST}/control/shutdown"),
        "poweroff",
    );
    let deadline = transport.now() + Duration::from_millis(100);
    while transport.now() < deadline {
        transport.wait(deadline).unwrap();
    }
    assert_eq!(rung.get(), before + 1);
    assert!(watch.take().unwrap().is_some());
    exchange(&mut transport, 1).unwrap();
}

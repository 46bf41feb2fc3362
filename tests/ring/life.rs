//! Devices may appear, be connected and disconnected, and disappear while the domain runs; each change is told once,
//! and nothing is left behind.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::transport::xen9pfs::{self, Change, ConnectError, EndpointEvent, Endpoints, Xen9pfs};
use xen9p::transport::{Transport, TransportError};
use xen9p::xen::grant::GrantError;
use xen9p::xen::store::wire::Kind;
use xen9p::xen::store::{Access, Permission};
use xen9p::xen::xenbus::XenbusState::Closed;
use xen9p_testing::backend::{Faults, Program, Share, echo};
use xen9p_testing::bed::guest::{Bed, GUEST, PROGRAMS, bed, bed_with, config, exchange};
use xen9p_testing::fake::FakePlatform;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn follow(bed: &Bed) -> Endpoints<FakePlatform> {
    let endpoints = Endpoints::new(&bed.xen);
    assert_eq!(told(bed, &endpoints), ["0 share: appeared"]);
    endpoints
}

/// All events that there are, as people read them.
pub(super) fn told(bed: &Bed, endpoints: &Endpoints<FakePlatform>) -> Vec<String> {
    bed.fake.settle();
    let mut told = Vec::new();
    while let Some(event) = endpoints.next().unwrap() {
        told.push(event.to_string());
        assert!(told.len() < 100, "no end of it: {told:?}");
    }
    told
}

pub(super) fn connect(
    bed: &Bed,
    endpoints: &Endpoints<FakePlatform>,
) -> Result<Xen9pfs<FakePlatform>, ConnectError> {
    let device = xen9pfs::device(&bed.xen, Some("share"))?;
    endpoints.connect(device, &config())
}

/// Another device with the program that serves it.
pub(super) fn plug(bed: &Bed, id: u32, tag: &str) -> Rc<RefCell<Share>> {
    let dom0 = bed.fake.dom0();
    let share = Share::new(&dom0, GUEST, id, tag, Program::Qemu, echo::handler());
    let share = Rc::new(RefCell::new(share));
    bed.fake.share_peer(share.clone());
    share
}

/// Takes a device away as the toolstack does.
fn unplug(bed: &Bed, share: &RefCell<Share>) {
    let share = share.borrow();
    bed.fake.dom0().rm(share.back());
    bed.fake.dom0().rm(share.front());
}

#[test]
fn devices_come_and_go_while_the_domain_runs() {
    let bed = bed(Program::Qemu);
    let endpoints = follow(&bed);
    assert!(told(&bed, &endpoints).is_empty(), "told once");
    let later = plug(&bed, 1, "later");
    let deadline = bed.fake.now() + 5 * SECOND;
    let event = endpoints.wait(deadline).unwrap().unwrap();
    assert_eq!(
        event,
        EndpointEvent {
            id: "1".into(),
            tag: Some("later".into()),
            change: Change::Appeared,
            why: None,
        }
    );
    let device = xen9pfs::device(&bed.xen, Some("later")).unwrap();
    let mut transport = endpoints.connect(device, &config()).unwrap();
    exchange(&mut transport, 1).unwrap();
    assert_eq!(told(&bed, &endpoints), ["1 later: connected (1)"]);
    unplug(&bed, &later);
    let lost = "disconnected (1): connection to the 9P server lost: the device was removed";
    assert_eq!(
        told(&bed, &endpoints),
        [&format!("1 later: {lost}"), "1 later: disappeared"]
    );
    let removed = TransportError::Lost(&"the device was removed");
    assert_eq!(transport.flush(), Err(removed));
    drop(transport);
    // A directory that is made node by node is a device once all of it is there.
    let (front, back) = (
        later.borrow().front().to_owned(),
        later.borrow().back().to_owned(),
    );
    let guest = GUEST.to_string();
    later.borrow_mut().kill();
    let dom0 = bed.fake.dom0();
    let access = |domain, access| Permission { domain, access };
    let readable = [access(DomId(0), Access::None), access(GUEST, Access::Read)];
    dom0.write(&back, "");
    dom0.set_permissions(&back, &readable);
    for (node, value) in [
        ("frontend-id", guest.as_str()),
        ("online", "1"),
        ("state", "1"),
    ] {
        dom0.write(&format!("{back}/{node}"), value);
        assert!(told(&bed, &endpoints).is_empty());
    }
    for (node, value) in [("state", "1"), ("backend-id", "0"), ("tag", "again")] {
        dom0.write(&format!("{front}/{node}"), value);
        assert!(told(&bed, &endpoints).is_empty());
    }
    dom0.write(&format!("{front}/backend"), &back);
    assert_eq!(told(&bed, &endpoints), ["1 again: appeared"]);
    // A backend whose directory goes takes the device with it.
    dom0.rm(&back);
    assert_eq!(told(&bed, &endpoints), ["1 again: disappeared"]);
    dom0.rm("/local/domain/5/device");
    assert_eq!(told(&bed, &endpoints), ["0 share: disappeared"]);
    drop((endpoints, dom0));
    bed.share.borrow_mut().kill();
    bed.flat();
}

#[test]
fn a_connection_begins_and_ends_once_for_those_who_look() {
    for program in PROGRAMS {
        let bed = bed(program);
        let endpoints = follow(&bed);
        let mut first = connect(&bed, &endpoints).unwrap();
        exchange(&mut first, 1).unwrap();
        assert_eq!(told(&bed, &endpoints), ["0 share: connected (1)"]);
        first.close();
        let closed = "0 share: disconnected (1): the connection is closed";
        assert_eq!(told(&bed, &endpoints), [closed]);
        drop(first);
        drop(connect(&bed, &endpoints).unwrap());
        assert!(
            told(&bed, &endpoints).is_empty(),
            "what was not seen was not"
        );
        let third = connect(&bed, &endpoints).unwrap();
        drop(connect(&bed, &endpoints));
        // To connect a device twice ends the first connection.
        assert!(
            told(&bed, &endpoints)
                .iter()
                .all(|event| event.starts_with("0 share: "))
        );
        drop(third);
        drop(endpoints);
        bed.flat();
    }
}

/// Without its transport being used: who follows the device notices, and the transport knows then.
#[test]
fn losses_are_noticed_by_looking() {
    type Blow = fn(&Bed);
    let blows: [(&str, Blow); 5] = [
        ("has died", |bed| bed.share.borrow_mut().kill()),
        ("has closed", |bed| bed.set_back_state("5")),
        ("was restarted", |bed| bed.set_back_state("2")),
        ("was removed", |bed| bed.set_back_state("nonsense")),
        ("its event channel is another", |bed| {
            bed.share.borrow_mut().kill();
            // What the new one finds free is not what the old one had.
            bed.fake.dom0().alloc_unbound(GUEST).unwrap();
            bed.set_back_state("1");
            bed.share.borrow_mut().restart();
        }),
    ];
    for (word, blow) in blows {
        let bed = bed(Program::Qemu);
        let endpoints = follow(&bed);
        let mut transport = connect(&bed, &endpoints).unwrap();
        assert_eq!(told(&bed, &endpoints), ["0 share: connected (1)"]);
        let before = bed.fake.now();
        blow(&bed);
        bed.fake.settle();
        let event = endpoints.wait(before + 10 * SECOND).unwrap().unwrap();
        assert_eq!(event.change, Change::Disconnected(1));
        let why = event.why.unwrap();
        assert!(why.to_string().contains(word), "{why}");
        assert!(bed.fake.now() - before < 2 * SECOND);
        assert_eq!(transport.flush(), Err(why));
        drop((transport, endpoints));
        bed.share.borrow_mut().kill();
        bed.flat();
    }
}

/// QEMU that is restarted, and whose state an administrator sets to 1, maps the rings of the one before it without a word to
/// us: the guest still says that it is connected.
#[test]
fn a_restarted_backend_on_the_old_rings_is_not_believed() {
    for looks in [true, false] {
        let bed = bed(Program::Qemu);
        let mut transport = bed.connect().unwrap();
        exchange(&mut transport, 1).unwrap();
        bed.share.borrow_mut().kill();
        if looks {
            // So that another port is free first.
            bed.fake.dom0().alloc_unbound(GUEST).unwrap();
        }
        bed.set_back_state("1");
        bed.share.borrow_mut().restart();
        if !looks {
            // The first look falls into the time between.
            let error =
                exchange(&mut transport, 2).and_then(|()| transport.wait(bed.fake.now() + SECOND));
            assert!(matches!(error, Err(TransportError::Lost(_))), "{error:?}");
        }
        bed.fake.settle();
        assert!(bed.share.borrow().rings() > 0, "it serves the old rings");
        let error = transport.wait(bed.fake.now() + SECOND).unwrap_err();
        assert!(
            matches!(error, TransportError::Lost(how) if how.contains("restarted")),
            "{error}"
        );
        drop(transport);
        exchange(&mut bed.connect().unwrap(), 3).unwrap();
    }
}

/// Nothing of a connection reaches the next one: not its memory, its events, nor its watches.
#[test]
fn an_old_connection_leaves_the_new_one_alone() {
    let bed = bed_with(Program::Qemu, |share| {
        share.faulty(Faults {
            keeps_maps: true,
            ..Faults::default()
        })
    });
    let mut old = bed.connect().unwrap();
    exchange(&mut old, 1).unwrap();
    let dom0 = bed.fake.dom0();
    let front = bed.share.borrow().front().to_owned();
    let number = |node: &str| -> u32 {
        let text = dom0.read_text(&format!("{front}/{node}")).unwrap();
        text.parse().unwrap()
    };
    let (ring, port) = (number("ring-ref0"), number("event-channel-0"));
    let page = dom0.map_grant(GUEST, ring, true).unwrap();
    drop(old);
    let mut new = bed.connect().unwrap();
    assert_ne!(number("ring-ref0"), ring, "the old page is still mapped");
    let ports = bed.fake.usage(GUEST).ports;
    for seed in 0..20 {
        // Indices and data of the old ring, as if replies had come.
        for word in 0..1024 {
            page.store(4 * word, seed * 7 + 1);
        }
        // An event for the old port, whose number may be the new one's by now.
        assert!(dom0.bind_interdomain(GUEST, port).is_err());
        exchange(&mut new, seed).unwrap();
    }
    assert_eq!(bed.fake.usage(GUEST).ports, ports);
    drop((new, page));
    bed.share.borrow_mut().unmap();
    bed.flat();
}

#[test]
fn a_hundred_connections_leave_nothing_behind() {
    for program in PROGRAMS {
        let bed = bed(program);
        let endpoints = follow(&bed);
        let held = || {
            bed.fake.settle();
            bed.xen.store.poll().unwrap();
            bed.fake.settle();
            bed.xen.grants.drain();
            let counters = bed.xen.grants.counters();
            (
                bed.fake.usage(GUEST),
                counters.used_refs + counters.quarantined_pages + counters.shared_pages,
                bed.xen.events.open_ports(),
                bed.xen.store.open_watches(),
            )
        };
        drop(connect(&bed, &endpoints).unwrap());
        let before = held();
        for round in 0..100 {
            let mut transport = connect(&bed, &endpoints).unwrap();
            exchange(&mut transport, round).unwrap();
            match round % 4 {
                0 => transport.close(),
                1 => bed.share.borrow_mut().kill(),
                2 => bed.set_back_state("5"),
                _ => {}
            }
            let _ = told(&bed, &endpoints);
            drop(transport);
            if round % 4 == 1 {
                bed.set_back_state("1");
                bed.share.borrow_mut().restart();
            }
            let _ = told(&bed, &endpoints);
            assert_eq!(held(), before, "round {round}");
        }
        drop(endpoints);
        bed.flat();
    }
}

/// A backend that never lets go of anything can't eat up the domain: there is an end to what it may hold, then an error
/// that says so, and once it lets go all is well.
#[test]
fn what_backends_hold_back_is_bounded() {
    let bed = bed_with(Program::Qemu, |share| {
        share.faulty(Faults {
            keeps_maps: true,
            ..Faults::default()
        })
    });
    let mut most = 0;
    let error = loop {
        match bed.connect() {
            Ok(transport) => drop(transport),
            Err(error) => break error,
        }
        most = most.max(bed.xen.grants.counters().quarantined_pages);
        assert!(most < 10_000, "it holds {most} pages");
    };
    assert!(
        matches!(
            error,
            ConnectError::Memory(GrantError::Quarantine(pages)) if pages == most
        ),
        "{error}"
    );
    assert!(bed.connect().is_err(), "still");
    assert_eq!(bed.xen.grants.counters().quarantined_pages, most);
    assert_eq!(bed.xen.grants.counters().shared_pages, 0);
    bed.share.borrow_mut().unmap();
    exchange(&mut bed.connect().unwrap(), 1).unwrap();
    bed.share.borrow_mut().unmap();
    bed.flat();
}

/// A device that takes the number of another between two looks is another one.
#[test]
fn a_device_in_the_place_of_another_is_told() {
    let bed = bed(Program::Qemu);
    let endpoints = follow(&bed);
    let mut connected = None;
    let mut number = 0;
    for (round, tag) in ["first", "second", "third", "fourth"]
        .into_iter()
        .enumerate()
    {
        let share = plug(&bed, 1, tag);
        bed.fake.settle();
        let mut expected = Vec::new();
        if round > 0 {
            let former = ["first", "second", "third"][round - 1];
            if connected.is_some() {
                expected.push(format!("1 {former}: disconnected ({number})"));
            }
            expected.push(format!("1 {former}: disappeared"));
        }
        expected.push(format!("1 {tag}: appeared"));
        if round % 2 == 0 {
            // Before anybody has looked.
            let device = xen9pfs::device(&bed.xen, Some(tag)).unwrap();
            connected = Some(endpoints.connect(device, &config()).unwrap());
            number += 1;
            expected.push(format!("1 {tag}: connected ({number})"));
        } else {
            connected = None;
        }
        let mut events = told(&bed, &endpoints);
        for event in &mut events {
            // Why it was lost depends on what is seen first.
            if let Some(end) = event.find("): ") {
                event.truncate(end + 1);
            }
        }
        assert_eq!(events, expected);
        unplug(&bed, &share);
        share.borrow_mut().kill();
        bed.fake.settle();
    }
    drop(connected);
}

/// What a resumed domain tells of its devices.
#[test]
fn devices_are_followed_into_the_domain_that_was_restored() {
    for looks in [true, false] {
        let bed = bed(Program::Qemu);
        let endpoints = follow(&bed);
        let former = connect(&bed, &endpoints).unwrap();
        assert_eq!(told(&bed, &endpoints), ["0 share: connected (1)"]);
        let restored = bed.xen.suspend(|| Ok(bed.restore(true, echo::handler())));
        restored.unwrap();
        let lost = "0 share: disconnected (1): connection to the 9P server lost";
        if looks {
            let events = told(&bed, &endpoints);
            assert!(
                events.len() == 1 && events[0].starts_with(lost),
                "{events:?}"
            );
        }
        let mut transport = connect(&bed, &endpoints).unwrap();
        drop(former);
        exchange(&mut transport, 1).unwrap();
        let events = told(&bed, &endpoints);
        assert_eq!(events.last().unwrap(), "0 share: connected (2)");
        assert!(looks || events[0].starts_with(lost), "{events:?}");
        bed.xen
            .suspend(|| Ok(bed.restore_without_share(false)))
            .unwrap();
        let events = told(&bed, &endpoints);
        assert!(
            events.len() == 2 && events[1] == "0 share: disappeared",
            "{events:?}"
        );
        drop((transport, endpoints));
        bed.flat();
    }
}

/// One device more than can be watched does not keep a program from following the others.
#[test]
fn a_device_that_cannot_be_watched_is_left_out() {
    let bed = bed(Program::Qemu);
    let endpoints = follow(&bed);
    bed.fake.store_faults(|faults| {
        faults.refuse.insert(Kind::WATCH, "ENOSPC");
    });
    drop(plug(&bed, 1, "refused"));
    assert!(told(&bed, &endpoints).is_empty());
    bed.fake.store_faults(|faults| faults.refuse.clear());
    drop(plug(&bed, 2, "later"));
    assert_eq!(told(&bed, &endpoints), ["2 later: appeared"]);
}

/// An attempt to connect anew may fail before it has touched the device. The earlier connection is over then, and
/// ends in good order.
#[test]
fn a_connection_that_was_to_be_replaced_in_vain_is_closed() {
    let bed = bed(Program::Qemu);
    let endpoints = follow(&bed);
    let first = connect(&bed, &endpoints).unwrap();
    bed.fake.store_faults(|faults| {
        faults.refuse.insert(Kind::WATCH, "ENOSPC");
    });
    connect(&bed, &endpoints).map(drop).unwrap_err();
    bed.fake.store_faults(|faults| faults.refuse.clear());
    drop(first);
    assert_eq!(bed.share.borrow().states(), (Closed, Closed));
    drop(endpoints);
    bed.flat();
}

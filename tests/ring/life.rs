//! Devices may appear, be connected and disconnected, and disappear while the domain runs; each change is told once,
//! and nothing is left behind.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use xen9p::hypercall::DomId;
use xen9p::transport::xen9pfs::{self, Change, ConnectError, EndpointEvent, Endpoints, Xen9pfs};
use xen9p::transport::{Transport, TransportError};
use xen9p::xen::grant::GrantError;
use xen9p::xen::store::wire::Kind;
use xen9p::xen::store::{Access, Permission, StoreError};
use xen9p::xen::xenbus::XenbusState::Closed;
use xen9p_testing::backend::{Faults, Program, Share, echo};
use xen9p_testing::bed::guest::{Bed, GUEST, PROGRAMS, bed, bed_with, config, exchange};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

const SECOND: Duration = Duration::from_secs(1);

fn follow(bed: &Bed) -> Endpoints<FakePlatform> {
    let endpoints = Endpoints::new(&bed.xen).unwrap();
    assert_eq!(told(bed, &endpoints), ["0 share: appeared"]);
    endpoints
}

/// All events that there are, as people read them.
fn told(bed: &Bed, endpoints: &Endpoints<FakePlatform>) -> Vec<String> {
    bed.fake.settle();
    let mut told = Vec::new();
    while let Some(event) = endpoints.next().unwrap() {
        told.push(event.to_string());
        assert!(told.len() < 100, "no end of it: {told:?}");
    }
    told
}

fn connect(
    bed: &Bed,
    endpoints: &Endpoints<FakePlatform>,
) -> Result<Xen9pfs<FakePlatform>, ConnectError> {
    let device = xen9pfs::device(&bed.xen, Some("share"))?;
    endpoints.connect(device, &config())
}

/// Another device with the program that serves it.
fn plug(bed: &Bed, id: u32, tag: &str) -> Rc<RefCell<Share>> {
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
    let removed = TransportError::Lost("the device was removed");
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

/// Xenstored falls silent after so many turns, once.
struct Silence(Rc<Cell<Option<u32>>>);

impl Peer for Silence {
    fn step(&mut self, xen: &FakeXen) -> bool {
        match self.0.get() {
            Some(0) => xen.store_faults(|faults| faults.mute = true),
            None => return false,
            Some(_) => {}
        }
        self.0
            .set(self.0.get().and_then(|turns| turns.checked_sub(1)));
        false
    }
}

/// Has xenstored fall silent after so many turns; ends that by what it returns.
fn silence(bed: &Bed, turns: u32) -> impl Fn() {
    let left = Rc::new(Cell::new(Some(turns)));
    bed.fake.add_peer(Silence(left.clone()));
    let fake = bed.fake.clone();
    move || {
        left.set(None);
        fake.store_faults(|faults| faults.mute = false);
    }
}

/// Whenever xenstored falls silent while a change is looked into: the change is told once it answers again.
#[test]
fn what_xenstored_did_not_answer_is_looked_into_again() {
    type Deed = fn(&Bed);
    let deeds: [(&str, Deed); 2] = [
        ("1 later: appeared", |bed| drop(plug(bed, 1, "later"))),
        ("0 share: disappeared", |bed| {
            bed.share.borrow_mut().kill();
            let online = format!("{}/online", bed.share.borrow().back());
            bed.fake.dom0().write(&online, "0");
            bed.set_back_state("6");
        }),
    ];
    for (expected, deed) in deeds {
        let mut silences = 0;
        for turns in 0..20 {
            let bed = bed(Program::Qemu);
            let endpoints = follow(&bed);
            deed(&bed);
            for _ in 0..10 {
                bed.fake.settle();
                bed.xen.store.poll().unwrap();
            }
            let speak = silence(&bed, turns);
            let mut events = Vec::new();
            loop {
                match endpoints.next() {
                    Ok(Some(event)) => events.push(event.to_string()),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error, ConnectError::Store(StoreError::Timeout));
                        silences += 1;
                        speak();
                    }
                }
            }
            speak();
            events.extend(told(&bed, &endpoints));
            assert_eq!(events, [expected], "silent after {turns} turns");
        }
        assert!(silences > 0);
    }
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

/// Whenever xenstored falls silent while a device is connected: nothing is lost by it.
#[test]
fn a_silence_at_any_moment_of_connecting_leaves_nothing_behind() {
    for program in PROGRAMS {
        let (mut failed, mut worked) = (0, 0);
        for turns in (0..60).chain((60..200).step_by(7)) {
            let bed = bed(program);
            for _ in 0..2 {
                let speak = silence(&bed, turns);
                match bed.connect() {
                    Ok(transport) => {
                        worked += 1;
                        speak();
                        drop(transport);
                    }
                    Err(_) => failed += 1,
                }
                speak();
                bed.fake.settle();
            }
            exchange(&mut bed.connect().unwrap(), 1).unwrap();
            bed.flat();
        }
        assert!(
            failed > 20 && worked > 5,
            "{failed} failed, {worked} worked"
        );
    }
}

/// Whenever xenstored falls silent while either side disconnects a device: nothing is lost by it.
#[test]
fn a_silence_at_any_moment_of_disconnecting_leaves_nothing_behind() {
    for program in PROGRAMS {
        for turns in 0..40 {
            for loses in [false, true] {
                let bed = bed(program);
                let mut transport = bed.connect().unwrap();
                let speak = silence(&bed, turns);
                if loses {
                    bed.set_back_state("5");
                    let _ = transport.wait(bed.fake.now() + 2 * SECOND);
                }
                drop(transport);
                speak();
                bed.fake.settle();
                exchange(&mut bed.connect().unwrap(), 1).unwrap();
                bed.flat();
            }
        }
    }
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever becomes of a device's nodes, whenever the guest connects and looks, and whenever xenstored falls
    /// silent: what it is told is a life and comes to what is there, and nothing is left behind.
    #[test]
    fn any_device_has_a_life(
        deeds in prop::collection::vec((0_u32..16, 0_u32..12), 1..25),
    ) {
        /// A domain that writes to the device's nodes while others wait.
        struct Nuisance {
            deeds: Vec<(u32, u32)>,
            front: String,
            back: String,
        }
        impl Peer for Nuisance {
            fn step(&mut self, xen: &FakeXen) -> bool {
                let Some((deed, state)) = self.deeds.pop() else { return false };
                let (front, back) = (&self.front, &self.back);
                let dom0 = xen.dom0();
                match deed {
                    0 => dom0.rm(back),
                    1 => dom0.rm(front),
                    2 => dom0.write(&format!("{front}/backend"), back),
                    3 => dom0.write(&format!("{back}/online"), (state % 2).to_string()),
                    4 => dom0.write(&format!("{front}/state"), state.to_string()),
                    5 => dom0.write(&format!("{front}/tag"), format!("tag{}", state % 3)),
                    6 => dom0.write(&format!("{front}/backend-id"), (state % 2).to_string()),
                    _ => dom0.write(&format!("{back}/state"), state.to_string()),
                }
                true
            }
        }
        let bed = bed(Program::Qemu);
        let endpoints = Endpoints::new(&bed.xen).unwrap();
        let (front, back) = {
            let share = bed.share.borrow();
            (share.front().to_owned(), share.back().to_owned())
        };
        let mut deeds = deeds;
        let mut events = Vec::new();
        let mut transport: Option<Xen9pfs<FakePlatform>> = None;
        while !deeds.is_empty() {
            let some = deeds.split_off(deeds.len().saturating_sub(4));
            let acts = some[0].0;
            let nuisance = Nuisance { deeds: some, front: front.clone(), back: back.clone() };
            bed.fake.add_peer(nuisance);
            let speak = silence(&bed, 4 * acts + deeds.len() as u32);
            match acts % 3 {
                0 => {
                    drop(transport.take());
                    let device = xen9pfs::device(&bed.xen, None);
                    let mut brief = config();
                    brief.timeout = SECOND;
                    transport = device
                        .and_then(|device| endpoints.connect(device, &brief))
                        .ok();
                }
                1 => transport = None,
                _ => {
                    if let Some(transport) = &mut transport {
                        let _ = transport.wait(bed.fake.now() + SECOND);
                    }
                }
            }
            loop {
                match endpoints.next() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        prop_assert_eq!(error, ConnectError::Store(StoreError::Timeout));
                        speak();
                    }
                }
                prop_assert!(events.len() < 400);
            }
            speak();
        }
        drop(transport);
        // Whether it is online is only looked at when its state is written.
        if let Some(state) = bed.fake.dom0().read(&format!("{back}/state")) {
            bed.fake.dom0().write(&format!("{back}/state"), state);
        }
        bed.fake.settle();
        while let Some(event) = endpoints.next().unwrap() {
            events.push(event);
        }
        let (mut there, mut connected) = (false, None);
        for event in &events {
            match event.change {
                Change::Appeared => prop_assert!(!std::mem::replace(&mut there, true)),
                Change::Connected(number) => {
                    prop_assert!(there);
                    prop_assert_eq!(connected.replace(number), None);
                }
                Change::Disconnected(number) => {
                    prop_assert_eq!(connected.take(), Some(number));
                    prop_assert!(event.why.is_some());
                }
                Change::Disappeared => {
                    prop_assert_eq!(connected, None);
                    prop_assert!(std::mem::replace(&mut there, false));
                }
            }
        }
        prop_assert_eq!(connected, None, "all are closed");
        // As far as the guest may know.
        let guest = bed.fake.domain(GUEST);
        let node = |path: &str, name: &str| guest.read_text(&format!("{path}/{name}"));
        let named = node(&front, "backend").is_some() && node(&front, "backend-id").is_some();
        let usable = match node(&back, "state").as_deref() {
            Some("5" | "6") => node(&back, "online").as_deref() == Some("1"),
            Some("1" | "2" | "3" | "4" | "7" | "8") => true,
            _ => false,
        };
        prop_assert_eq!(there, named && usable, "what was told is what is there");
        drop(endpoints);
        bed.share.borrow_mut().kill();
        bed.flat();
    }
}

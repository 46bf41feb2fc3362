//! A xenstored that falls silent at any moment of a device's life costs what is asked for then, and nothing else.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Change, ConnectError, Endpoints, Xen9pfs};
use xen9p::xen::store::StoreError;
use xen9p_testing::backend::Program;
use xen9p_testing::bed::guest::{Bed, GUEST, PROGRAMS, bed, config, exchange};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

use super::life::{SECOND, follow, plug, told};

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

/// Whenever xenstored falls silent while a device is connected: nothing is lost by it.
#[test]
fn a_silence_at_any_moment_of_connecting_leaves_nothing_behind() {
    for program in PROGRAMS {
        let (mut failed, mut worked) = (0, 0);
        for turns in (0..60).chain((60..200).step_by(7)) {
            let bed = bed(program);
            for _ in 0..3 {
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
        let endpoints = Endpoints::new(&bed.xen);
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

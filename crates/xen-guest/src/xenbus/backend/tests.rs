use super::*;
use XenbusState::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// A device with a frontend, a toolstack and a worker, and a broker that does what the machine says.
struct World {
    machine: Machine,
    view: View,
    now: Instant,
    worker: Option<Life>,
    /// What the broker did since this was looked at.
    done: Vec<Step>,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Starting,
    Serving,
    Told,
}

/// What the others can do.
#[derive(Clone, Debug)]
enum Move {
    Frontend(u32),
    Rings(u32),
    BadOffer,
    Ready,
    Dies,
    Ends,
    Time(u64),
    Unplug,
    Backend(u32),
    Vanish,
    Restart,
}

fn offer(number: u32) -> Offer {
    let rings = vec![(number, number + 1)];
    Offer { rings }
}

impl World {
    fn new() -> World {
        World {
            machine: Machine::new(),
            view: View {
                present: true,
                online: true,
                backend: Initialising,
                frontend: Initialising,
                offer: Err("no rings".into()),
            },
            now: Instant::from_nanos(1_000_000_000),
            worker: None,
            done: Vec::new(),
            over: false,
        }
    }

    /// Lets the broker do all it wants to; returns until when it waits.
    fn settle(&mut self) -> Option<Instant> {
        for _ in 0..20 {
            let step = self.machine.next(&self.view, self.now);
            self.done.push(step.clone());
            match step {
                Step::Invite => {
                    assert!(self.view.present && self.view.online);
                    assert_ne!(self.view.backend, InitWait, "written twice");
                    assert_eq!(self.worker, None, "a worker still has the rings");
                    self.view.backend = InitWait;
                }
                Step::Set(state) => {
                    assert!(self.view.present, "a node is made anew");
                    assert_ne!(state, self.view.backend, "written twice");
                    assert!(matches!(state, Connected | Closing | Closed), "{state}");
                    match state {
                        Connected => assert_eq!(self.worker, Some(Life::Serving)),
                        // The frontend takes these for leave to take its pages back, unless it is the toolstack that it
                        // is told of.
                        _ if self.view.online || state == Closed => {
                            assert_eq!(self.worker, None, "the rings are mapped");
                        }
                        _ => {}
                    }
                    self.view.backend = state;
                }
                Step::Start(offer) => {
                    assert_eq!(self.worker, None, "two workers");
                    assert_eq!(self.view.offer, Ok(offer));
                    self.worker = Some(Life::Starting);
                }
                Step::Stop => {
                    assert!(matches!(self.worker, Some(Life::Starting | Life::Serving)));
                    self.worker = Some(Life::Told);
                }
                Step::Kill => {
                    assert_eq!(self.worker, Some(Life::Told));
                    self.worker = None;
                    self.machine.worker_is_gone(None);
                }
                Step::Report(_) => {}
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "no end of it");
                    return until;
                }
                Step::Forget => {
                    assert!(!self.view.present);
                    assert_eq!(self.worker, None, "a worker is left behind");
                    self.over = true;
                    return None;
                }
            }
        }
        panic!("the broker never rests: {:?}", self.done);
    }

    fn make(&mut self, step: &Move) {
        match *step {
            Move::Frontend(state) => self.view.frontend = XenbusState::from_number(state),
            Move::Rings(number) => self.view.offer = Ok(offer(number)),
            Move::BadOffer => self.view.offer = Err("nine rings".into()),
            Move::Ready => {
                if self.worker == Some(Life::Starting) {
                    self.worker = Some(Life::Serving);
                    self.machine.worker_is_ready();
                }
            }
            Move::Dies => {
                if self.worker.take().is_some() {
                    self.machine.worker_is_gone(Some("it met a lie".into()));
                }
            }
            Move::Ends => {
                if self.worker == Some(Life::Told) {
                    self.worker = None;
                    self.machine.worker_is_gone(None);
                }
            }
            Move::Time(millis) => self.now = self.now + Duration::from_millis(millis),
            Move::Unplug => {
                if self.view.present {
                    self.view.online = false;
                    if self.view.backend != Closed {
                        self.view.backend = Closing;
                    }
                }
            }
            Move::Backend(state) => {
                if self.view.present {
                    self.view.backend = XenbusState::from_number(state);
                }
            }
            Move::Vanish => {
                self.view.present = false;
                self.view.frontend = Unknown;
                self.view.backend = Unknown;
            }
            Move::Restart => {
                self.machine = match (self.worker, &self.view.offer) {
                    (Some(Life::Serving), Ok(offer)) => Machine::adopting(offer.clone()),
                    _ => {
                        // A daemon that finds no worker that serves ends what is left.
                        self.worker = None;
                        Machine::new()
                    }
                };
            }
        }
    }

    /// Lets everything come to rest: workers do what they are told, time passes.
    fn rest(&mut self) {
        for _ in 0..50 {
            let until = self.settle();
            if self.over {
                return;
            }
            match self.worker {
                Some(Life::Starting) => self.make(&Move::Ready),
                Some(Life::Told) => self.make(&Move::Ends),
                _ => match until {
                    Some(until) => self.now = until,
                    None => return,
                },
            }
        }
        panic!("no rest: {:?}", self.done);
    }
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0u32..9).prop_map(Move::Frontend),
        3 => (1u32..4).prop_map(Move::Rings),
        1 => Just(Move::BadOffer),
        3 => Just(Move::Ready),
        1 => Just(Move::Dies),
        3 => Just(Move::Ends),
        3 => (0u64..9000).prop_map(Move::Time),
        1 => Just(Move::Unplug),
        1 => (1u32..7).prop_map(Move::Backend),
        1 => Just(Move::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the others do: no state is written twice, no page is given back that is mapped, there is one worker at a
    /// time, and the broker comes to rest. At the end a frontend in good order is served, and a device that goes leaves
    /// nothing behind.
    #[test]
    fn nothing_leads_the_broker_astray(moves in prop::collection::vec(moves(), 0..60), stays: bool) {
        let mut world = World::new();
        for step in &moves {
            world.make(step);
            world.settle();
        }
        if stays && world.view.online {
            for state in [5, 6, 1] {
                world.make(&Move::Frontend(state));
                world.rest();
            }
            prop_assert_eq!(world.view.backend, InitWait);
            world.make(&Move::Rings(9));
            world.make(&Move::Frontend(3));
            world.rest();
            prop_assert_eq!(world.view.backend, Connected);
            world.make(&Move::Frontend(4));
            world.rest();
            prop_assert_eq!(world.worker, Some(Life::Serving));
        }
        world.make(&Move::Unplug);
        world.rest();
        prop_assert_eq!((world.view.backend, world.worker), (Closed, None));
        world.make(&Move::Vanish);
        world.rest();
        prop_assert!(world.over);
    }
}

fn connected() -> World {
    let mut world = World::new();
    world.rest();
    assert_eq!(world.view.backend, InitWait);
    world.make(&Move::Rings(1));
    world.make(&Move::Frontend(3));
    world.rest();
    assert_eq!(world.view.backend, Connected);
    world.make(&Move::Frontend(4));
    world.rest();
    world.done.clear();
    world
}

#[test]
fn a_frontend_that_goes_is_followed_once_its_pages_are_free() {
    let mut world = connected();
    world.make(&Move::Frontend(5));
    world.rest();
    assert_eq!(world.view.backend, Closing);
    world.make(&Move::Frontend(6));
    world.rest();
    assert_eq!(world.view.backend, Closed);
    world.make(&Move::Frontend(1));
    world.rest();
    assert_eq!(world.view.backend, InitWait);
}

#[test]
fn a_frontend_that_offers_its_rings_right_after_it_was_closed_is_connected() {
    let mut world = connected();
    for state in [5, 6] {
        world.make(&Move::Frontend(state));
        world.rest();
    }
    world.make(&Move::Rings(2));
    world.make(&Move::Frontend(3));
    world.rest();
    assert_eq!(world.view.backend, Connected);
}

#[test]
fn another_kernel_that_begins_without_a_word_gets_a_worker_of_its_own() {
    for frontend in [1, 3] {
        let mut world = connected();
        world.make(&Move::Frontend(frontend));
        world.rest();
        assert!(world.done.contains(&Step::Stop));
        let state = if frontend == 1 { InitWait } else { Connected };
        assert_eq!(world.view.backend, state);
    }
}

#[test]
fn a_worker_that_dies_costs_the_connection_and_is_reported_once() {
    let mut world = connected();
    world.make(&Move::Dies);
    world.rest();
    assert_eq!(world.view.backend, Closed);
    let reports = |world: &World| {
        let reports = world.done.iter();
        reports
            .filter(|step| matches!(step, Step::Report(_)))
            .count()
    };
    assert_eq!(reports(&world), 1);
    world.make(&Move::Frontend(6));
    world.make(&Move::Frontend(1));
    world.rest();
    assert_eq!(world.view.backend, InitWait);
    assert_eq!(reports(&world), 1);
}

#[test]
fn an_offer_that_is_refused_is_not_tried_again_before_the_frontend_has_moved() {
    let mut world = World::new();
    world.rest();
    world.make(&Move::BadOffer);
    world.make(&Move::Frontend(3));
    world.rest();
    assert_eq!(world.view.backend, Closed);
    world.make(&Move::Rings(1));
    world.rest();
    assert_eq!(world.worker, None);
    for state in [6, 1] {
        world.make(&Move::Frontend(state));
        world.rest();
    }
    world.make(&Move::Frontend(3));
    world.rest();
    assert_eq!(world.view.backend, Connected);
}

#[test]
fn a_frontend_that_connects_without_end_is_slowed_down() {
    let mut world = connected();
    let begin = world.now;
    for number in 0..100 {
        for state in [5, 6, 1] {
            world.make(&Move::Frontend(state));
            world.rest();
        }
        world.make(&Move::Rings(number));
        world.make(&Move::Frontend(3));
        world.rest();
        assert_eq!(world.view.backend, Connected);
    }
    assert!(world.now - begin > PAUSE * 70, "{:?}", world.now - begin);
}

#[test]
fn a_frontend_has_its_time_to_follow_the_toolstack_and_no_more() {
    let mut world = connected();
    world.make(&Move::Unplug);
    world.settle();
    assert_eq!(
        (world.view.backend, world.worker),
        (Closing, Some(Life::Serving))
    );
    world.make(&Move::Time(2900));
    world.settle();
    assert_eq!(world.worker, Some(Life::Serving));
    world.make(&Move::Time(200));
    world.rest();
    assert_eq!((world.view.backend, world.worker), (Closed, None));
}

#[test]
fn a_worker_that_does_not_end_is_killed() {
    let mut world = connected();
    world.make(&Move::Frontend(5));
    world.settle();
    world.make(&Move::Time(4900));
    world.settle();
    assert!(!world.done.contains(&Step::Kill));
    assert_eq!(world.view.backend, Connected);
    world.make(&Move::Time(200));
    world.settle();
    assert!(world.done.contains(&Step::Kill));
    assert_eq!(world.view.backend, Closing);
}

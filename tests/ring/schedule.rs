//! No wake-up is lost: frontend and backend, each a sequence of small steps, are run in every order and always finish
//! (docs/speed.md). With few requests every state that any order leads to is visited; with more, every order with up to
//! three forced switches is run.
//!
//! The frontend looks at the ring only after it has taken an event, and sleeps until there is one;
//! so does the backend. A lost wake-up is a state in which both sleep.

use std::collections::HashSet;

use xen9p::transport::xen9pfs::ring::{Order, Ring};
use xen9p_testing::backend::{Backend, Daemon, PlainRing, Qemu, RingView, Step, Trouble, echo};

/// The exchange that is run: so many requests, their replies' length, and what the frontend
/// believes (wrongly, in some cases) that to be at most.
#[derive(Clone, Copy)]
struct Plan {
    requests: u32,
    reply: u32,
    budget: u32,
}

#[derive(Debug)]
enum At {
    TakeEvent,
    Receive,
    Send,
    Flush,
    Sleep,
}

struct Frontend {
    plan: Plan,
    ring: Ring,
    at: At,
    sent: u32,
    received: u32,
}

impl Frontend {
    /// One step. `pending` is the event channel's bit. False when it sleeps.
    fn step(&mut self, pending: &mut bool, backend: &mut dyn Backend) -> bool {
        let Plan { reply, budget, .. } = self.plan;
        self.at = match self.at {
            At::TakeEvent => {
                *pending = false;
                At::Receive
            }
            At::Receive => match self.ring.peek().unwrap() {
                Some(_) => {
                    self.ring.consume();
                    self.ring.release(budget);
                    self.received += 1;
                    At::Receive
                }
                None => At::Send,
            },
            At::Send => {
                let request = echo::request(100, echo::PATIENT, 0, reply, self.sent);
                if self.sent < self.plan.requests && self.ring.send(&[&request], budget).unwrap() {
                    self.sent += 1;
                    At::Send
                } else {
                    At::Flush
                }
            }
            At::Flush => {
                if self.ring.take_event_due() {
                    backend.event(0);
                }
                At::Sleep
            }
            At::Sleep if *pending => At::TakeEvent,
            At::Sleep => return false,
        };
        true
    }
}

/// Runs once, switching sides after each of the step counts in `switches`; returns the number of
/// steps taken.
fn run(plan: Plan, make: &dyn Fn(&PlainRing) -> Box<dyn Backend>, switches: &[usize]) -> usize {
    let memory = PlainRing::new(Order::MIN);
    let ring = memory.frontend(u32::MAX - 5000);
    let mut backend = make(&memory);
    let mut frontend = Frontend {
        plan,
        ring,
        at: At::Receive,
        sent: 0,
        received: 0,
    };
    let mut pending = false;
    let mut front = true;
    let mut steps = 0;
    let mut stuck = 0;
    while frontend.received < plan.requests {
        let moved = if front {
            frontend.step(&mut pending, &mut *backend)
        } else {
            let step = backend.step(0);
            pending |= step == Step::Event;
            step != Step::Idle
        };
        stuck = if moved { 0 } else { stuck + 1 };
        assert!(
            stuck < 2,
            "both sides sleep after {steps} steps with switches at {switches:?}"
        );
        steps += 1;
        if !moved || switches.contains(&steps) {
            front = !front;
        }
    }
    assert!(backend.serving());
    assert!(
        !backend.troubles().iter().any(|t| *t != Trouble::Overwrite),
        "{switches:?}"
    );
    steps
}

/// Every schedule with up to three forced switches.
fn explore(plan: Plan, make: &dyn Fn(&PlainRing) -> Box<dyn Backend>) {
    let longest = run(plan, make, &[]) + 10;
    let mut schedules = 0;
    for a in 1..longest {
        for b in a + 1..longest {
            for c in b + 1..=longest {
                run(plan, make, &[a, b, c]);
                schedules += 1;
            }
        }
    }
    assert!(schedules > 1000);
}

/// Both sides after some steps, `true` for one of the frontend's.
struct World {
    frontend: Frontend,
    backend: Box<dyn Backend>,
    pending: bool,
    /// Whether the side that moved last could not.
    stuck: [bool; 2],
}

impl World {
    fn after(
        plan: Plan,
        memory: &PlainRing,
        make: &dyn Fn(&PlainRing) -> Box<dyn Backend>,
        steps: &[bool],
    ) -> World {
        let mut world = World {
            frontend: Frontend {
                plan,
                ring: memory.frontend(u32::MAX - 3000),
                at: At::Receive,
                sent: 0,
                received: 0,
            },
            backend: make(memory),
            pending: false,
            stuck: [false; 2],
        };
        for &front in steps {
            let moved = if front {
                world.frontend.step(&mut world.pending, &mut *world.backend)
            } else {
                let step = world.backend.step(0);
                world.pending |= step == Step::Event;
                step != Step::Idle
            };
            world.stuck = if moved { [false; 2] } else { world.stuck };
            world.stuck[usize::from(front)] = !moved;
        }
        world
    }

    /// All that decides what comes next: both sides, and the words that they share.
    fn state(&self, memory: &PlainRing) -> String {
        let words = memory.backend();
        let shared: Vec<u32> = [
            RingView::IN_CONS,
            RingView::IN_PROD,
            RingView::OUT_CONS,
            RingView::OUT_PROD,
        ]
        .map(|word| words.get(word))
        .into();
        let Frontend {
            ring,
            at,
            sent,
            received,
            ..
        } = &self.frontend;
        let (pending, stuck) = (self.pending, self.stuck);
        let inner = self.backend.inner_state(0);
        format!("{ring:?} {at:?} {sent} {received} {inner} {pending} {stuck:?} {shared:?}")
    }
}

/// Visits every state that there is, whatever the order of the steps.
fn visit_all(plan: Plan, make: &dyn Fn(&PlainRing) -> Box<dyn Backend>) {
    let memory = PlainRing::new(Order::MIN);
    let mut known = HashSet::new();
    let mut ways = vec![Vec::new()];
    let mut finished = 0;
    while let Some(way) = ways.pop() {
        let world = World::after(plan, &memory, make, &way);
        if !known.insert(world.state(&memory)) {
            continue;
        }
        assert!(known.len() < 200_000, "too many states");
        if world.frontend.received == plan.requests {
            finished += 1;
            continue;
        }
        assert_ne!(world.stuck, [true; 2], "both sides sleep after {way:?}");
        for front in [false, true] {
            ways.push(way.iter().copied().chain([front]).collect());
        }
    }
    assert!(finished > 0 && known.len() > 50, "{} states", known.len());
}

#[test]
fn no_state_that_can_be_reached_is_one_in_which_both_sleep() {
    for budget in [2000, 7, 0] {
        let plan = Plan {
            requests: 3,
            reply: 2000,
            budget,
        };
        visit_all(plan, &qemu);
        visit_all(plan, &daemon);
    }
}

fn qemu(memory: &PlainRing) -> Box<dyn Backend> {
    Box::new(Qemu::new(vec![memory.backend()], echo::handler()))
}

fn daemon(memory: &PlainRing) -> Box<dyn Backend> {
    Box::new(Daemon::new(vec![memory.backend()], echo::handler()))
}

/// More requests than the ring or the budget takes at once.
const WITHIN_BUDGET: Plan = Plan {
    requests: 6,
    reply: 2000,
    budget: 2000,
};

/// Replies longer than they should be: the backend runs out of room and waits for an event after
/// the frontend has consumed.
const BEYOND_BUDGET: Plan = Plan {
    requests: 6,
    reply: 1900,
    budget: 7,
};

#[test]
fn qemu_is_always_woken_and_wakes() {
    explore(WITHIN_BUDGET, &qemu);
}

#[test]
fn xen_9pfsd_is_always_woken_and_wakes() {
    explore(WITHIN_BUDGET, &daemon);
}

#[test]
fn qemu_out_of_room_is_always_woken() {
    explore(BEYOND_BUDGET, &qemu);
}

#[test]
fn xen_9pfsd_out_of_room_is_always_woken() {
    explore(BEYOND_BUDGET, &daemon);
}

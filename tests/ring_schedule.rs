//! No wake-up is lost: frontend and backend, each a sequence of small steps, are run in every order
//! with up to a number of switches between them, and always finish.
//!
//! The frontend looks at the ring only after it has taken an event, and sleeps until there is one;
//! so does the backend. A lost wake-up is a state in which both sleep.

use xen9p::transport::xen9pfs::ring::{Order, Ring};
use xen9p_testing::backend::{Backend, Daemon, PlainRing, Qemu, Step, Trouble, echo};

/// The exchange that is run: so many requests, their replies' length, and what the frontend
/// believes (wrongly, in some cases) that to be at most.
#[derive(Clone, Copy)]
struct Plan {
    requests: u32,
    reply: u32,
    budget: u32,
}

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

//! Frontend and backend on two processors at once, each asleep until the other wakes it, lose no message and no wake-
//! up, as far as a run can show that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use xen9p::transport::xen9pfs::ring::Order;
use xen9p_testing::backend::{Backend, Daemon, PlainRing, Qemu, RingView, Step, echo};

const MESSAGES: u32 = 20_000;

/// One direction of an event channel: a bit, and the thread that it wakes.
#[derive(Default)]
struct Event(AtomicBool);

impl Event {
    fn send(&self, receiver: &Thread) {
        self.0.store(true, Ordering::SeqCst);
        receiver.unpark();
    }

    fn wait(&self, who: &str) {
        while !self.0.swap(false, Ordering::SeqCst) {
            let start = std::time::Instant::now();
            thread::park_timeout(Duration::from_secs(20));
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{who} was never woken"
            );
        }
    }
}

/// Exchanges messages whose replies have `reply` bytes where the frontend expects up to `budget`.
fn exchange(make: fn(&PlainRing) -> Box<dyn Backend>, reply: u32, budget: u32) {
    let memory = PlainRing::new(Order::MIN);
    let mut ring = memory.frontend(u32::MAX - 1_000_000);
    let (to_back, to_front, done) = (Event::default(), Event::default(), AtomicBool::new(false));
    let front = thread::current();
    thread::scope(|scope| {
        let back = scope.spawn(|| {
            let mut backend = make(&memory);
            loop {
                to_back.wait("the backend");
                if done.load(Ordering::SeqCst) {
                    break;
                }
                backend.event(0);
                loop {
                    match backend.step(0) {
                        Step::Idle => break,
                        Step::Progress => {}
                        Step::Event => to_front.send(&front),
                    }
                }
            }
            assert_eq!(backend.troubles(), []);
            assert!(backend.serving());
        });
        let back = back.thread();
        let (mut sent, mut received) = (0, 0);
        while received < MESSAGES {
            while let Some(header) = ring.peek().unwrap() {
                let mut bytes = vec![0; header.size as usize];
                ring.copy_out(0, &mut bytes);
                assert!(bytes == echo::reply(reply, echo::PATIENT, 9, received));
                ring.consume();
                ring.release(budget);
                received += 1;
            }
            while sent < MESSAGES {
                let request = echo::request(50, echo::PATIENT, 9, reply, sent);
                if !ring.send(&[&request], budget).unwrap() {
                    break;
                }
                sent += 1;
            }
            if ring.take_event_due() {
                to_back.send(back);
            }
            if received < sent {
                to_front.wait("the frontend");
            }
        }
        done.store(true, Ordering::SeqCst);
        to_back.send(back);
    });
}

fn qemu(memory: &PlainRing) -> Box<dyn Backend> {
    Box::new(Qemu::new(vec![memory.backend()], echo::handler()))
}

fn daemon(memory: &PlainRing) -> Box<dyn Backend> {
    Box::new(Daemon::new(vec![memory.backend()], echo::handler()))
}

#[test]
fn within_the_budget() {
    exchange(qemu, 700, 700);
    exchange(daemon, 700, 700);
}

#[test]
fn with_backends_that_run_out_of_room() {
    exchange(qemu, 1900, 40);
    exchange(daemon, 1900, 40);
}

/// QEMU never looks again at a ring on which it has seen a part of a request.
#[test]
fn a_request_in_parts_becomes_visible_at_once() {
    const LEN: u32 = 2000;
    let memory = PlainRing::new(Order::MIN);
    let mut ring = memory.frontend(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let view = memory.backend();
            while !done.load(Ordering::SeqCst) {
                let seen = view.get(RingView::OUT_PROD);
                assert_eq!(seen % LEN, 0, "a part of a request was visible");
                view.set(RingView::OUT_CONS, seen);
            }
        });
        let request = [0; LEN as usize];
        let (header, body) = request.split_at(7);
        for _ in 0..MESSAGES / 4 {
            while !ring.send(&[header, body], 0).unwrap() {
                assert!(!watcher.is_finished());
                std::hint::spin_loop();
            }
        }
        done.store(true, Ordering::SeqCst);
    });
}

//! No order of polls, pumps and waits loses a wake-up, and none is told twice.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::p9::wire::kind;
use xen9p_testing::server::lanes::LaneOptions;

use super::{Callback, LATENCY, connect_by, noop, reading, server, site};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Poll,
    Pump,
    Wait,
    /// Another operation, run to its end.
    Other,
}

const STEPS: [Step; 4] = [Step::Poll, Step::Pump, Step::Wait, Step::Other];

/// Runs the steps with an operation whose reply comes before the step `arrival`. The first wait after that must not sleep
/// to its deadline, unless the operation has been polled in between: then it is over.
fn explore(steps: &[Step], arrival: usize) {
    const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
    let (server, callback) = (server(), Callback::default());
    let options = LaneOptions {
        lanes: 2,
        // Others overtake what hangs.
        in_order: false,
        ..LaneOptions::default()
    };
    let (calling, control) = connect_by(options, &server, &callback);
    let fs = Fs::mount(calling, &MountOptions::new()).unwrap();
    let session = fs.to_async().session().clone();
    let file = fs.to_async();
    let file = session.block_on(file.open("/file")).unwrap();
    control.hold(&[kind::TREAD]);
    let mut buffer = [0; 7];
    let mut future = pin!(file.read_at(&mut buffer, 0));
    assert!(future.as_mut().poll(&mut noop()).is_pending());
    session.pump();
    for (at, step) in steps.iter().enumerate() {
        if at == arrival {
            control.release();
        }
        match step {
            Step::Poll => {
                if future.as_mut().poll(&mut noop()).is_ready() {
                    assert!(at >= arrival);
                    return;
                }
            }
            Step::Pump => session.pump(),
            Step::Other => {
                fs.metadata("/big").unwrap();
            }
            Step::Wait if at < arrival => session.wait(session.now() + LATENCY),
            Step::Wait => {
                let begun = session.now();
                session.wait(begun + WAIT_TIMEOUT);
                assert!(
                    session.now() < begun + WAIT_TIMEOUT,
                    "{steps:?}, reply at {arrival}"
                );
                let polled = future.as_mut().poll(&mut noop());
                assert!(polled.is_ready(), "{steps:?}, reply at {arrival}");
                return;
            }
        }
    }
}

#[test]
fn no_order_of_polls_pumps_and_waits_loses_a_wake_up() {
    for length in 1..=5_u32 {
        for number in 0..4_usize.pow(length) {
            let steps: Vec<Step> = (0..length)
                .map(|at| STEPS[number / 4_usize.pow(at) % 4])
                .collect();
            for arrival in 0..steps.len() {
                explore(&steps, arrival);
            }
        }
    }
}

#[test]
fn a_reply_that_nobody_polls_for_is_told_once() {
    let site = site();
    let session = site.fs.to_async().session().clone();
    let mut future = reading(&site.fs, "/file");
    assert!(future.as_mut().poll(&mut noop()).is_pending());
    session.wait(session.now() + Duration::from_secs(1));
    let waits = session.stats().waits;
    let begun = session.now();
    for _ in 0..3 {
        session.wait(session.now() + Duration::from_secs(1));
    }
    // They sleep instead of going round.
    assert_eq!(session.now(), begun + Duration::from_secs(3));
    assert!(session.stats().waits >= waits + 3);
    drop((future, session));
    site.finish();
}

/// What the hook serves to other domains is answered when their event comes, not when time is up.
#[test]
fn the_idle_hook_sees_each_event_that_ends_a_wait() {
    const EVENTS: u32 = 3;
    let site = site();
    let begin = site.fs.to_async().session().now();
    let times = Rc::new(RefCell::new(Vec::new()));
    let (seen, session) = (times.clone(), site.fs.to_async().session().clone());
    let control = site.control.clone();
    site.fs.set_idle_hook(Some(Box::new(move || {
        let mut seen = seen.borrow_mut();
        seen.push(session.now() - begin);
        if seen.len() > EVENTS as usize {
            control.release();
        }
    })));
    site.control.hold(&[kind::TGETATTR]);
    site.foreign.set(EVENTS);
    site.fs.metadata("/file").unwrap();
    site.fs.set_idle_hook(None);
    assert_eq!(
        times.borrow()[..=EVENTS as usize],
        [Duration::ZERO; EVENTS as usize + 1]
    );
    site.finish();
}

/// A program that waits in the session for something else gets its turn.
#[test]
fn a_wait_ends_at_an_event_of_another_part_of_the_program() {
    let site = site();
    let fs = site.fs.to_async().clone();
    let session = fs.session().clone();
    let mut work = pin!(async move { fs.metadata("/file").await });
    site.control.hold(&[kind::TGETATTR]);
    assert!(work.as_mut().poll(&mut noop()).is_pending());
    let begin = session.now();
    site.foreign.set(1);
    while site.foreign.get() > 0 {
        session.wait(begin + Duration::from_secs(1));
    }
    assert_eq!(session.now(), begin);
    site.control.release();
    assert!(session.block_on(work.as_mut()).is_ok());
    drop(session);
    site.finish();
}

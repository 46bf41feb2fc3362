//! The console writes and reads in bounded time, with readers, without any, and with ones that lie.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::platform::{InUse, Platform, Resource};
use xen9p::time::Instant;
use xen9p::xen::console::{self, Console, ConsoleError, WRITE_TIMEOUT};
use xen9p::xen::event::Events;
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::random::content;

const GUEST: DomId = DomId(1);

fn guest() -> (FakeXen, Events<FakePlatform>, Console<FakePlatform>) {
    let xen = FakeXen::new();
    let events = Events::new(xen.add_domain(GUEST));
    let console = Console::open(&events).unwrap();
    (xen, events, console)
}

#[test]
fn output_of_any_length_arrives() {
    let (xen, _, console) = guest();
    let bytes = content(100_000);
    console.write(&bytes);
    xen.settle();
    assert_eq!(xen.console_output(GUEST), bytes);
    assert_eq!(console.dropped(), 0);
}

#[test]
fn text_gets_carriage_returns() {
    let (xen, _, console) = guest();
    console.write_text("one\ntwo\n\nthree");
    xen.settle();
    assert_eq!(xen.console_output(GUEST), b"one\r\ntwo\r\n\r\nthree");
}

#[test]
fn a_domain_has_one_console() {
    let (xen, events, console) = guest();
    let in_use = ConsoleError::InUse(InUse(Resource::ConsoleRing));
    assert_eq!(Console::open(&events).map(drop), Err(in_use));
    let clone = console.clone();
    drop(console);
    let other = Events::new(xen.platform(GUEST));
    assert_eq!(Console::open(&other).map(drop), Err(in_use));
    drop(clone);
    assert!(Console::open(&other).is_ok());
    let none = Console::open(&Events::new(xen.platform(DomId(0)))).map(drop);
    assert_eq!(none, Err(ConsoleError::Missing));
}

#[test]
fn nobody_is_waited_for_twice() {
    let (xen, events, console) = guest();
    xen.stall_console(GUEST, true);
    let before = xen.now();
    console.write(&content(2048));
    assert_eq!(console.dropped(), 0);
    console.write(&content(100));
    let waited = xen.now() - before;
    assert!(waited >= WRITE_TIMEOUT && waited < 2 * WRITE_TIMEOUT);
    for _ in 0..1000 {
        console.write(b"more");
    }
    assert!(xen.now() - before < 2 * WRITE_TIMEOUT);
    assert_eq!(console.dropped(), 4100);
    // The reader comes back: all is as before.
    xen.stall_console(GUEST, false);
    xen.settle();
    events.dispatch();
    console.write(&content(5000));
    xen.settle();
    assert_eq!(xen.console_output(GUEST).len(), 2048 + 5000);
    assert_eq!(console.dropped(), 4100);
}

#[test]
fn draining_is_bounded() {
    let (xen, events, console) = guest();
    console.write(b"last words");
    assert!(console.drain(events.now() + WRITE_TIMEOUT));
    assert_eq!(xen.console_output(GUEST), b"last words");
    xen.stall_console(GUEST, true);
    console.write(b"unheard");
    let deadline = events.now() + WRITE_TIMEOUT;
    assert!(!console.drain(deadline));
    assert!(xen.now() - deadline < Duration::from_millis(1));
}

#[test]
fn input_arrives_and_wakes_whoever_waits() {
    let (xen, events, console) = guest();
    let typed = content(3000);
    xen.console_input(GUEST, &typed);
    let mut got = Vec::new();
    let mut into = [0; 100];
    while got.len() < typed.len() {
        let seen = events.generation();
        let count = console.read(&mut into);
        got.extend_from_slice(&into[..count]);
        if count == 0 {
            // The simulation panics if no event would ever wake us.
            events.wait(seen, Instant::NEVER);
        }
    }
    assert_eq!(got, typed);
    assert_eq!(console.read(&mut into), 0);
}

#[test]
fn input_that_comes_while_output_waits_is_not_missed() {
    let (xen, events, console) = guest();
    let seen = events.generation();
    xen.console_input(GUEST, b"x");
    // Takes the events of the console's port while it waits for room.
    console.write(&content(10_000));
    let mut byte = [0; 1];
    events.wait(seen, Instant::NEVER);
    assert_eq!(console.read(&mut byte), 1);
}

#[test]
fn handlers_may_write_to_the_console_while_it_waits() {
    let (xen, events, console) = guest();
    let channel = events.alloc_unbound(DomId(0)).unwrap();
    let other = xen
        .dom0()
        .bind_interdomain(GUEST, channel.port().0)
        .unwrap();
    let calls = Rc::new(Cell::new(0));
    channel.on_event({
        let (console, calls) = (console.clone(), Rc::clone(&calls));
        move || {
            console.write(&content(4000));
            calls.set(calls.get() + 1);
        }
    });
    xen.dom0().send(other);
    console.write(&content(4000));
    events.dispatch();
    xen.settle();
    assert_eq!(calls.get(), 1);
    assert_eq!(xen.console_output(GUEST).len(), 8000);
}

#[test]
fn lying_indices_cost_output_and_nothing_else() {
    let (xen, events, console) = guest();
    let page = xen.platform(GUEST).console_ring().unwrap().page;
    for offset in [3076 / 4, 3080 / 4] {
        // SAFETY: an aligned word inside the page.
        unsafe { page.cast::<u32>().add(offset).write_volatile(0x4000_0000) };
    }
    let before = xen.now();
    console.write(b"this is not read");
    assert_eq!(console.dropped(), 16);
    assert_eq!(console.read(&mut [0; 4]), 0);
    assert!(!console.drain(events.now() + WRITE_TIMEOUT));
    assert!(xen.now() - before < WRITE_TIMEOUT);
}

#[test]
fn an_emergency_needs_nothing_but_the_ring() {
    let (xen, events, console) = guest();
    console.write(b"before, ");
    let platform = events.platform();
    let long = "panic\n".repeat(1000);
    console::emergency_write(platform, &long, WRITE_TIMEOUT);
    assert!(console::emergency_drain(platform, WRITE_TIMEOUT));
    let expected = format!("before, {}", "panic\r\n".repeat(1000));
    assert_eq!(xen.console_output(GUEST), expected.as_bytes());
}

#[test]
fn an_emergency_is_not_held_up_by_a_reader_that_is_not_there() {
    let (xen, events, _console) = guest();
    let platform = events.platform();
    xen.stall_console(GUEST, true);
    let long = "panic\n".repeat(1000);
    let before = xen.now();
    console::emergency_write(platform, &long, WRITE_TIMEOUT);
    assert!(!console::emergency_drain(platform, WRITE_TIMEOUT));
    let waited = xen.now() - before;
    assert!(waited >= WRITE_TIMEOUT && waited < 3 * WRITE_TIMEOUT);
}

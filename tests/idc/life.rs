//! An endpoint's life is told in one order, whatever becomes of the other one, and ends in bounded time; its memory then serves
//! another endpoint.

use std::mem;
use std::time::Duration;

use xen9p::transport::idc::{
    ABSENCE_TIMEOUT, BufferError, DESTROY_TIMEOUT, Endpoint, Event, Fault, Limits, Resources,
    SubmitError, Way,
};

use crate::common::{Bed, Pair, on_both};

on_both! {
    events_come_in_one_order
    a_destroyed_endpoint_gives_its_memory_to_another
    destroy_waits_no_longer_than_it_says_for_a_side_that_is_silent
    an_endpoint_that_stays_away_disappears_and_may_come_back
    another_endpoint_in_the_same_place_is_a_new_one
    no_connection_is_made_before_the_last_one_is_finished
}

const DESTROYED: Fault = Fault::Lost("the other endpoint was destroyed");

fn events_come_in_one_order<B: Bed>() {
    let mut pair = Pair::<B>::new();
    for side in [0, 1] {
        assert_eq!(pair.event(side), Event::Appear);
        assert_eq!(pair.event(side), Event::Connect);
    }
    for round in 2..5 {
        pair.bed.fuse(round % 2).set(Some(0));
        for side in [0, 1] {
            let over = pair.event(side);
            assert!(
                matches!(over, Event::Disconnect(Fault::Lost(_))),
                "{over:?}"
            );
            assert_eq!(pair.event(side), Event::Connect);
            assert_eq!(pair.end(side).connects(), round as u64);
        }
    }
    // By intent of one side.
    pair.end(1).disconnect();
    assert_eq!(pair.event(1), Event::Disconnect(Fault::Closed));
    assert!(matches!(pair.event(0), Event::Disconnect(Fault::Lost(_))));
    pair.connect();
    pair.end(0).destroy();
    pair.end(0).destroy();
    let refused = pair.end(0).submit_message(b"");
    assert_eq!(refused, Err(SubmitError::NotConnected));
    assert_eq!(pair.event(0), Event::Disconnect(Fault::Closed));
    assert_eq!(pair.event(0), Event::Disappear);
    assert_eq!(pair.event(0), Event::Destroyed);
    assert_eq!(pair.event(1), Event::Disconnect(DESTROYED));
    assert_eq!(pair.event(1), Event::Disappear);
    for _ in 0..100 {
        pair.turn();
    }
    assert!(pair.notes.iter().all(|notes| notes.events.is_empty()));
}

/// Puts another endpoint in the place of a side's, made of this memory, and returns the former one.
fn replace<B: Bed>(
    pair: &mut Pair<B>,
    side: usize,
    resources: Resources<B::Bulk>,
) -> Endpoint<B::Connector, B::Bulk> {
    let (connector, bulk) = pair.bed.ends(side);
    let endpoint = Endpoint::new(resources, connector, bulk);
    mem::replace(pair.end(side), endpoint)
}

fn a_destroyed_endpoint_gives_its_memory_to_another<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let message = pair.end(0).submit_message(b"lost").unwrap();
    let buffer = pair.buffer(0, b"lent");
    pair.end(0).register(&buffer).unwrap();
    pair.turn();
    assert!(matches!(pair.event(1), Event::Message(_)));
    pair.end(0).destroy();
    assert_eq!(pair.event(0), Event::Disconnect(Fault::Closed));
    let lost = Event::Delivered(message, Err(Fault::Closed));
    assert_eq!(pair.event(0), lost);
    assert_eq!(pair.event(0), Event::Disappear);
    assert_eq!(pair.event(0), Event::Destroyed);
    let old = replace(&mut pair, 0, Resources::new(Limits::default()));
    let resources = old.into_resources().expect("it is destroyed");
    let young = replace(&mut pair, 0, resources);
    assert!(young.into_resources().is_none(), "that one is not");
    pair.until("the other side has seen the end", |pair| {
        pair.notes[1].events.contains(&Event::Disappear)
    });
    pair.connect();
    assert_eq!([pair.end(0).connects(), pair.end(1).connects()], [1, 1]);
    pair.end(0).submit_message(b"new").unwrap();
    assert!(matches!(pair.event(1), Event::Message(_)));
    let again = pair.end(0).register(&buffer).unwrap();
    pair.end(0).unregister(&again).unwrap();
}

fn destroy_waits_no_longer_than_it_says_for_a_side_that_is_silent<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let buffer = pair.buffer(0, b"lent");
    let remote = pair.end(0).register(&buffer).unwrap();
    pair.end(0).submit_message(b"it is registered").unwrap();
    assert!(matches!(pair.event(1), Event::Message(_)));
    let here = pair.buffer(1, b"mine");
    pair.end(0).destroy();
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while !pair.notes[0].events.contains(&Event::Destroyed) {
        // The other side does nothing.
        pair.poll(0);
        pair.bed.pass(step);
        waited += step;
        assert!(waited < DESTROY_TIMEOUT + 10 * step);
    }
    assert!(waited > DESTROY_TIMEOUT * 9 / 10, "it is given its time");
    // What it does then by the reference, before it has noticed, fails.
    let end = pair.end(1);
    let begun = end.transfer(Way::Send, &remote, 0, &here, 0..4).unwrap();
    pair.until("the transfer is over", |pair| {
        let failed =
            |event: &Event| matches!(event, Event::Transferred(over, Err(_)) if *over == begun);
        pair.notes[1].events.iter().any(failed)
    });
    assert_eq!(crate::common::content_of(&buffer)[..4], *b"lent");
}

fn an_endpoint_that_stays_away_disappears_and_may_come_back<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    pair.bed.fuse(0).set(Some(0));
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while !pair.notes[0].events.contains(&Event::Disappear) {
        pair.poll(0);
        pair.bed.pass(step);
        waited += step;
        assert!(waited < ABSENCE_TIMEOUT * 2);
    }
    // To look for the other side takes some of the time, too.
    assert!(waited > ABSENCE_TIMEOUT * 9 / 10, "{waited:?}");
    pair.connect();
    assert_eq!([pair.end(0).connects(), pair.end(1).connects()], [2, 2]);
}

fn another_endpoint_in_the_same_place_is_a_new_one<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    pair.cut();
    pair.connect();
    assert_eq!(pair.end(1).connects(), 2);
    pair.bed.pass(Duration::from_millis(1));
    drop(replace(&mut pair, 0, Resources::new(Limits::default())));
    let over = pair.event(1);
    assert!(
        matches!(over, Event::Disconnect(Fault::Lost(_))),
        "{over:?}"
    );
    for expected in [Event::Disappear, Event::Appear, Event::Connect] {
        assert_eq!(pair.event(1), expected);
    }
    assert_eq!([pair.end(0).connects(), pair.end(1).connects()], [1, 1]);
}

fn no_connection_is_made_before_the_last_one_is_finished<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let message = pair.end(0).submit_message(b"x").unwrap();
    let buffer = pair.buffer(0, b"x");
    let remote = pair.end(0).register(&buffer).unwrap();
    pair.end(0).disconnect();
    let end = pair.end(0);
    assert!(!end.finish_disconnect(), "it was told of no end");
    assert_eq!(end.next_event(), Some(Event::Disconnect(Fault::Closed)));
    assert!(!end.finish_disconnect(), "a message has not ended");
    let lost = Event::Delivered(message, Err(Fault::Closed));
    assert_eq!(end.next_event(), Some(lost));
    assert_eq!(end.unregister(&remote), Err(BufferError::Unregistered));
    assert_eq!(end.register(&buffer), Err(BufferError::NotConnected));
    for _ in 0..200 {
        pair.end(0).poll();
        assert_eq!(pair.end(0).next_event(), None);
        pair.poll(1);
        pair.bed.pass(Duration::from_millis(20));
    }
    assert!(!pair.end(1).is_connected());
    assert!(pair.end(0).finish_disconnect());
    assert!(!pair.end(0).finish_disconnect());
    pair.connect();
}

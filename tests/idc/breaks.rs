//! After a thousand breaks at random moments both sides have been connected as often as the other, and told so.

use std::time::Duration;

use xen9p::transport::idc::Event;
use xen9p_testing::random::Random;

use crate::common::{Bed, Pair};
use crate::domains::Domains;
use crate::sockets::Sockets;

const BREAKS: usize = 1000;

/// What a program sees is a life: connects and disconnects by turns.
fn check_order(events: &[Event]) {
    let mut connected = false;
    for event in events {
        match event {
            Event::Connect => assert!(!std::mem::replace(&mut connected, true)),
            Event::Disconnect(_) => assert!(std::mem::replace(&mut connected, false)),
            Event::Message(_) | Event::Transaction(_) => assert!(connected),
            _ => {}
        }
    }
}

fn counters_are_equal_after_random_breaks<B: Bed>(seed: u64) {
    let mut random = Random::new(seed);
    let mut pair = Pair::<B>::new();
    pair.turn();
    let mut broken = 0;
    while broken < BREAKS {
        let side = random.below(2);
        // Most of them in the middle of the greetings, which are some 70 bytes.
        pair.bed.fuse(side).set(Some(random.below(200)));
        for turn in 0.. {
            assert!(turn < 1000, "it breaks sooner or later");
            let first = random.below(2);
            pair.poll(first);
            for side in [0, 1] {
                if pair.end(side).is_connected() {
                    let _ = pair.end(side).submit_message(&[1; 30]);
                    let _ = pair.end(side).submit_transaction(&[2; 30]);
                }
            }
            pair.poll(1 - first);
            pair.bed.pass(Duration::from_millis(40));
            if pair.bed.fuse(side).get().is_none() {
                broken += 1;
                break;
            }
        }
    }
    let both = [0, 1];
    pair.until("both are connected", |pair| {
        both.iter().all(|&side| pair.end(side).is_connected())
    });
    // A side may have noticed the last break later.
    pair.until("both counts are equal", |pair| {
        pair.notes[0].connects == pair.notes[1].connects
    });
    let connects = both.map(|side| pair.end(side).connects());
    assert_eq!(connects, both.map(|side| pair.notes[side].connects));
    assert!(connects[0] > BREAKS as u64 / 10, "{connects:?}");
    for notes in &pair.notes {
        check_order(&notes.events);
        let gone = notes
            .events
            .iter()
            .filter(|event| **event == Event::Disappear);
        assert_eq!(gone.count(), 0, "neither was away for long");
    }
}

#[test]
fn counters_are_equal_after_a_thousand_breaks_of_a_socket() {
    counters_are_equal_after_random_breaks::<Sockets>(14);
}

#[test]
fn counters_are_equal_after_a_thousand_breaks_of_a_vchan() {
    counters_are_equal_after_random_breaks::<Domains>(41);
}

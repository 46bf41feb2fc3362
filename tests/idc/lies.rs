//! A side that breaks the protocol loses its connection with an error that names the rule, and no more: it may come again, and
//! other endpoints go on.

use proptest::prelude::*;
use xen9p::time::Instant;
use xen9p::transport::idc::frame::{Frame, Hello, Name, seal};
use xen9p::transport::idc::{Bytes, Event, Fault, GREETING_TIMEOUT, Limits};

use crate::engine::{Plain, carry, connected, engine};
use crate::fuzz;

/// A frame as it is sent.
fn frame(frame: Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    seal(&mut out);
    out
}

fn hello(incarnation: u64, known: u64, connects: u64) -> Hello {
    Hello {
        incarnation,
        known,
        connects,
        grants: false,
        limits: Limits::default(),
    }
}

fn feed(engine: &mut Plain, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() && engine.has_link() {
        let space = engine.space();
        let count = rest.len().min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        engine.received(count);
    }
}

/// What comes of bytes that a side sends which is connected.
fn told(bytes: &[u8]) -> Fault {
    let [mut honest, _liar] = connected(usize::MAX);
    let [mut other, mut neighbour] = connected(usize::MAX);
    let buffer = Bytes::zeroed(5000);
    honest.register(&buffer).unwrap();
    honest.submit_message(b"x").unwrap();
    while let Some(bytes) = honest.output() {
        let count = bytes.len();
        honest.sent(count);
    }
    feed(&mut honest, bytes);
    let Some(Event::Disconnect(fault)) = honest.next_event() else {
        panic!("{bytes:?} is let pass");
    };
    assert_eq!(honest.fault(), fault);
    // It is over for all that was under way, and a new connection is possible.
    let lost = honest.next_event();
    assert!(matches!(lost, Some(Event::Delivered(..))), "{lost:?}");
    assert!(honest.finish_disconnect());
    assert!(honest.wants_link());
    other.submit_message(b"unharmed").unwrap();
    carry(&mut other, &mut neighbour, usize::MAX);
    assert!(matches!(neighbour.next_event(), Some(Event::Message(_))));
    fault
}

const NAME: Name = Name {
    id: 0,
    generation: 1,
};

#[test]
fn every_broken_rule_is_named() {
    let name = NAME;
    let wrong = Name {
        id: 3,
        generation: 9,
    };
    let body = [0; 257];
    let register = |id, len, refs| Frame::Register {
        name: Name { id, generation: 1 },
        len,
        refs,
    };
    let frames = [
        frame(Frame::Hello(hello(5, 0, 0))),
        frame(Frame::Ready { epoch: 2 }),
        frame(Frame::Message {
            slot: 16,
            body: b"",
        }),
        frame(Frame::Message {
            slot: u16::MAX,
            body: b"",
        }),
        frame(Frame::Message {
            slot: 0,
            body: &body,
        }),
        frame(Frame::Message { slot: 0, body: b"" }).repeat(2),
        frame(Frame::Taken { slot: 1 }),
        frame(Frame::Taken { slot: 0 }).repeat(2),
        frame(Frame::Taken { slot: 99 }),
        frame(Frame::Request {
            slot: 16,
            parameters: b"",
        }),
        frame(Frame::Request {
            slot: 0,
            parameters: &body,
        }),
        frame(Frame::Request {
            slot: 0,
            parameters: b"",
        })
        .repeat(2),
        frame(Frame::Reply {
            slot: 0,
            error: 0,
            status: b"",
        }),
        frame(register(16, 1, b"")),
        frame(register(0, 1, b"")).repeat(2),
        frame(register(0, 257 * 4096, b"")),
        frame(register(0, u64::MAX, b"")),
        frame(register(0, 4096, &[0; 4])),
        frame(Frame::Unregister { name: wrong }),
        frame(Frame::Unregister { name }),
        frame(Frame::Forgotten { name }),
        frame(Frame::Forgotten { name: wrong }),
        frame(Frame::Put {
            slot: 8,
            name,
            offset: 0,
            data: b"",
        }),
        frame(Frame::Put {
            slot: 0,
            name,
            offset: 0,
            data: b"",
        })
        .repeat(2),
        frame(Frame::Get {
            slot: 8,
            name,
            offset: 0,
            len: 0,
        }),
        frame(Frame::Get {
            slot: 0,
            name,
            offset: 0,
            len: (16 << 10) + 1,
        }),
        frame(Frame::Answer {
            slot: 0,
            outcome: 0,
            data: b"",
        }),
        frame(Frame::Answer {
            slot: 77,
            outcome: 0,
            data: b"",
        }),
        // Lengths and headers that make no sense.
        vec![0, 0, 0, 0],
        vec![7, 0, 0, 0],
        vec![0xff, 0xff, 0xff, 0xff],
        vec![8, 0, 0, 0, 0, 0, 0, 0],
        vec![8, 0, 0, 0, 200, 0, 0, 0],
        vec![8, 0, 0, 0, 5, 1, 0, 0],
        vec![9, 0, 0, 0, 5, 0, 0, 0, 0],
        vec![8, 0, 0, 0, 7, 0, 0, 0],
        vec![8, 0, 0, 0, 2, 0, 0, 0],
    ];
    for bytes in frames {
        let fault = told(&bytes);
        assert!(matches!(fault, Fault::Violation(_)), "{bytes:?}: {fault}");
    }
}

#[test]
fn what_is_wrong_with_a_reference_is_answered_and_breaks_nothing() {
    let [mut honest, _] = connected(usize::MAX);
    let buffer = Bytes::zeroed(5000);
    honest.register(&buffer).unwrap();
    let empty = |engine: &mut Plain| {
        let mut all = Vec::new();
        while let Some(bytes) = engine.output() {
            all.extend_from_slice(bytes);
            let count = bytes.len();
            engine.sent(count);
        }
        all
    };
    empty(&mut honest);
    let name = |id, generation| Name { id, generation };
    for (name, offset, len, outcome) in [
        (name(0, 1), 0, 5000, 0),
        (name(0, 1), 1, 5000, 2),
        (name(0, 1), u64::MAX, 1, 2),
        (name(0, 1), u64::MAX, 0, 2),
        (name(0, 2), 0, 1, 1),
        (name(1, 1), 0, 1, 1),
        (name(u16::MAX, 1), 0, 1, 1),
    ] {
        let get = Frame::Get {
            slot: 0,
            name,
            offset,
            len,
        };
        let data = vec![0; len as usize];
        let put = Frame::Put {
            slot: 1,
            name,
            offset,
            data: &data,
        };
        feed(&mut honest, &[frame(get), frame(put)].concat());
        let there = if outcome == 0 { &data[..] } else { &[] };
        let answers = [
            frame(Frame::Answer {
                slot: 0,
                outcome,
                data: there,
            }),
            frame(Frame::Answer {
                slot: 1,
                outcome,
                data: b"",
            }),
        ];
        assert!(
            empty(&mut honest) == answers.concat(),
            "{name:?} {offset} {len}"
        );
        assert!(honest.is_connected());
    }
}

/// An endpoint that has a stream and has not been greeted.
fn open() -> Plain {
    let mut engine = engine(1);
    engine.open();
    assert!(engine.output().is_some());
    engine
}

#[test]
fn greetings_that_make_no_sense_are_refused() {
    let other_version = {
        let mut bytes = frame(Frame::Hello(hello(5, 0, 0)));
        bytes[8] = 2;
        bytes
    };
    let no_chunk = Hello {
        limits: Limits {
            chunk: 0,
            ..Limits::default()
        },
        ..hello(5, 0, 0)
    };
    let by_grants = Hello {
        grants: true,
        ..hello(5, 0, 0)
    };
    for bytes in [
        other_version,
        frame(Frame::Hello(no_chunk)),
        frame(Frame::Hello(by_grants)),
        frame(Frame::Hello(hello(0, 0, 0))),
        frame(Frame::Hello(hello(5, 0, 0))).repeat(2),
        frame(Frame::Ready { epoch: 1 }),
        frame(Frame::Bye),
        frame(Frame::Message { slot: 0, body: b"" }),
        [
            frame(Frame::Hello(hello(5, 0, 0))),
            frame(Frame::Message { slot: 0, body: b"" }),
        ]
        .concat(),
        [
            frame(Frame::Hello(hello(5, 0, 0))),
            frame(Frame::Ready { epoch: 0 }),
        ]
        .concat(),
    ] {
        let mut engine = open();
        feed(&mut engine, &bytes);
        assert!(!engine.has_link(), "{bytes:?}");
        let fault = engine.fault();
        assert!(matches!(fault, Fault::Violation(_)), "{bytes:?}: {fault}");
        assert_eq!(engine.next_event(), None, "there was no connection");
    }
    // A count that can't be, of an endpoint that is known.
    let mut engine = open();
    let ready = frame(Frame::Ready { epoch: 1 });
    feed(
        &mut engine,
        &[frame(Frame::Hello(hello(5, 0, 0))), ready].concat(),
    );
    assert_eq!(engine.next_event(), Some(Event::Appear));
    assert_eq!(engine.next_event(), Some(Event::Connect));
    engine.disconnect();
    assert_eq!(engine.next_event(), Some(Event::Disconnect(Fault::Closed)));
    assert!(engine.finish_disconnect());
    for connects in [3, u64::MAX] {
        engine.open();
        feed(&mut engine, &frame(Frame::Hello(hello(5, 1, connects))));
        assert_eq!(engine.next_event(), None);
        assert!(matches!(engine.fault(), Fault::Violation(_)));
    }
    // And one who is ready for another connection than this side is.
    engine.open();
    feed(&mut engine, &frame(Frame::Hello(hello(5, 1, 1))));
    assert_eq!(engine.next_event(), None);
    feed(&mut engine, &frame(Frame::Ready { epoch: 3 }));
    assert!(matches!(engine.fault(), Fault::Violation(_)));
    assert_eq!((engine.has_link(), engine.connects()), (false, 1));
}

#[test]
fn a_side_that_does_not_greet_is_left_in_time() {
    let mut engine = open();
    let start = Instant::from_nanos(1);
    engine.tick(start + GREETING_TIMEOUT / 2);
    assert!(engine.has_link());
    assert!(engine.next_wakeup() <= start + GREETING_TIMEOUT);
    engine.tick(start + GREETING_TIMEOUT);
    assert!(!engine.has_link() && engine.wants_link());
    assert!(matches!(engine.fault(), Fault::Lost(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_at_all_break_the_engine(input in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz::run(&input);
    }

    /// Frames that are well formed, in any order.
    #[test]
    fn no_frames_break_the_engine(
        stage in any::<u8>(),
        frames in proptest::collection::vec((1..14_u8, 0..5_u16, proptest::collection::vec(0..4_u8, 0..40)), 0..20),
    ) {
        let mut input = vec![stage];
        for (kind, slot, rest) in frames {
            input.extend((8 + rest.len() as u32).to_le_bytes());
            input.extend([kind, 0]);
            input.extend(slot.to_le_bytes());
            input.extend(rest);
        }
        fuzz::run(&input);
    }
}

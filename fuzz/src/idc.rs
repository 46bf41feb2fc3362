//! What the other side of an endpoint sends, in any bytes: frames, and what an endpoint makes of them.

use xen9p::time::Instant;
use xen9p::transport::idc::frame::{Frame, Hello, frame_len, seal};
use xen9p::transport::idc::{Bytes, Engine, Event, InFrames, Limits, Resources, Way};

const LIMITS: Limits = Limits {
    body: 64,
    messages: 3,
    transactions: 3,
    buffers: 3,
    pages: 2,
    transfers: 3,
    chunk: 100,
};

/// Input: how far the endpoint is and the size of the pieces, then what comes.
pub fn run(input: &[u8]) {
    let [how, stream @ ..] = input else {
        return;
    };
    frames(stream);
    let mut engine = Engine::new(Resources::new(LIMITS), InFrames, Instant::from_nanos(1));
    engine.open();
    let is_connected = how & 1 != 0;
    if is_connected {
        connect(&mut engine);
    }
    for piece in stream.chunks(1 + usize::from(how >> 1)) {
        let mut rest = piece;
        while !rest.is_empty() && engine.has_link() {
            let space = engine.space();
            assert!(!space.is_empty(), "there is room for what comes");
            let count = rest.len().min(space.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            engine.received(count);
        }
        drain(&mut engine);
        events(&mut engine);
    }
    engine.tick(Instant::from_nanos(u64::MAX / 2));
    events(&mut engine);
    engine.destroy();
    engine.tick(Instant::from_nanos(u64::MAX - 1));
    assert_eq!(events(&mut engine), Some(Event::Destroyed));
}

/// Frames that can be read are written as they were.
fn frames(stream: &[u8]) {
    let mut rest = stream;
    while let Ok(Some(len)) = frame_len(rest, 1000) {
        let Some((bytes, more)) = rest.split_at_checked(len) else {
            return;
        };
        rest = more;
        let Ok(frame) = Frame::decode(bytes) else {
            continue;
        };
        let mut again = Vec::new();
        frame.encode(&mut again);
        seal(&mut again);
        assert_eq!(Frame::decode(&again), Ok(frame));
        assert_eq!(again.len(), bytes.len());
    }
}

fn connect(engine: &mut Engine<InFrames>) {
    let hello = Hello {
        incarnation: 9,
        known: 0,
        connects: 0,
        grants: false,
        limits: LIMITS,
    };
    for frame in [Frame::Hello(hello), Frame::Ready { epoch: 1 }] {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        seal(&mut bytes);
        engine.space()[..bytes.len()].copy_from_slice(&bytes);
        engine.received(bytes.len());
    }
    assert_eq!(engine.next_event(), Some(Event::Appear));
    assert_eq!(engine.next_event(), Some(Event::Connect));
    let buffer = Bytes::zeroed(5000);
    let own = engine.register(&buffer).expect("there is room");
    engine
        .submit_message(&own.to_bytes())
        .expect("there is room");
    engine.submit_transaction(b"x").expect("there is room");
    drain(engine);
}

fn drain(engine: &mut Engine<InFrames>) {
    let mut frames = 0;
    while let Some(bytes) = engine.output() {
        assert!(bytes.len() < 1000);
        let count = bytes.len();
        engine.sent(count);
        frames += 1;
        assert!(frames < 100, "it says no more than it has to");
    }
}

/// Lets the program answer all there is, and returns the last event.
fn events(engine: &mut Engine<InFrames>) -> Option<Event> {
    let mut last = None;
    let mut count = 0;
    while let Some(event) = engine.next_event() {
        count += 1;
        assert!(count < 100, "it tells no more than has happened");
        match event {
            Event::Message(message) => {
                assert!(engine.message(message).is_some());
                engine.complete_message(message).expect("it is here");
            }
            Event::Transaction(transaction) => {
                let body = engine.parameters(transaction).expect("it is here");
                let first = body.first().copied().unwrap_or(0);
                if let Some(remote) = xen9p::transport::idc::RemoteBuffer::from_bytes(body) {
                    let buffer = Bytes::zeroed(200);
                    let _ = engine.transfer(Way::Send, &remote, 0, &buffer, 0..200);
                }
                let done = engine.complete_transaction(transaction, first.into(), b"y");
                done.expect("it is here");
            }
            Event::Finished(transaction, Ok(_)) => {
                engine.release(transaction).expect("it is here");
            }
            Event::Disconnect(_) => {}
            _ => {}
        }
        last = Some(event);
        // Once all of it was told.
        let _ = engine.finish_disconnect();
    }
    last
}

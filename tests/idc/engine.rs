//! The engine of an endpoint, driven by hand: it allocates nothing once it is made, and takes frames in pieces of any size.

use xen9p::time::Instant;
use xen9p::transport::idc::{Bytes, Engine, Event, InFrames, Limits, LocalBuffer, Resources, Way};
use xen9p_testing::count::allocations;

pub type Plain = Engine<InFrames>;

pub fn engine(number: u64) -> Plain {
    let now = Instant::from_nanos(number);
    Engine::new(Resources::new(Limits::default()), InFrames, now)
}

/// Carries all bytes from one to the other, in pieces of at most `piece` bytes. How many that were.
pub fn carry(from: &mut Plain, to: &mut Plain, piece: usize) -> usize {
    let mut carried = 0;
    while let Some(bytes) = from.output() {
        let space = to.space();
        let count = bytes.len().min(piece).min(space.len());
        space[..count].copy_from_slice(&bytes[..count]);
        from.sent(count);
        to.received(count);
        carried += count;
    }
    carried
}

/// Two that are connected.
pub fn connected(piece: usize) -> [Plain; 2] {
    let (mut first, mut second) = (engine(1), engine(2));
    first.open();
    second.open();
    let mut events = Vec::new();
    for _ in 0..4 {
        carry(&mut first, &mut second, piece);
        carry(&mut second, &mut first, piece);
        events.extend(first.next_event());
        events.extend(second.next_event());
    }
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(first.is_connected() && second.is_connected());
    [first, second]
}

/// A message, a transaction and a transfer each way.
fn round(first: &mut Plain, second: &mut Plain, piece: usize, here: &Bytes, there: &Bytes) {
    let remote = first.register(here).unwrap();
    first.submit_message(&remote.to_bytes()).unwrap();
    let asked = first.submit_transaction(&[1; 256]).unwrap();
    carry(first, second, piece);
    let size = there.size();
    let transfer = second.transfer(Way::Receive, &remote, 0, there, 0..size);
    let transfer = transfer.unwrap();
    while let Some(event) = second.next_event() {
        match event {
            Event::Message(message) => second.complete_message(message).unwrap(),
            Event::Transaction(transaction) => {
                let body = second.parameters(transaction).unwrap();
                assert_eq!(body, [1; 256]);
                second
                    .complete_transaction(transaction, 7, &[2; 256])
                    .unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    while carry(second, first, piece) + carry(first, second, piece) > 0 {}
    assert_eq!(
        second.next_event(),
        Some(Event::Transferred(transfer, Ok(())))
    );
    assert!(matches!(
        first.next_event(),
        Some(Event::Delivered(_, Ok(())))
    ));
    assert_eq!(first.next_event(), Some(Event::Finished(asked, Ok(7))));
    assert_eq!(first.status(asked), Some(&[2; 256][..]));
    first.release(asked).unwrap();
    first.unregister(&remote).unwrap();
    while carry(second, first, piece) + carry(first, second, piece) > 0 {}
}

#[test]
fn nothing_is_allocated_after_the_creation() {
    let [mut first, mut second] = connected(usize::MAX);
    let (here, there) = (Bytes::zeroed(100_000), Bytes::zeroed(100_000));
    let before = allocations();
    for _ in 0..100 {
        round(&mut first, &mut second, usize::MAX, &here, &there);
        round(&mut second, &mut first, usize::MAX, &there, &here);
    }
    assert_eq!(allocations(), before);
}

#[test]
fn an_endpoint_is_made_without_memory() {
    let resources = Resources::new(Limits::default());
    let before = allocations();
    let mut engine = Engine::new(resources, InFrames, Instant::from_nanos(1));
    engine.open();
    assert!(engine.output().is_some_and(|bytes| !bytes.is_empty()));
    assert_eq!(allocations(), before);
}

#[test]
fn frames_come_in_pieces_of_any_size() {
    for piece in [1, 2, 3, 7, 8, 9, 100, 4096] {
        let [mut first, mut second] = connected(piece);
        let (here, there) = (Bytes::zeroed(40_000), Bytes::zeroed(40_000));
        here.write(0, &vec![5; 40_000]).unwrap();
        round(&mut first, &mut second, piece, &here, &there);
        let mut got = vec![0; 40_000];
        there.read(0, &mut got).unwrap();
        assert!(got == [5; 40_000]);
    }
}

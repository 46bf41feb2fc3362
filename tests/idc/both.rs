//! Messages, transactions and remote buffers do over a socket what they do between two domains: each test runs on both.

use xen9p::transport::idc::{BufferError, Event, Fault, Limits, RemoteBuffer, SubmitError, Way};
use xen9p_testing::random::content;

use crate::common::{Bed, Pair, content_of, on_both};

on_both! {
    messages_stay_until_they_are_completed
    transactions_go_both_ways_with_status_and_error_apart
    sizes_and_counts_are_those_of_both_sides
    bytes_go_to_and_from_a_registered_buffer
    a_buffer_that_is_unregistered_is_out_of_reach
    references_that_lead_nowhere_are_refused
    transfers_can_be_done_again_after_a_break
    what_was_under_way_ends_with_the_connection
    both_sides_serve_each_other_with_every_slot_in_use
}

fn messages_stay_until_they_are_completed<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let sent: Vec<_> = (0..16)
        .map(|number| pair.end(0).submit_message(&[number; 100]).unwrap())
        .collect();
    assert_eq!(pair.end(0).submit_message(b""), Err(SubmitError::Full));
    let mut got = Vec::new();
    for number in 0..16 {
        let Event::Message(message) = pair.event(1) else {
            panic!("a message comes");
        };
        assert_eq!(pair.end(1).message(message), Some(&[number; 100][..]));
        got.push(message);
    }
    for _ in 0..5 {
        pair.turn();
    }
    assert_eq!(pair.notes[0].events, [], "none is completed");
    assert_eq!(pair.end(0).submit_message(b""), Err(SubmitError::Full));
    // In another order than they came.
    for index in [7, 0, 15] {
        pair.end(1).complete_message(got[index]).unwrap();
        assert_eq!(pair.end(1).message(got[index]), None);
        let again = pair.end(1).complete_message(got[index]);
        assert_eq!(again, Err(SubmitError::Stale));
        assert_eq!(pair.event(0), Event::Delivered(sent[index], Ok(())));
        // And there is room for one more.
        pair.end(0).submit_message(b"more").unwrap();
        assert!(matches!(pair.event(1), Event::Message(_)));
    }
    assert_eq!(pair.end(0).submit_message(b""), Err(SubmitError::Full));
}

fn transactions_go_both_ways_with_status_and_error_apart<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let asked = [0, 1].map(|side| {
        let parameters = [side as u8 + 1; 200];
        pair.end(side).submit_transaction(&parameters).unwrap()
    });
    let came = [0, 1].map(|side| match pair.event(side) {
        Event::Transaction(transaction) => transaction,
        other => panic!("{other:?}"),
    });
    for (side, error) in [(1, 0), (0, 5)] {
        let transaction = came[side];
        let other = 1 - side;
        let expected = [other as u8 + 1; 200];
        let end = pair.end(side);
        assert_eq!(end.parameters(transaction), Some(&expected[..]));
        let status = format!("what side {side} says");
        end.complete_transaction(transaction, error, status.as_bytes())
            .unwrap();
        let again = end.complete_transaction(transaction, error, b"");
        assert_eq!(again, Err(SubmitError::Stale));
        // An error code of the other side's is an outcome like any other: it has a status, too.
        assert_eq!(pair.event(other), Event::Finished(asked[other], Ok(error)));
        let end = pair.end(other);
        assert_eq!(end.status(asked[other]), Some(status.as_bytes()));
        end.release(asked[other]).unwrap();
        assert_eq!(end.status(asked[other]), None);
    }
    let lost = pair.end(0).submit_transaction(b"x").unwrap();
    assert!(matches!(pair.event(1), Event::Transaction(_)));
    pair.bed.fuse(0).set(Some(0));
    let Event::Disconnect(fault) = pair.event(0) else {
        panic!("the connection is over");
    };
    assert_eq!(pair.event(0), Event::Finished(lost, Err(fault)));
    assert_eq!(pair.end(0).status(lost), None);
}

fn sizes_and_counts_are_those_of_both_sides<B: Bed>() {
    let small = Limits {
        body: 10,
        messages: 2,
        transactions: 1,
        buffers: 1,
        pages: 2,
        transfers: 1,
        chunk: 100,
    };
    for (first, second) in [(small, Limits::default()), (Limits::default(), small)] {
        let mut pair = Pair::<B>::with(first, second);
        let early = pair.end(0).submit_message(b"x");
        assert_eq!(early, Err(SubmitError::NotConnected));
        pair.connect();
        let large = pair.bed.buffer(0, 2 * 4096 + 1);
        let buffer = pair.buffer(0, &content(8192));
        let end = pair.end(0);
        assert_eq!(end.submit_message(&[0; 11]), Err(SubmitError::TooLong(10)));
        let asked = end.submit_transaction(&[0; 11]);
        assert_eq!(asked, Err(SubmitError::TooLong(10)));
        for _ in 0..2 {
            end.submit_message(&[0; 10]).unwrap();
        }
        assert_eq!(end.submit_message(&[0; 10]), Err(SubmitError::Full));
        end.submit_transaction(&[0; 10]).unwrap();
        assert_eq!(end.submit_transaction(&[0; 10]), Err(SubmitError::Full));
        assert_eq!(end.register(&large), Err(BufferError::TooLong(2)));
        let remote = end.register(&buffer).unwrap();
        assert_eq!(end.register(&buffer), Err(BufferError::Full));
        let here = pair.bed.buffer(1, 8192);
        for _ in 0..3 {
            pair.turn();
        }
        let end = pair.end(1);
        let transfer = end.transfer(Way::Receive, &remote, 0, &here, 0..8192);
        let transfer = transfer.unwrap();
        let second = end.transfer(Way::Receive, &remote, 0, &here, 0..8192);
        assert_eq!(second, Err(BufferError::Full));
        pair.until("it is over", |pair| {
            let over = Event::Transferred(transfer, Ok(()));
            pair.notes[1].events.contains(&over)
        });
        assert!(content_of(&here) == content(8192));
    }
}

/// Registers a buffer with that in it, and sends the reference to the other side.
fn registered<B: Bed>(
    pair: &mut Pair<B>,
    bytes: &[u8],
) -> (
    <B::Bulk as xen9p::transport::idc::Bulk>::Buffer,
    RemoteBuffer,
) {
    let buffer = pair.buffer(0, bytes);
    let remote = pair.end(0).register(&buffer).unwrap();
    pair.end(0).submit_message(&remote.to_bytes()).unwrap();
    let Event::Message(message) = pair.event(1) else {
        panic!("a message comes");
    };
    let end = pair.end(1);
    let got = RemoteBuffer::from_bytes(end.message(message).unwrap()).unwrap();
    end.complete_message(message).unwrap();
    assert_eq!(got, remote);
    assert!(matches!(pair.event(0), Event::Delivered(..)));
    (buffer, got)
}

/// A transfer of the second side's, to its end.
fn transfer<B: Bed>(
    pair: &mut Pair<B>,
    way: Way,
    remote: &RemoteBuffer,
    offset: usize,
    buffer: &<B::Bulk as xen9p::transport::idc::Bulk>::Buffer,
    range: std::ops::Range<usize>,
) -> Result<(), BufferError> {
    let transfer = pair
        .end(1)
        .transfer(way, remote, offset as u64, buffer, range)?;
    match pair.event(1) {
        Event::Transferred(over, outcome) if over == transfer => outcome,
        other => panic!("{other:?} instead of the end of the transfer"),
    }
}

fn bytes_go_to_and_from_a_registered_buffer<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let size = 300_000;
    let mut there = content(size);
    let (owned, remote) = registered(&mut pair, &there);
    assert!(remote.size() >= size as u64);
    let here = pair.buffer(1, &vec![0xee; size]);
    for (offset, start, len) in [
        (0, 0, size),
        (1, 4095, 70_000),
        (4095, 1, 8193),
        (size - 1, 0, 1),
        (5, 5, 0),
    ] {
        let range = start..start + len;
        transfer(&mut pair, Way::Receive, &remote, offset, &here, range).unwrap();
        assert!(content_of(&here)[start..start + len] == there[offset..offset + len]);
    }
    let new = pair.buffer(1, &content(size + 7)[7..]);
    for (offset, start, len) in [(3, 4090, 100_000), (250_000, 0, 50_000), (0, 0, 1)] {
        let range = start..start + len;
        transfer(&mut pair, Way::Send, &remote, offset, &new, range).unwrap();
        there[offset..offset + len].copy_from_slice(&content_of(&new)[start..start + len]);
        assert!(content_of(&owned)[..size] == there);
    }
}

fn a_buffer_that_is_unregistered_is_out_of_reach<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let (owned, remote) = registered(&mut pair, b"first");
    let here = pair.buffer(1, b"other");
    let end = pair.end(0);
    assert!(end.registered(&remote).is_some());
    end.unregister(&remote).unwrap();
    assert!(end.registered(&remote).is_none());
    assert_eq!(end.unregister(&remote), Err(BufferError::Unregistered));
    // The other side has not heard of it, and tries at once; what is registered meanwhile is not for that reference.
    let next = pair.buffer(0, b"next!");
    let again = pair.end(0).register(&next).unwrap();
    for way in [Way::Send, Way::Receive] {
        let failed = transfer(&mut pair, way, &remote, 0, &here, 0..5);
        assert!(failed.is_err(), "{failed:?}");
        assert_eq!(content_of(&owned)[..5], *b"first");
        assert_eq!(content_of(&next)[..5], *b"next!");
        assert_eq!(content_of(&here)[..5], *b"other");
    }
    for _ in 0..5 {
        pair.turn();
    }
    let failed = transfer(&mut pair, Way::Send, &remote, 0, &here, 0..5);
    assert_eq!(failed, Err(BufferError::Unregistered));
    // Slots are used again.
    pair.end(0).unregister(&again).unwrap();
    for _ in 0..100 {
        let (_, remote) = registered(&mut pair, b"round");
        transfer(&mut pair, Way::Receive, &remote, 0, &here, 0..5).unwrap();
        assert_eq!(content_of(&here)[..5], *b"round");
        pair.end(0).unregister(&remote).unwrap();
    }
}

fn references_that_lead_nowhere_are_refused<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let (_, remote) = registered(&mut pair, &[7; 4096]);
    let here = pair.buffer(1, &[0; 4096]);
    let mut refused = |remote: &RemoteBuffer, offset: usize, range: std::ops::Range<usize>| {
        transfer(&mut pair, Way::Receive, remote, offset, &here, range).unwrap_err()
    };
    let past = BufferError::OutOfBounds;
    assert_eq!(refused(&remote, 1, 0..4096), past);
    assert_eq!(refused(&remote, usize::MAX, 0..4096), past);
    assert_eq!(refused(&remote, 0, 4000..4097), past);
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = refused(&remote, 0, 5..4);
    assert_eq!(backwards, past);
    // Each byte of a reference that is changed makes it another one, or says another size, which is not believed.
    for index in 0..RemoteBuffer::SIZE {
        let mut bytes = remote.to_bytes();
        bytes[index] ^= 0x40;
        let other = RemoteBuffer::from_bytes(&bytes).unwrap();
        let expected = match index {
            0..8 => BufferError::Foreign,
            8..16 => BufferError::Stale,
            16..24 | 32.. => BufferError::Unregistered,
            _ => continue,
        };
        assert_eq!(refused(&other, 0, 0..1), expected, "byte {index}");
    }
    let mut large = remote.to_bytes();
    large[24..32].fill(0x7f);
    let large = RemoteBuffer::from_bytes(&large).unwrap();
    assert_eq!(refused(&large, 4096, 0..1), past);
    assert!(RemoteBuffer::from_bytes(&large.to_bytes()[1..]).is_none());
    // Its owner's own endpoint leads to the other side, too.
    let own = pair.buffer(0, b"x");
    let used = pair.end(0).transfer(Way::Send, &remote, 0, &own, 0..1);
    assert_eq!(used, Err(BufferError::Foreign));
    pair.cut();
    pair.connect();
    let stale = pair.end(1).transfer(Way::Send, &remote, 0, &here, 0..1);
    assert_eq!(stale, Err(BufferError::Stale));
    assert_eq!(
        pair.end(0).unregister(&remote),
        Err(BufferError::Unregistered)
    );
}

fn transfers_can_be_done_again_after_a_break<B: Bed>() {
    let size = 200_000;
    let bytes = content(size);
    for fuse in [100, 5_000, 60_000, 150_000] {
        let mut pair = Pair::<B>::connected();
        let (owned, remote) = registered(&mut pair, &vec![0; size]);
        let here = pair.buffer(1, &bytes);
        // Two at a time, each of one half; the connection breaks in between, or Xen was done with them at once.
        pair.bed.fuse(1).set(Some(fuse));
        let half = size / 2;
        let begun = [0, half].map(|start| {
            let range = start..start + half;
            let end = pair.end(1);
            end.transfer(Way::Send, &remote, start as u64, &here, range)
                .unwrap()
        });
        pair.bed.fuse(0).set(Some(fuse + 64));
        let mut over = Vec::new();
        while over.len() < 2 {
            match pair.event(1) {
                Event::Transferred(transfer, outcome) => over.push((transfer, outcome)),
                Event::Disconnect(_) | Event::Connect => {}
                other => panic!("{other:?}"),
            }
        }
        for transfer in begun {
            assert!(over.iter().any(|(other, _)| *other == transfer), "{over:?}");
        }
        // Once more, the second half first: what was done before is done again.
        pair.bed.fuse(0).set(None);
        pair.bed.fuse(1).set(None);
        if [0, 1].iter().all(|&side| pair.end(side).is_connected()) {
            pair.notes.iter_mut().for_each(|notes| notes.events.clear());
            pair.cut();
        }
        pair.connect();
        let remote = pair.end(0).register(&owned).unwrap();
        pair.end(0).submit_message(b"go on").unwrap();
        assert!(matches!(pair.event(1), Event::Message(_)));
        for start in [half, 0] {
            let range = start..start + half;
            transfer(&mut pair, Way::Send, &remote, start, &here, range).unwrap();
        }
        assert!(content_of(&owned)[..size] == bytes, "after {fuse} bytes");
    }
}

fn what_was_under_way_ends_with_the_connection<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let message = pair.end(0).submit_message(b"kept").unwrap();
    let asked = pair.end(0).submit_transaction(b"kept").unwrap();
    let Event::Message(kept) = pair.event(1) else {
        panic!("a message comes");
    };
    let Event::Transaction(open) = pair.event(1) else {
        panic!("a transaction comes");
    };
    // Submitted, and not sent before the end.
    pair.bed.fuse(0).set(Some(0));
    let late = pair.end(0).submit_message(b"late").unwrap();
    let Event::Disconnect(fault) = pair.event(0) else {
        panic!("the connection is over");
    };
    let mut ends = [pair.event(0), pair.event(0), pair.event(0)].to_vec();
    for expected in [
        Event::Delivered(message, Err(fault)),
        Event::Delivered(late, Err(fault)),
        Event::Finished(asked, Err(fault)),
    ] {
        let index = ends.iter().position(|event| *event == expected);
        ends.remove(index.expect("each ends once"));
    }
    pair.until("the other side has noticed", |pair| {
        let over = |event: &Event| matches!(event, Event::Disconnect(Fault::Lost(_)));
        pair.notes[1].events.iter().any(over)
    });
    // What had come is gone.
    let end = pair.end(1);
    assert_eq!(end.message(kept), None);
    assert_eq!(end.complete_message(kept), Err(SubmitError::Stale));
    let answered = end.complete_transaction(open, 0, b"");
    assert_eq!(answered, Err(SubmitError::Stale));
    pair.connect();
    pair.end(0).submit_message(b"new").unwrap();
    assert!(matches!(pair.event(1), Event::Message(_)));
}

fn both_sides_serve_each_other_with_every_slot_in_use<B: Bed>() {
    let mut pair = Pair::<B>::connected();
    let (mut begun, mut finished, mut served) = ([0; 2], [0; 2], [0; 2]);
    const ALL: usize = 300;
    pair.until("all are done", |pair| {
        for side in [0, 1] {
            while begun[side] < ALL
                && pair
                    .end(side)
                    .submit_transaction(&[side as u8; 256])
                    .is_ok()
            {
                begun[side] += 1;
            }
            for event in std::mem::take(&mut pair.notes[side].events) {
                match event {
                    Event::Transaction(transaction) => {
                        let end = pair.end(side);
                        end.complete_transaction(transaction, 0, &[9; 256]).unwrap();
                        served[side] += 1;
                    }
                    Event::Finished(transaction, outcome) => {
                        assert_eq!(outcome, Ok(0));
                        pair.end(side).release(transaction).unwrap();
                        finished[side] += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        finished == [ALL; 2]
    });
    assert_eq!(served, [ALL; 2]);
}

use super::frontend::{self, Frontend};
use super::*;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

const SIZE: u32 = 4096;

/// A ring of one page in each direction whose indices all begin at `start`.
fn ring(start: u32) -> (Frontend, Requests, Replies) {
    let (front, memory) = frontend::ring(1, start);
    let (requests, replies) = memory.split();
    (front, requests, replies)
}

fn message(len: usize) -> Vec<u8> {
    let mut bytes = (len as u32).to_le_bytes().to_vec();
    bytes.extend((4..len).map(|at| (at * 31 + len) as u8));
    bytes
}

proptest! {
    #[test]
    fn messages_come_through_whole_in_pieces_of_any_size(
        start: u32,
        messages in prop::collection::vec(7usize..=SIZE as usize, 1..12),
        cut in 1usize..5000,
    ) {
        let (mut front, mut requests, mut replies) = ring(start);
        for len in messages {
            let sent = message(len);
            for piece in sent.chunks(cut) {
                prop_assert_eq!(requests.front(), Ok(None));
                front.send(piece);
            }
            prop_assert_eq!(requests.front(), Ok(Some(len as u32)));
            let mut got = vec![0; len];
            requests.copy_out(0, &mut got);
            prop_assert_eq!(&got, &sent);
            requests.consume();
            prop_assert_eq!(requests.front(), Ok(None));

            prop_assert_eq!(replies.room(), Ok(SIZE));
            replies.copy_in(0, &got[..5]);
            replies.copy_in(5, &got[5..]);
            prop_assert!(front.take().is_empty(), "nothing is shown before it is published");
            replies.publish(len as u32);
            prop_assert_eq!(replies.room(), Ok(SIZE - len as u32));
            prop_assert_eq!(front.take(), sent);
        }
    }

    /// Whatever is in the index page, the backend finds a lie or stays within the ring.
    #[test]
    fn no_indices_lead_out_of_the_ring(start: u32, words: [u32; 4], len in 0u32..20, bytes: [u8; 16]) {
        let (mut front, mut requests, replies) = ring(start);
        front.send(&bytes);
        for (index, word) in [0, 1, 16, 17].into_iter().zip(words) {
            front.set(index, word);
        }
        for n in 0..4 {
            let _ = requests.ahead::<11>(n);
        }
        match requests.front() {
            Ok(Some(size)) => {
                prop_assert!((7..=SIZE).contains(&size));
                let mut into = vec![0; size as usize];
                requests.copy_out(0, &mut into);
                let len = len.min(size);
                let source = requests.source(size - len, len as usize);
                prop_assert_eq!(source.len(), len as usize);
                let mut tail = vec![0; len as usize];
                prop_assert_eq!(source.copy_to(&mut tail), len as usize);
                prop_assert_eq!(&tail[..], &into[(size - len) as usize..]);
                requests.consume();
            }
            Ok(None) => {}
            Err(lie) => {
                let queued = words[3].wrapping_sub(start);
                prop_assert!(queued > SIZE || matches!(lie, Lie::Size(size) if !(7..=SIZE).contains(&size)));
            }
        }
        match replies.room() {
            Ok(room) => prop_assert_eq!(room, SIZE - start.wrapping_sub(words[0])),
            Err(Lie::Taken(count)) => prop_assert!(count > SIZE),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn the_own_indices_in_shared_memory_are_never_read_back() {
    let (mut front, mut requests, mut replies) = ring(7);
    front.send(&message(20));
    front.set(16, 12345);
    front.set(1, 54321);
    assert_eq!(requests.front(), Ok(Some(20)));
    requests.consume();
    assert_eq!(front.word(16).load(Ordering::SeqCst), 27);
    assert_eq!(replies.room(), Ok(SIZE));
    replies.publish(3);
    assert_eq!(front.word(1).load(Ordering::SeqCst), 10);
}

#[test]
fn whole_requests_further_back_can_be_looked_at() {
    // The last one goes over the end of the ring.
    let (mut front, mut requests, _replies) = ring(SIZE - 60);
    let sent = [message(20), message(7), message(30), message(40)];
    for message in &sent[..3] {
        front.send(message);
    }
    front.send(&sent[3][..39]);
    assert_eq!(requests.ahead(0), sent[0].first_chunk::<11>().copied());
    assert_eq!(requests.ahead::<11>(1), None, "it is too short");
    assert_eq!(requests.ahead(1), sent[1].first_chunk::<7>().copied());
    assert_eq!(requests.ahead(2), sent[2].first_chunk::<11>().copied());
    assert_eq!(requests.ahead::<11>(3), None, "a byte is missing");
    front.send(&sent[3][39..]);
    assert_eq!(requests.ahead(3), sent[3].first_chunk::<11>().copied());
    assert_eq!(requests.ahead::<7>(4), None);
    // It is all the same for the front.
    assert_eq!(requests.front(), Ok(Some(20)));
    requests.consume();
    assert_eq!(requests.ahead(1), sent[2].first_chunk::<11>().copied());
}

//! A xenstored that lies breaks the connection with an error, and nothing else; whatever it says, requests end in time.

use std::time::Duration;

use proptest::prelude::*;
use xen9p::xen::store::StoreError;
use xen9p::xen::store::wire::{Decoder, HEADER_SIZE, Header, Kind, Message};
use xen9p_testing::fake::FakeXen;

use super::store::{ERROR, GUEST, REQ_CONS, RSP_PROD, guest, poke, soon};

/// Everything that breaks the connection, and stays broken.
#[test]
fn lies_break_the_connection_and_nothing_else() {
    type Lie = fn(&FakeXen);
    let lies: [(Lie, &str); 7] = [
        (|xen| poke(xen, RSP_PROD, 0x8000_0000), "index"),
        (|xen| poke(xen, REQ_CONS, 0x8000_0000), "index"),
        (|xen| poke(xen, ERROR, 3), "error"),
        (|xen| inject(xen, Kind::READ, 1 << 30, 0, b""), "never made"),
        (|xen| inject(xen, Kind::READ, 0, 4097, b""), "longer"),
        (|xen| inject(xen, Kind::READ, 0, u32::MAX, b""), "longer"),
        (
            |xen| inject(xen, Kind::WATCH_EVENT, 0, 2, b"x\0"),
            "watch event",
        ),
    ];
    for (lie, says) in lies {
        let (xen, store) = guest();
        let watch = store.watch("data").unwrap();
        watch.wait(soon(&store)).unwrap();
        lie(&xen);
        let before = xen.now();
        let error = store.read("domid").unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(store.write("data/x", b""), Err(error));
        assert_eq!(store.poll(), Err(error));
        assert_eq!(watch.wait(soon(&store)), Err(error));
        assert!(xen.now() - before < Duration::from_secs(6));
    }
}

fn inject(xen: &FakeXen, kind: Kind, request: u32, length: u32, payload: &[u8]) {
    let header = Header {
        kind,
        request,
        transaction: 0,
        length,
    };
    xen.inject_store_bytes(GUEST, &header.encode());
    xen.inject_store_bytes(GUEST, payload);
}

#[test]
fn events_for_unknown_watches_are_dropped() {
    let (xen, store) = guest();
    for payload in [
        &b"a\x0099\0"[..],
        b"a\0no number\0",
        b"\xff\0\xff\0",
        b"\0\0",
    ] {
        inject(&xen, Kind::WATCH_EVENT, 0, payload.len() as u32, payload);
        assert_eq!(store.read("domid").unwrap(), b"1");
    }
}

#[test]
fn an_answer_of_the_wrong_kind_is_an_error() {
    let (xen, store) = guest();
    // The two requests of the connection itself came first.
    inject(&xen, Kind::WRITE, 3, 3, b"OK\0");
    let error = store.read("domid").unwrap_err();
    assert!(matches!(error, StoreError::BadAnswer(_)), "{error}");
    // The true answer is one too many now.
    let error = store.read("domid").unwrap_err();
    assert!(matches!(error, StoreError::Broken(_)), "{error}");
}

/// Cuts a stream at the given places and decodes the pieces.
fn decode(stream: &[u8], cuts: &[usize]) -> Result<Vec<Message>, StoreError> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let end = end.clamp(start, stream.len());
        let mut piece = &stream[start..end];
        start = end;
        while !piece.is_empty() {
            messages.extend(decoder.feed(&mut piece)?);
        }
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn messages_survive_any_cuts(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        cuts in proptest::collection::btree_set(0..2000usize, 0..20),
    ) {
        let messages: Vec<Message> = payloads
            .into_iter()
            .enumerate()
            .map(|(index, payload)| Message {
                header: Header {
                    kind: Kind::READ,
                    request: index as u32,
                    transaction: 7,
                    length: payload.len() as u32,
                },
                payload,
            })
            .collect();
        let stream: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&message.header.encode()[..], &message.payload].concat())
            .collect();
        let cuts: Vec<usize> = cuts.into_iter().collect();
        prop_assert_eq!(decode(&stream, &cuts).unwrap(), messages);
    }

    #[test]
    fn the_decoder_takes_any_bytes(stream: Vec<u8>, cuts: Vec<u8>) {
        let cuts: Vec<usize> = cuts.into_iter().map(usize::from).collect();
        for message in decode(&stream, &cuts).unwrap_or_default() {
            prop_assert!(message.payload.len() + HEADER_SIZE <= stream.len());
        }
    }

    /// Whatever xenstored says, each request ends in bounded time, and without a panic.
    #[test]
    fn garbage_on_the_ring_ends_in_an_answer_or_an_error(
        garbage in proptest::collection::vec(any::<u8>(), 1..200),
        kind in 0..30u32,
        request in 0..8u32,
        length in prop_oneof![0..100u32, Just(4096), Just(4097)],
    ) {
        let (xen, store) = guest();
        let watch = store.watch("data").unwrap();
        let header = Header { kind: Kind(kind), request, transaction: 0, length };
        xen.inject_store_bytes(GUEST, &header.encode());
        xen.inject_store_bytes(GUEST, &garbage);
        let before = xen.now();
        for _ in 0..3 {
            let _ = store.read("domid");
            let _ = store.directory("data");
            let _ = watch.take();
        }
        prop_assert!(xen.now() - before < Duration::from_secs(31));
    }

    /// Indices may point anywhere at any time.
    #[test]
    fn any_indices_end_in_an_answer_or_an_error(words in proptest::collection::vec(
        (prop_oneof![Just(2048usize), Just(2052), Just(2056), Just(2060)], any::<u32>()), 1..4,
    )) {
        let (xen, store) = guest();
        for (offset, value) in words {
            poke(&xen, offset, value);
            // The simulated xenstored believes its ring, and is not what is tested here.
            xen.store_faults(|faults| faults.mute = true);
            store.set_timeout(Duration::from_millis(10));
            let _ = store.read("domid");
        }
    }
}

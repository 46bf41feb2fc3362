//! One ring carries messages across every wrap and within its budget, and breaks at every lie about indices and sizes.

use proptest::prelude::*;
use xen9p::transport::xen9pfs::ring::{Order, Ring, Violation};
use xen9p::xen::grant::GrantRef;
use xen9p_testing::backend::{
    Backend, Daemon, Lie, Lies, PlainRing, Qemu, RingView, Trouble, echo,
};

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

/// Sends one request and returns what came back, or the violation that was seen instead.
fn exchange(
    ring: &mut Ring,
    backend: &mut dyn Backend,
    request: &[u8],
    reply: u32,
) -> Result<Option<Vec<u8>>, Violation> {
    // In several parts, as the session sends them.
    let (header, body) = request.split_at(7);
    assert!(ring.send(&[header, &[], body], reply)?);
    assert!(ring.take_event_due());
    backend.event(0);
    backend.run(1000);
    let Some(header) = ring.peek()? else {
        return Ok(None);
    };
    assert_eq!(ring.peek()?, Some(header), "peek repeats its answer");
    let mut bytes = vec![0xAA; header.size as usize + 3];
    let (first, second) = bytes.split_at_mut(header.size as usize / 3);
    ring.copy_out(0, first);
    ring.copy_out(first.len() as u32, second);
    assert_eq!(bytes.split_off(header.size as usize), [0; 3]);
    ring.consume();
    ring.release(reply);
    Ok(Some(bytes))
}

fn backends(memory: &PlainRing) -> [Box<dyn Backend>; 2] {
    [
        Box::new(Qemu::new(vec![memory.backend()], echo::handler())),
        Box::new(Daemon::new(vec![memory.backend()], echo::handler())),
    ]
}

/// The end of the ring at every byte of a request and of a reply, at every order.
#[test]
fn messages_wrap_at_every_position() {
    for n in 2..=9 {
        let memory = PlainRing::new(order(n));
        for which in 0..2 {
            for before_end in 0..=100 {
                let mut ring = memory.frontend(order(n).bytes().wrapping_sub(before_end));
                let backend = &mut backends(&memory)[which];
                let request = echo::request(90, echo::IMPATIENT, 0, 99, before_end);
                let reply = exchange(&mut ring, &mut **backend, &request, 99);
                let expected = echo::reply(99, echo::IMPATIENT, 0, before_end);
                assert_eq!(
                    reply,
                    Ok(Some(expected)),
                    "order {n}, {before_end} before the end"
                );
                assert_eq!(backend.troubles(), []);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any order, any start (with a bias to the wrap at 2^32), any sequence of lengths.
    #[test]
    fn any_lengths_from_any_start(
        n in 2u8..=9,
        start in prop_oneof![any::<u32>(), (0u32..4096).prop_map(|i| u32::MAX - i)],
        lengths in prop::collection::vec((0.0..=1.0f64, 0.0..=1.0f64, any::<u32>()), 1..12),
    ) {
        let memory = PlainRing::new(order(n));
        for which in 0..2 {
            let mut ring = memory.frontend(start);
            let backend = &mut backends(&memory)[which];
            let max = order(n).max_message();
            for &(request, reply, seed) in &lengths {
                let length = |min, part| min + ((max - min) as f64 * part) as u32;
                let reply = length(echo::MIN_REPLY, reply);
                let request = echo::request(
                    length(echo::MIN_REQUEST, request), echo::IMPATIENT, 7, reply, seed);
                let expected = echo::reply(reply, echo::IMPATIENT, 7, seed);
                let got = exchange(&mut ring, &mut **backend, &request, reply);
                prop_assert_eq!(got, Ok(Some(expected)));
            }
            prop_assert_eq!(backend.troubles(), []);
            prop_assert_eq!(ring.reserved_reply_bytes(), 0);
        }
    }
}

#[test]
fn orders_are_2_to_9() {
    assert_eq!(Order::new(1), None);
    assert_eq!(Order::new(10), None);
    assert_eq!((order(2).pages().get(), order(2).bytes()), (4, 8192));
    assert_eq!((order(9).pages().get(), order(9).bytes()), (512, 1 << 20));
    assert_eq!(order(9).max_message(), 512 << 10);
}

#[test]
fn the_interface_page_is_laid_out_as_the_header_says() {
    let memory = PlainRing::new(order(3));
    let ring = memory.frontend(5);
    for (index, grant_ref) in (0..8).zip(100..) {
        ring.set_grant_ref(index, GrantRef(grant_ref));
    }
    let page = memory.backend();
    assert_eq!(page.get(128), 3);
    for (index, grant_ref) in (0..8).zip(100..) {
        assert_eq!(page.get(132 + 4 * index), grant_ref);
    }
    for offset in (0..4096).step_by(4).filter(|o| !(128..164).contains(o)) {
        let index = matches!(offset, 0 | 4 | 64 | 68);
        assert_eq!(page.get(offset), if index { 5 } else { 0 }, "at {offset}");
    }
}

/// Two requests with maximal payload at the usual header sizes are in flight at once; a third, or
/// a reply that would fill the ring to the last byte, has to wait.
#[test]
fn the_budget_keeps_one_byte_free() {
    let memory = PlainRing::new(order(4));
    let mut ring = memory.frontend(0);
    let size = order(4).bytes();
    let read = size / 2 - 24 + 11;
    let request = echo::request(23, echo::PATIENT, 0, read, 1);
    assert_eq!(ring.has_room(23, size - 1), Ok(true));
    assert_eq!(ring.has_room(23, size), Ok(false));
    assert_eq!(ring.has_room(23, u32::MAX), Ok(false));
    assert_eq!(ring.send(&[&request], read), Ok(true));
    assert_eq!(ring.send(&[&request], read), Ok(true));
    assert_eq!(ring.send(&[&request], 26), Ok(false));
    assert_eq!(ring.send(&[&request], 25), Ok(true));
    ring.release(25);
    ring.release(read);
    assert_eq!(ring.has_room(23, read), Ok(true));
}

#[test]
fn requests_fill_their_half_to_the_last_byte() {
    let memory = PlainRing::new(order(2));
    let mut ring = memory.frontend(u32::MAX - 1000);
    let mut backend = Qemu::new(vec![memory.backend()], echo::handler());
    assert_eq!(ring.has_room(8193, 7), Ok(false));
    for seed in 0..2 {
        let request = echo::request(4096, echo::IMPATIENT, 0, 7, seed);
        assert_eq!(ring.send(&[&request], 7), Ok(true));
    }
    assert_eq!(ring.has_room(1, 7), Ok(false));
    backend.event(0);
    backend.run(100);
    assert_eq!(ring.has_room(8192, 7), Ok(true));
    assert_eq!(backend.troubles(), []);
}

/// The backend is told of room only where another reply may be waiting for it.
#[test]
fn room_is_told_of_where_another_reply_may_wait_for_it() {
    let half = order(4).max_message();
    for (other, is_told) in [(None, false), (Some(half - 13), true), (Some(0), true)] {
        let memory = PlainRing::new(order(4));
        let mut ring = memory.frontend(0);
        let mut backend = Qemu::new(vec![memory.backend()], echo::handler());
        ring.set_max_message(half + 24);
        for budget in [Some(half - 13), other].into_iter().flatten() {
            let request = echo::request(100, echo::PATIENT, 0, half - 13, 1);
            assert_eq!(ring.send(&[&request], budget), Ok(true));
        }
        assert!(ring.take_event_due(), "of the requests");
        backend.event(0);
        backend.run(100);
        assert!(ring.peek().unwrap().is_some());
        ring.consume();
        ring.release(half - 13);
        assert_eq!(ring.take_event_due(), is_told, "{other:?}");
    }
}

/// What the frontend makes of a reply, of 100 bytes where 1000 are the most, told with a lie.
fn told(lie: Lie) -> Result<Option<Vec<u8>>, Violation> {
    let mut outcomes = [2, u32::MAX - 20].map(|start| {
        let memory = PlainRing::new(order(2));
        let mut ring = memory.frontend(start);
        ring.set_max_message(1000);
        let mut backend =
            Qemu::new(vec![memory.backend()], echo::handler()).lying(Lies::from([(1, lie)]));
        let request = echo::request(50, echo::PATIENT, 0, 100, 9);
        let honest = echo::reply(100, echo::PATIENT, 0, 9);
        let first = exchange(&mut ring, &mut backend, &request, 100);
        assert_eq!(first, Ok(Some(honest)));
        let outcome = exchange(&mut ring, &mut backend, &request, 100).and_then(|got| {
            // Whatever the request index says now has to be noticed as well.
            let big = 8192 - 10;
            ring.has_room(big, 0).map(|_| got)
        });
        if let Err(violation) = outcome {
            // It stays broken, whatever the backend does now.
            memory
                .backend()
                .set(RingView::IN_PROD, start.wrapping_add(200));
            memory
                .backend()
                .set(RingView::OUT_CONS, start.wrapping_add(100));
            assert_eq!(ring.peek(), Err(violation));
            assert_eq!(ring.has_room(10, 10), Err(violation));
            assert_eq!(ring.send(&[&request], 100), Err(violation));
        }
        outcome
    });
    let outcome = std::mem::replace(&mut outcomes[0], Ok(None));
    assert_eq!(outcome, outcomes[1]);
    outcome
}

#[test]
fn a_reply_index_that_jumps_or_goes_back_breaks_the_ring() {
    for jump in [8192 - 100 + 1, 9000, i32::MAX, i32::MIN] {
        assert!(told(Lie::InProd(jump)).is_err(), "{jump}");
    }
    for back in [-101, -150, -200, -201] {
        assert!(told(Lie::InProd(back)).is_err(), "{back}");
    }
    // Within the ring a jump shows what lay there: the message still is what its header says.
    assert!(told(Lie::InProd(8192 - 100)).is_ok());
    // The end is still missing.
    assert_eq!(told(Lie::InProd(-1)), Ok(None));
}

#[test]
fn a_reply_index_that_goes_back_after_it_was_believed_breaks_the_ring() {
    let memory = PlainRing::new(order(2));
    let view = memory.backend();
    let mut ring = memory.frontend(0);
    view.set(RingView::IN_PROD, 6);
    assert_eq!(ring.peek(), Ok(None));
    view.set(RingView::IN_PROD, 5);
    assert!(ring.peek().is_err());
}

#[test]
fn a_request_index_that_lies_breaks_the_ring() {
    for by in [1, 8192, -101, -9000, i32::MAX, i32::MIN] {
        assert!(told(Lie::OutCons(by)).is_err(), "{by}");
    }
}

#[test]
fn a_request_index_that_goes_back_after_it_was_believed_breaks_the_ring() {
    let memory = PlainRing::new(order(2));
    let view = memory.backend();
    let mut ring = memory.frontend(0);
    let request = [0; 8192];
    assert_eq!(ring.send(&[&request], 7), Ok(true));
    view.set(RingView::OUT_CONS, 100);
    assert_eq!(ring.has_room(100, 7), Ok(true));
    view.set(RingView::OUT_CONS, 99);
    assert_eq!(
        ring.has_room(100, 7),
        Ok(true),
        "not looked at without need"
    );
    assert!(ring.has_room(101, 7).is_err());
}

#[test]
fn a_size_that_lies_breaks_the_ring_or_never_arrives() {
    for size in [0, 1, 6, 1001, 4096, 4097, 1 << 31, u32::MAX] {
        assert!(told(Lie::Size(size)).is_err(), "{size}");
    }
    for size in [101, 1000] {
        assert_eq!(told(Lie::Size(size)), Ok(None), "{size}");
    }
    for len in [0, 6, 7, 99] {
        assert_eq!(told(Lie::Cut(len)), Ok(None), "{len}");
    }
    assert_eq!(told(Lie::Silence), Ok(None));
}

#[test]
fn own_words_in_the_interface_page_are_never_read_back() {
    let honest = echo::reply(100, echo::PATIENT, 0, 9);
    assert_eq!(told(Lie::Scribble), Ok(Some(honest)));
}

#[test]
fn a_header_is_read_once() {
    for whole in [true, false] {
        let memory = PlainRing::new(order(2));
        let view = memory.backend();
        let mut ring = memory.frontend(0);
        let reply = echo::reply(60, echo::PATIENT, 3, 1);
        view.write_replies(0, &reply);
        view.set(RingView::IN_PROD, if whole { 60 } else { 30 });
        let header = echo::header(60, echo::PATIENT, 3);
        assert_eq!(ring.peek(), Ok(whole.then_some(header)));
        view.write_replies(0, &[0xFF; 7]);
        view.set(RingView::IN_PROD, 60);
        assert_eq!(ring.peek(), Ok(Some(header)));
        let mut body = [0; 53];
        ring.copy_out(7, &mut body);
        assert_eq!(body, reply[7..]);
        ring.consume();
        assert_eq!(view.get(RingView::IN_CONS), 60);
    }
}

#[test]
fn nothing_is_shown_or_dropped_before_it_is_complete() {
    let memory = PlainRing::new(order(2));
    let view = memory.backend();
    let mut ring = memory.frontend(0);
    let reply = echo::reply(60, echo::PATIENT, 3, 1);
    view.write_replies(0, &reply);
    for arrived in 0..60 {
        view.set(RingView::IN_PROD, arrived);
        assert_eq!(ring.peek(), Ok(None));
        let mut bytes = [0xFF; 60];
        ring.copy_out(0, &mut bytes);
        assert_eq!(bytes, [0; 60]);
        ring.consume();
        assert_eq!(view.get(RingView::IN_CONS), 0);
    }
}

#[test]
fn a_repeated_reply_is_shown_twice_for_the_session_to_judge() {
    let memory = PlainRing::new(order(2));
    let mut ring = memory.frontend(0);
    let mut backend =
        Qemu::new(vec![memory.backend()], echo::handler()).lying(Lies::from([(0, Lie::Twice)]));
    let request = echo::request(50, echo::PATIENT, 0, 100, 9);
    exchange(&mut ring, &mut backend, &request, 100).unwrap();
    assert_eq!(ring.peek(), Ok(Some(echo::header(100, echo::PATIENT, 0))));
}

/// The simulators themselves: what a bad frontend does to them.
#[test]
fn the_backends_punish_a_frontend_that_breaks_their_rules() {
    let attempt = |reply: u32, kind, times: u32, budget: u32| {
        let memory = PlainRing::new(order(2));
        let mut ring = memory.frontend(0);
        let mut backend = Qemu::new(vec![memory.backend()], echo::handler());
        for seed in 0..times {
            let request = echo::request(20, kind, 0, reply, seed);
            assert_eq!(ring.send(&[&request], budget), Ok(true));
            backend.event(0);
            backend.run(100);
        }
        let waits = backend.waits_for_room();
        (backend.troubles().to_vec(), waits, backend.serving())
    };
    assert_eq!(
        attempt(3000, echo::IMPATIENT, 3, 0),
        (vec![Trouble::NoRoom], 0, false)
    );
    assert_eq!(attempt(3000, echo::PATIENT, 3, 0), (vec![], 1, true));
    assert_eq!(
        attempt(4096, echo::PATIENT, 3, 0),
        (vec![Trouble::Overwrite], 0, true)
    );

    let raw = |bytes: &[u8], rings: usize| {
        let memories: Vec<_> = (0..rings).map(|_| PlainRing::new(order(2))).collect();
        let mut front: Vec<_> = memories.iter().map(|memory| memory.frontend(0)).collect();
        let mut backend = Qemu::new(
            memories.iter().map(PlainRing::backend).collect(),
            echo::handler(),
        );
        assert_eq!(front[0].send(&[bytes], 0), Ok(true));
        backend.event(0);
        backend.run(100);
        backend.troubles().to_vec()
    };
    let whole = echo::request(40, echo::PATIENT, 1, 20, 3);
    assert_eq!(raw(&whole, 1), []);
    assert_eq!(raw(&whole, 2), [Trouble::Misrouted]);
    assert_eq!(raw(&whole[..39], 1), [Trouble::Wedged]);
    let mut garbled = whole.clone();
    garbled[30] ^= 1;
    assert_eq!(raw(&garbled, 1), [Trouble::Undecodable]);
}

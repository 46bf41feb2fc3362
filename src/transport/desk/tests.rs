//! Desks by hand: requests in, replies out, room and a tree that open when the test says so.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use core::task::Waker;

use xen9p_testing::gate::Gate;

use super::*;
use crate::p9::wire::{AttrMask, Dialect, Errno, Fid, Names, Reader, Reply, Request, Tag, kind};
use crate::server::{Exports, Rights};

const ROOT: Fid = Fid(0);

/// A line on which pieces of bytes come, and messages go for which there is room.
#[derive(Default)]
struct Queue {
    pieces: RefCell<VecDeque<Vec<u8>>>,
    sent: RefCell<Vec<Vec<u8>>>,
    room: Cell<usize>,
}

impl Line for Queue {
    type Error = &'static str;

    fn read(&self, into: &mut [u8]) -> Poll<Result<usize, &'static str>> {
        let Some(piece) = self.pieces.borrow_mut().pop_front() else {
            return Poll::Pending;
        };
        match into.get_mut(..piece.len()) {
            Some(_) if piece.is_empty() => Poll::Ready(Err("the end")),
            Some(into) => {
                into.copy_from_slice(&piece);
                Poll::Ready(Ok(piece.len()))
            }
            None => panic!("a piece that is larger than what is read at once"),
        }
    }

    fn room(&self, size: usize) -> Poll<Result<(), &'static str>> {
        match self.room.get() >= size {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn write(&self, from: &mut &[u8]) -> Poll<Result<(), &'static str>> {
        ready!(self.room(from.len()))?;
        self.room.set(self.room.get() - from.len());
        self.sent.borrow_mut().push(core::mem::take(from).to_vec());
        Poll::Ready(Ok(()))
    }
}

/// A desk, and what is around it.
struct Bed {
    queues: Vec<Rc<Queue>>,
    gate: Gate,
    rounds: Rc<Cell<u32>>,
    served: Pin<Box<dyn Future<Output = ServeError<&'static str>>>>,
}

impl Bed {
    /// The session has begun, the fid 0 is the root and those from 1 on the files of these numbers.
    fn new(lanes: usize, limits: Limits) -> Bed {
        let gate = Gate::new();
        let queues = Vec::from_iter((0..lanes).map(|_| Rc::<Queue>::default()));
        let lines = queues.iter().map(Rc::clone);
        let lines = lines.map(|queue| queue as Rc<dyn Line<Error = &'static str>>);
        let rounds = Rc::default();
        let exports = Exports::new(gate.clone(), Rights::ReadWrite);
        let desk = Desk::new(lines, exports, limits, &rounds);
        let mut bed = Bed {
            queues,
            gate,
            rounds,
            served: Box::pin(desk.serve()),
        };
        bed.give_room(1 << 20);
        let version = Request::Version {
            msize: 8192,
            version: b"9P2000.L",
        };
        bed.send(0, 1, &version);
        let attach = Request::Attach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        };
        bed.send(0, 1, &attach);
        for number in 1..10 {
            bed.send(0, 1, &walk(number, &format!("{number}")));
        }
        assert_eq!(bed.answers(0).len(), 11);
        bed
    }

    fn give_room(&self, bytes: usize) {
        self.queues.iter().for_each(|queue| queue.room.set(bytes));
    }

    fn send(&self, lane: usize, tag: u16, request: &Request<'_>) {
        let message = encoded(tag, request);
        self.queues[lane].pieces.borrow_mut().push_back(message);
    }

    fn poll(&mut self) -> Poll<ServeError<&'static str>> {
        self.rounds.set(ROUNDS);
        let mut cx = Context::from_waker(Waker::noop());
        self.served.as_mut().poll(&mut cx)
    }

    /// The replies that were sent since this was last asked, by tag and type; an error in the place of the type.
    fn sent(&self, lane: usize) -> Vec<(u16, Result<u8, Errno>)> {
        let sent = self.queues[lane].sent.take();
        let sent = sent.iter().map(|message| {
            let reply = Reply::decode(Reader::new(message, Dialect::Linux));
            let (tag, reply) = reply.unwrap();
            (tag.0, reply.errno().map_or(Ok(reply.kind()), Err))
        });
        sent.collect()
    }

    /// The same after a poll.
    fn answers(&mut self, lane: usize) -> Vec<(u16, Result<u8, Errno>)> {
        assert!(self.poll().is_pending());
        self.sent(lane)
    }
}

fn encoded(tag: u16, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let len = request.encode(Tag(tag), Dialect::Linux, &mut bytes);
    bytes.truncate(len.unwrap());
    bytes
}

fn walk(newfid: u32, name: &str) -> Request<'_> {
    Request::Walk {
        fid: ROOT,
        newfid: Fid(newfid),
        names: Names::from_slice(&[name.as_bytes()]).unwrap(),
    }
}

fn look(fid: u32) -> Request<'static> {
    Request::Getattr {
        fid: Fid(fid),
        mask: AttrMask::BASIC,
    }
}

fn flush(oldtag: u16) -> Request<'static> {
    let oldtag = Tag(oldtag);
    Request::Flush { oldtag }
}

const LOOKED: Result<u8, Errno> = Ok(kind::RGETATTR);
const FLUSHED: Result<u8, Errno> = Ok(kind::RFLUSH);

#[test]
fn a_request_that_waits_keeps_none_behind_it_from_being_served() {
    let mut bed = Bed::new(2, Limits::default());
    for (tag, fid) in [(1, 1), (2, 2), (3, 0)] {
        bed.send(0, tag, &look(fid));
    }
    bed.send(1, 4, &look(0));
    assert_eq!(bed.answers(0), [(3, LOOKED)]);
    assert_eq!(bed.sent(1), [(4, LOOKED)]);
    bed.gate.let_through(2);
    assert_eq!(bed.answers(0), [(2, LOOKED)]);
    bed.gate.let_through(1);
    assert_eq!(bed.answers(0), [(1, LOOKED)]);
}

#[test]
fn what_came_in_one_piece_with_a_request_that_waits_is_served() {
    let mut bed = Bed::new(1, Limits::default());
    let requests = [(1, 1), (2, 2), (3, 0), (4, 3), (5, 0)];
    let bytes = requests.map(|(tag, fid)| encoded(tag, &look(fid))).concat();
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        for piece in [first, second] {
            let mut pieces = bed.queues[0].pieces.borrow_mut();
            pieces.push_back(piece.to_vec());
        }
        assert_eq!(bed.answers(0), [(3, LOOKED), (5, LOOKED)], "cut at {cut}");
        (1..=3).for_each(|number| bed.gate.let_through(number));
        assert_eq!(bed.answers(0), [(1, LOOKED), (2, LOOKED), (4, LOOKED)]);
        bed.gate.shut();
    }
}

/// The reply has no room on its line when its request is taken back on another.
#[test]
fn an_rflush_never_passes_the_reply_by() {
    for lane in [0, 1] {
        let mut bed = Bed::new(2, Limits::default());
        bed.send(0, 1, &look(1));
        assert_eq!(bed.answers(0), []);
        bed.gate.let_through(1);
        bed.queues[0].room.set(10);
        assert_eq!(bed.answers(0), []);
        bed.send(lane, 2, &flush(1));
        assert_eq!((bed.answers(0), bed.sent(1)), (vec![], vec![]));
        bed.give_room(1000);
        let replies = [bed.answers(0), bed.sent(1)].concat();
        assert_eq!(replies, [(1, LOOKED), (2, FLUSHED)]);
    }
}

#[test]
fn what_is_taken_back_while_it_waits_is_answered_by_rflush_alone() {
    let mut bed = Bed::new(2, Limits::default());
    bed.send(0, 1, &look(1));
    bed.send(1, 2, &flush(1));
    assert_eq!((bed.answers(0), bed.sent(1)), (vec![], vec![(2, FLUSHED)]));
    bed.gate.let_through(1);
    assert_eq!(bed.answers(0), []);
}

/// Room for an Rgetattr, and not for two.
const FOR_ONE: usize = 300;

/// Replies wait for each other, none for more room than it takes, and nothing is read for as long as one that did not
/// wait has no room.
#[test]
fn replies_go_when_there_is_room_in_the_order_in_which_they_came_about() {
    let mut bed = Bed::new(1, Limits::default());
    for number in 1..=5 {
        bed.send(0, number, &look(number.into()));
    }
    assert_eq!(bed.answers(0), []);
    bed.give_room(0);
    for number in [4, 2, 5] {
        bed.gate.let_through(number);
        assert_eq!(bed.answers(0), []);
    }
    bed.send(0, 6, &look(0));
    bed.send(0, 7, &look(0));
    assert_eq!(bed.answers(0), []);
    assert_eq!(bed.queues[0].pieces.borrow().len(), 1);
    for tag in [4, 2, 5, 6, 7] {
        bed.give_room(FOR_ONE);
        assert_eq!(bed.answers(0), [(tag, LOOKED)]);
    }
}

/// A fid is walked to, looked at and given up, all sent at once, and the walk waits.
#[test]
fn requests_that_need_one_another_are_done_in_the_order_in_which_they_came() {
    let mut bed = Bed::new(1, Limits::default());
    // Workers come and go before that.
    bed.send(0, 1, &look(1));
    assert_eq!(bed.answers(0), []);
    bed.send(0, 2, &walk(20, "100"));
    bed.send(0, 3, &look(20));
    assert_eq!(bed.answers(0), []);
    bed.gate.let_through(1);
    assert_eq!(bed.answers(0), [(1, LOOKED)]);
    bed.send(0, 4, &Request::Clunk { fid: Fid(20) });
    bed.send(0, 5, &look(20));
    assert_eq!(bed.answers(0), []);
    bed.gate.let_through(100);
    let replies = [
        (2, Ok(kind::RWALK)),
        (3, LOOKED),
        (4, Ok(kind::RCLUNK)),
        (5, Err(Errno::EBADF)),
    ];
    assert_eq!(bed.answers(0), replies);
}

#[test]
fn what_goes_beyond_the_limit_is_refused_and_does_not_wait() {
    let mut limits = Limits::default();
    limits.requests = 2;
    let mut bed = Bed::new(1, limits);
    for number in 1..=4 {
        bed.send(0, number, &look(number.into()));
    }
    let refused = Err(Errno::EAGAIN);
    assert_eq!(bed.answers(0), [(3, refused), (4, refused)]);
    bed.gate.let_through(2);
    assert_eq!(bed.answers(0), [(2, LOOKED)]);
    bed.send(0, 5, &look(0));
    assert_eq!(bed.answers(0), [(5, LOOKED)]);
}

#[test]
fn a_peer_that_never_stops_asking_has_its_turn_and_no_more() {
    let mut bed = Bed::new(2, Limits::default());
    for tag in 0..100 {
        bed.send(usize::from(tag % 2), tag, &look(0));
    }
    let first = [bed.answers(0), bed.sent(1)].concat().len();
    assert_eq!((first, bed.rounds.get()), (ROUNDS as usize, 0));
    let rest = [bed.answers(0), bed.sent(1)].concat().len();
    assert_eq!((first + rest, bed.rounds.get()), (100, ROUNDS - 36));
}

#[test]
fn the_end_of_a_line_is_the_end_of_all() {
    let mut bed = Bed::new(2, Limits::default());
    bed.send(0, 1, &look(1));
    assert_eq!(bed.answers(0), []);
    bed.queues[1].pieces.borrow_mut().push_back(Vec::new());
    let over = bed.poll();
    assert_eq!(over, Poll::Ready(ServeError::Stream("the end")));
}

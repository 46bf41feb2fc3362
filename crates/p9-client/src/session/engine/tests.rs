//! The engine by hand: messages in, messages out, and a time that is made up. There is no transport and no clock.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::task::{Poll, Waker};
use core::time::Duration;

use super::{Engine, Lanes, Shape};
use crate::session::Config;
use crate::transport::{Header, Lane, TransportError};
use crate::{Dialect, Error};
use p9_wire::{
    Fid, HEADER_LEN, Payload, READ_HEADER_LEN, Reader, Reply, Request, Tag, kind, parse_header,
};
use xen9p_time::Instant;

const TIMEOUT: Duration = Duration::from_secs(30);
const MSIZE: u32 = 8192;

/// What was sent on each lane, and what has come there.
struct Queues {
    sent: Vec<Vec<Vec<u8>>>,
    arrived: Vec<VecDeque<Vec<u8>>>,
    /// Bytes of replies that may still come.
    budget: Vec<i64>,
}

impl Queues {
    fn new(lanes: usize) -> Self {
        Queues {
            sent: vec![Vec::new(); lanes],
            arrived: vec![VecDeque::new(); lanes],
            budget: vec![0; lanes],
        }
    }

    fn arrive(&mut self, tag: u16, reply: &Reply<'_>) {
        let mut bytes = vec![0; MSIZE as usize];
        let len = reply.encode(Tag(tag), Dialect::Linux, &mut bytes).unwrap();
        bytes.truncate(len);
        let lane = usize::from(tag) % self.arrived.len();
        self.arrived[lane].push_back(bytes);
    }

    /// The types of what was sent.
    fn kinds(&self, lane: usize) -> Vec<u8> {
        self.sent[lane].iter().map(|message| message[4]).collect()
    }
}

impl Lanes for Queues {
    fn set_max_message(&mut self, _: u32) {}

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        self.sent[usize::from(lane.0)].push(parts.concat());
        self.budget[usize::from(lane.0)] += i64::from(reply);
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        let first = self.arrived[usize::from(lane.0)].front();
        Ok(first.map(|message| parse_header(message.first_chunk::<HEADER_LEN>().unwrap())))
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        let first = self.arrived[usize::from(lane.0)].front().unwrap();
        into.copy_from_slice(&first[offset as usize..][..into.len()]);
    }

    fn consume(&mut self, lane: Lane, budget: u32) {
        self.arrived[usize::from(lane.0)].pop_front().unwrap();
        self.budget[usize::from(lane.0)] -= i64::from(budget);
    }
}

fn engine(lanes: u16) -> (Engine, Queues) {
    let shape = Shape {
        lanes,
        max_message: MSIZE,
        in_order: true,
        holds_replies: true,
        waits_for_news: true,
    };
    let config = Config {
        timeout: TIMEOUT,
        ..Config::default()
    };
    let engine = Engine::new(shape, &config).unwrap();
    (engine, Queues::new(usize::from(lanes)))
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// Sends a read of so many bytes; its tag.
fn read(engine: &mut Engine, queues: &mut Queues, count: u32) -> u16 {
    let fid = engine.fids().alloc().unwrap();
    let request = Request::Read {
        fid,
        offset: 0,
        count,
    };
    let sent = engine.submit(Some(queues), &request, None, None);
    sent.unwrap().unwrap()
}

fn poll(engine: &mut Engine, tag: u16) -> Poll<Result<(), Error>> {
    engine.poll_reply(tag, Waker::noop(), false, false)
}

#[test]
fn messages_go_out_and_come_in_by_what_is_lent() {
    let (mut engine, mut queues) = engine(2);
    let tags = [4096, 100].map(|count| read(&mut engine, &mut queues, count));
    // The second goes where less is in flight.
    assert_eq!(tags, [0, 1]);
    for (lane, count) in [(0, 4096), (1, 100)] {
        let message = Reader::new(&queues.sent[lane][0], Dialect::Linux);
        let (tag, request) = Request::decode(message).unwrap();
        assert_eq!(tag, Tag(tags[lane]));
        assert!(matches!(request, Request::Read { count: found, .. } if found == count));
        assert_eq!(
            queues.budget[lane],
            i64::from(count) + READ_HEADER_LEN as i64
        );
    }
    let mut into = vec![0; 4096];
    for (tag, len) in [(1, 100), (0, 4096)] {
        assert!(poll(&mut engine, tag).is_pending());
        let data = vec![tag as u8 + 1; len];
        let data = Payload::from(&data[..]);
        queues.arrive(tag, &Reply::Read { data });
        engine.pump(&mut queues);
        assert!(poll(&mut engine, tag).is_ready());
        let taken = engine.take_data(Some(&mut queues), tag, &mut into);
        assert_eq!(taken, Ok(len));
        assert!(into[..len].iter().all(|&byte| byte == tag as u8 + 1));
    }
    assert_eq!(queues.budget, [0, 0]);
    assert!(!engine.is_busy());
}

/// What is asked for others is not kept out by what is under way, where the server keeps the replies.
#[test]
fn what_is_asked_for_others_takes_no_room_of_a_server_that_keeps_replies() {
    let (mut engine, mut queues) = engine(1);
    let mut budgets = Vec::new();
    for (for_others, holds_replies) in [(false, true), (true, true), (true, false)] {
        engine.ask_for_others(for_others);
        engine.holds_replies = holds_replies;
        let before = queues.budget[0];
        let tag = read(&mut engine, &mut queues, 100);
        budgets.push(queues.budget[0] - before);
        assert!(poll(&mut engine, tag).is_pending());
        let data = Payload::from(&[7; 100][..]);
        queues.arrive(tag, &Reply::Read { data });
        engine.pump(&mut queues);
        let taken = engine.take_data(Some(&mut queues), tag, &mut [0; 100]);
        assert_eq!((taken, queues.budget[0]), (Ok(100), before));
    }
    let reply = 100 + READ_HEADER_LEN as i64;
    assert_eq!(budgets, [reply, 0, reply]);
}

#[test]
fn deadlines_pass_by_the_time_that_is_told() {
    let (mut engine, mut queues) = engine(1);
    let tag = read(&mut engine, &mut queues, 100);
    assert!(poll(&mut engine, tag).is_pending());
    // The time of the request begins with the first look at the clock.
    assert_eq!(engine.expire_due(at(100)), at(130));
    assert!(engine.next_wakeup() > at(100) && engine.next_wakeup() <= at(130));
    assert_eq!(engine.expire_due(at(129)), at(130));
    assert!(poll(&mut engine, tag).is_pending());
    let before = engine.progress();
    engine.expire_due(at(130));
    assert_ne!(engine.progress(), before, "its task is polled again");
    assert_eq!(poll(&mut engine, tag), Poll::Ready(Err(Error::TimedOut)));
    // It is taken back, in time too.
    engine.abandon(tag);
    assert!(engine.has_loose_ends());
    engine.tie_up(&mut queues);
    assert!(!engine.has_loose_ends());
    assert_eq!(queues.kinds(0), [kind::TREAD, kind::TFLUSH]);
    assert_eq!(engine.expire_due(at(131)), at(161));
    engine.expire_due(at(160));
    assert_eq!(engine.error(), None);
    engine.expire_due(at(161));
    assert!(matches!(engine.error(), Some(Error::Transport(_))));
}

#[test]
fn a_request_that_is_taken_back_gives_all_back() {
    let (mut engine, mut queues) = engine(1);
    let tag = read(&mut engine, &mut queues, 100);
    engine.abandon(tag);
    engine.send_due(&mut queues);
    let flush = queues.sent[0][1].first_chunk().map(parse_header).unwrap();
    assert_eq!(flush.kind, kind::TFLUSH);
    queues.arrive(flush.tag, &Reply::Flush);
    engine.pump(&mut queues);
    assert_eq!(queues.budget, [0]);
    assert!(!engine.is_busy());
}

#[test]
fn without_lanes_nothing_is_sent_and_data_stays_where_it_is() {
    let (mut engine, mut queues) = engine(1);
    let clunk = Request::Clunk { fid: Fid(0) };
    let none = None::<&mut Queues>;
    assert_eq!(engine.submit(none, &clunk, None, None), Ok(None));
    let tag = read(&mut engine, &mut queues, 4096);
    let data = Payload::from(&[7; 4096][..]);
    queues.arrive(tag, &Reply::Read { data });
    engine.pump(&mut queues);
    assert!(
        engine
            .poll_reply(tag, Waker::noop(), true, false)
            .is_pending()
    );
    let nested = engine.poll_reply(tag, Waker::noop(), true, true);
    assert_eq!(nested, Poll::Ready(Err(Error::WouldBlock)));
    assert!(poll(&mut engine, tag).is_ready());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Arrive(usize),
    Poll(usize),
    Pump,
    Wait,
}

const STEPS: [Step; 6] = [
    Step::Arrive(0),
    Step::Arrive(1),
    Step::Poll(0),
    Step::Poll(1),
    Step::Pump,
    Step::Wait,
];

/// Goes through the steps with two reads on one lane, or on two. The first is answered at length, so that its reply stays on
/// its lane, with what is behind it. The first wait after a reply came must not sleep while the read is not over, if there is a
/// task that has asked for it.
fn explore(steps: &[Step], lanes: u16) {
    let (mut engine, mut queues) = engine(lanes);
    let sizes = [4096, 100];
    let tags = sizes.map(|count| read(&mut engine, &mut queues, count));
    let mut into = vec![0; 4096];
    // Whether the reply has come, and no wait has returned since.
    let mut fresh = [false; 2];
    let mut arrived = [false; 2];
    let mut over = [false; 2];
    let mut polled = [false; 2];
    for &step in steps {
        match step {
            Step::Arrive(which) => {
                if !core::mem::replace(&mut arrived[which], true) {
                    let bytes = vec![0; sizes[which] as usize];
                    let data = Payload::from(&bytes[..]);
                    queues.arrive(tags[which], &Reply::Read { data });
                    fresh[which] = true;
                }
            }
            Step::Poll(which) => {
                polled[which] = true;
                if !over[which] && poll(&mut engine, tags[which]).is_ready() {
                    let taken = engine.take_data(Some(&mut queues), tags[which], &mut into);
                    assert_eq!(taken, Ok(sizes[which] as usize));
                    over[which] = true;
                }
            }
            Step::Pump => engine.exchange(&mut queues),
            Step::Wait => {
                // What the driver does.
                let sleeps = match engine.has_untold_progress() {
                    true => {
                        engine.exchange(&mut queues);
                        false
                    }
                    false => {
                        let seen = engine.progress();
                        engine.settle(&mut queues, seen).is_some()
                    }
                };
                engine.tell_progress();
                for which in 0..2 {
                    let lost = sleeps && fresh[which] && polled[which] && !over[which];
                    assert!(!lost, "{steps:?} on {lanes} lanes");
                    fresh[which] = false;
                }
            }
        }
    }
    // Whatever the order, both come to their ends.
    for which in 0..2 {
        if arrived[which] && !over[which] {
            engine.exchange(&mut queues);
            // It is asked for now, and no longer stays behind the other one.
            let _ = poll(&mut engine, tags[which]);
            engine.spill_heads(&mut queues);
            assert!(poll(&mut engine, tags[which]).is_ready(), "{steps:?}");
        }
    }
}

#[test]
fn no_order_of_replies_polls_pumps_and_waits_loses_a_wake_up() {
    const LENGTH: u32 = 6;
    let count = STEPS.len();
    for number in 0..count.pow(LENGTH) {
        let steps: Vec<Step> = (0..LENGTH)
            .map(|at| STEPS[number / count.pow(at) % count])
            .collect();
        explore(&steps, 1);
        explore(&steps, 2);
    }
}

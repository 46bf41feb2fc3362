//! A request allocates nothing, copies each byte once, and does not look at the clock while answers come
//! (docs/speed.md).

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use xen9p::fs::{Fs, MountOptions};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{HEADER_LEN, Qid, QidKind, Qids, Reply, Tag, kind, parse_header};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};
use xen9p_testing::count::allocations;

const MSIZE: u32 = 8192;
const LANES: usize = 4;

/// A reply: its fixed part, and how many bytes of data follow.
struct Queued {
    head: [u8; 32],
    len: usize,
    data: usize,
}

#[derive(Default)]
struct Counters {
    copied: Cell<u64>,
    sent: Cell<u64>,
    requests: Cell<u64>,
    waits: Cell<u64>,
    flushes: Cell<u64>,
    looks: Cell<u64>,
    /// Answers stay hidden until they are waited for.
    late: Cell<bool>,
    hidden: Cell<bool>,
}

/// Answers at once or when that is waited for, whatever is asked, and allocates nothing once its queues have grown.
struct Tape {
    lanes: [VecDeque<Queued>; LANES],
    counters: Rc<Counters>,
}

impl Transport for Tape {
    fn lanes(&self) -> u16 {
        LANES as u16
    }

    fn max_message(&self) -> u32 {
        MSIZE
    }

    fn set_max_message(&mut self, _: u32) {}

    fn has_room(&mut self, lane: Lane, _: u32, _: u32) -> Result<bool, TransportError> {
        Ok(self.lanes[usize::from(lane.0)].len() < 4)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], _: u32) -> Result<bool, TransportError> {
        let request = parts[0];
        let header = parse_header(request.first_chunk().unwrap());
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let counters = &self.counters;
        counters.sent.set(counters.sent.get() + bytes as u64);
        counters.requests.set(counters.requests.get() + 1);
        let count = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let qid = Qid {
            kind: QidKind::DIR,
            ..Qid::default()
        };
        let mut data = 0;
        let reply = match header.kind {
            kind::TVERSION => Reply::Version {
                msize: MSIZE,
                version: b"9P2000.L",
            },
            kind::TATTACH => Reply::Attach { qid },
            kind::TWALK => Reply::Walk {
                qids: Qids::from_slice(&[Qid::default()]).unwrap(),
            },
            kind::TLOPEN => Reply::Lopen {
                qid: Qid::default(),
                iounit: 0,
            },
            kind::TCLUNK => Reply::Clunk,
            kind::TWRITE => Reply::Write { count: count(19) },
            kind::TREAD => {
                data = count(19) as usize;
                Reply::Clunk
            }
            other => panic!("{}", kind::name(other)),
        };
        let mut head = [0; 32];
        let mut len = reply
            .encode(Tag(header.tag), Dialect::Linux, &mut head)
            .unwrap();
        if header.kind == kind::TREAD {
            len = 11;
            head[..4].copy_from_slice(&((data + 11) as u32).to_le_bytes());
            head[4] = kind::RREAD;
            head[7..11].copy_from_slice(&(data as u32).to_le_bytes());
        }
        self.lanes[usize::from(lane.0)].push_back(Queued { head, len, data });
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.counters.flushes.set(self.counters.flushes.get() + 1);
        self.counters.hidden.set(self.counters.late.get());
        Ok(())
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        let first = match self.counters.hidden.get() {
            true => None,
            false => self.lanes[usize::from(lane.0)].front(),
        };
        Ok(first.map(|reply| parse_header(reply.head.first_chunk::<HEADER_LEN>().unwrap())))
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        let copied = &self.counters.copied;
        copied.set(copied.get() + into.len() as u64);
        let reply = &self.lanes[usize::from(lane.0)][0];
        assert!(offset as usize + into.len() <= reply.len + reply.data);
        for (at, byte) in (offset as usize..).zip(into) {
            *byte = if at < reply.len { reply.head[at] } else { 0x5a };
        }
    }

    fn consume(&mut self, lane: Lane) {
        self.lanes[usize::from(lane.0)].pop_front();
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        self.counters.looks.set(self.counters.looks.get() + 1);
        Instant::from_nanos(1)
    }

    fn wait(&mut self, _: Instant) -> Result<(), TransportError> {
        self.counters.waits.set(self.counters.waits.get() + 1);
        self.counters.hidden.set(false);
        Ok(())
    }

    fn close(&mut self) {}
}

fn mount() -> (Fs, Rc<Counters>) {
    let counters = Rc::new(Counters::default());
    let tape = Tape {
        lanes: Default::default(),
        counters: counters.clone(),
    };
    let fs = Fs::mount(tape, &MountOptions::new()).unwrap();
    (fs, counters)
}

#[test]
fn nothing_is_allocated_and_each_byte_is_copied_once() {
    let (fs, counters) = mount();
    let file = fs.open("/file").unwrap();
    let mut large = vec![0; 1 << 20];
    let mut small = vec![0; 4096];
    let mut tiny = [0; 100];
    // Once, so that what grows has grown.
    file.read_at(&mut large, 0).unwrap();
    file.write_at(&large, 0).unwrap();

    let before = allocations();
    counters.copied.set(0);
    counters.requests.set(0);
    assert_eq!(file.read_at(&mut large, 0).unwrap(), 1 << 20);
    let requests = counters.requests.get();
    assert_eq!(requests, (1u64 << 20).div_ceil(u64::from(MSIZE - 24)));
    assert_eq!(counters.copied.get(), (1 << 20) + 11 * requests);
    assert!(large.iter().all(|&byte| byte == 0x5a));

    counters.copied.set(0);
    for _ in 0..1000 {
        assert_eq!(file.read_at(&mut small, 4096).unwrap(), 4096);
    }
    assert_eq!(counters.copied.get(), 1000 * (4096 + 11));
    for _ in 0..1000 {
        assert_eq!(file.read_at(&mut tiny, 0).unwrap(), 100);
    }

    counters.sent.set(0);
    counters.requests.set(0);
    assert_eq!(file.write_at(&large, 0).unwrap(), 1 << 20);
    let requests = counters.requests.get();
    assert_eq!(counters.sent.get(), (1 << 20) + 23 * requests);
    for _ in 0..1000 {
        file.write_all_at(&small, 0).unwrap();
    }
    assert_eq!(allocations() - before, 0, "allocations on the hot path");
    assert_eq!(fs.stats().spills, 0);
    // Where answers are there at once, no call waits.
    assert_eq!(counters.waits.get(), 0);
}

#[test]
fn nobody_looks_at_the_clock_while_answers_come() {
    let (fs, counters) = mount();
    let file = fs.open("/file").unwrap();
    let mut large = vec![0; 1 << 16];
    counters.looks.set(0);
    file.read_at(&mut large, 0).unwrap();
    file.write_at(&large, 0).unwrap();
    counters.late.set(true);
    counters.waits.set(0);
    for _ in 0..10 {
        file.read_at(&mut large[..4096], 0).unwrap();
    }
    assert_eq!(counters.waits.get(), 10);
    file.read_at(&mut large, 0).unwrap();
    file.write_at(&large, 0).unwrap();
    assert_eq!(counters.looks.get(), 0);
    // One that can't be sure whether anything came does.
    fs.to_async().session().wait(Instant::NEVER);
    assert_eq!(counters.looks.get(), 1);
}

#[test]
fn lent_data_is_copied_by_nobody_but_who_looks() {
    let (fs, counters) = mount();
    let file = fs.open("/file").unwrap();
    let mut sum = 0_u64;
    let mut add = |piece: &[u8]| sum += piece.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    file.read_lent_at(0, 1 << 20, |span| span.for_each_piece::<512>(&mut add))
        .unwrap();
    let before = allocations();
    counters.copied.set(0);
    counters.requests.set(0);
    let mut first = [0; 8];
    let count = file.read_lent_at(0, 1 << 20, |span| assert_eq!(span.read(0, &mut first), 8));
    assert_eq!(count, Ok(1 << 20));
    assert_eq!(first, [0x5a; 8]);
    let requests = counters.requests.get();
    assert_eq!(counters.copied.get(), (8 + 11) * requests);
    assert_eq!(allocations() - before, 0);
    assert_eq!(sum, 0x5a << 20);
}

#[test]
fn requests_that_are_made_together_are_announced_together() {
    let (fs, counters) = mount();
    let file = fs.open("/file").unwrap();
    let mut buffer = vec![0; 16 * 8168];
    counters.flushes.set(0);
    file.read_at(&mut buffer, 0).unwrap();
    // Sixteen requests fill four lanes of four: one announcement for them, and those that follow
    // the replies.
    assert!(counters.flushes.get() <= 3, "{}", counters.flushes.get());
}

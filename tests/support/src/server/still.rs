//! A server and its transport in one, in memory: it answers at once, never allocates, and copies no data, so that
//! what is measured with it, time, instructions or allocations, is the client's.

use std::collections::VecDeque;

use xen9p::p9::wire::{
    Attr, Dialect, HEADER_LEN, Payload, Qid, QidKind, Qids, Reader, Reply, Request, parse_header,
};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};

/// The size of every file.
pub const FILE_SIZE: u64 = 1 << 40;

/// The most replies that wait to be taken.
const REPLIES: usize = 64;

/// More than any reply takes without its data, which is never written: buffers are made of zeros.
const HEAD: usize = 256;

const REGULAR: u32 = 0o100_644;

/// Every name leads to the same file, which is full of zeros and takes every write.
pub struct Still {
    msize: u32,
    request: Vec<u8>,
    zeros: Vec<u8>,
    waiting: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
    origin: std::time::Instant,
}

impl Still {
    /// Messages of up to `msize` bytes.
    pub fn new(msize: u32) -> Self {
        let size = msize as usize;
        Still {
            msize,
            request: Vec::with_capacity(size),
            zeros: vec![0; size],
            waiting: VecDeque::with_capacity(REPLIES),
            free: (0..REPLIES).map(|_| vec![0; size]).collect(),
            origin: std::time::Instant::now(),
        }
    }

    /// Makes the reply to the request; what it takes without its data.
    fn answer(&self, into: &mut [u8]) -> usize {
        let reader = Reader::new(&self.request, Dialect::Linux);
        let (tag, request) = Request::decode(reader).unwrap_or_else(|e| panic!("{e}"));
        let qid = Qid {
            kind: QidKind::empty(),
            version: 1,
            path: 7,
        };
        let root = Qid {
            kind: QidKind::DIR,
            ..qid
        };
        let reply = match request {
            Request::Version { msize, version } => Reply::Version {
                msize: msize.min(self.msize),
                version,
            },
            Request::Attach { .. } => Reply::Attach { qid: root },
            Request::Walk { names, .. } => {
                let mut qids = Qids::new();
                assert!(names.iter().all(|_| qids.push(qid)));
                Reply::Walk { qids }
            }
            Request::Lopen { .. } => Reply::Lopen { qid, iounit: 0 },
            Request::Getattr { mask, .. } => Reply::Getattr {
                attr: Attr {
                    valid: mask,
                    qid,
                    mode: REGULAR,
                    size: FILE_SIZE,
                    ..Attr::default()
                },
            },
            Request::Read { offset, count, .. } => {
                let len = u64::from(count).min(FILE_SIZE.saturating_sub(offset)) as usize;
                Reply::Read {
                    data: Payload::from(&self.zeros[..len]),
                }
            }
            Request::Write { data, .. } => Reply::Write {
                count: data.len() as u32,
            },
            Request::Clunk { .. } => Reply::Clunk,
            other => panic!("no test needs {other:?} here"),
        };
        // What was a longer head before would be data.
        into[..HEAD].fill(0);
        let head = reply.encode_head(tag, Dialect::Linux, into);
        head.unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Transport for Still {
    fn lanes(&self) -> u16 {
        1
    }

    fn waits_for_news(&self) -> bool {
        true
    }

    fn max_message(&self) -> u32 {
        self.msize
    }

    fn set_max_message(&mut self, _: u32) {}

    fn has_room(&mut self, _: Lane, _: u32, _: u32) -> Result<bool, TransportError> {
        Ok(!self.free.is_empty())
    }

    fn send(&mut self, _: Lane, parts: &[&[u8]], _: u32) -> Result<bool, TransportError> {
        let Some(mut reply) = self.free.pop() else {
            return Ok(false);
        };
        self.request.clear();
        for part in parts {
            self.request.extend_from_slice(part);
        }
        assert!(self.answer(&mut reply) <= HEAD);
        self.waiting.push_back(reply);
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    fn peek(&mut self, _: Lane) -> Result<Option<Header>, TransportError> {
        let first = self.waiting.front();
        Ok(first
            .and_then(|reply| reply.first_chunk::<HEADER_LEN>())
            .map(parse_header))
    }

    fn copy_out(&mut self, _: Lane, offset: u32, into: &mut [u8]) {
        let offset = offset as usize;
        if let Some(reply) = self.waiting.front() {
            into.copy_from_slice(&reply[offset..offset + into.len()]);
        }
    }

    fn consume(&mut self, _: Lane) {
        self.free.extend(self.waiting.pop_front());
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        Instant::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn wait(&mut self, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn close(&mut self) {}
}

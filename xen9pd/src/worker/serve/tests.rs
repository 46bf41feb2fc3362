//! A worker's threads at rings in memory of this process, over a directory: what is asked of them whatever frontends do.

use std::sync::atomic::AtomicU64;

use p9_server::Rights;
use p9_wire::{AttrMask, Fid, LockFlags, LockKind, Names, OpenFlags, Request, Tag};
use rustix::event::Timespec;
use tempfile::TempDir;

use super::super::share::Share;
use super::*;
use crate::host::{HostTree, Options};
use crate::worker::counters::Snapshot;
use crate::xen::evtchn::Events;
use crate::xen::ring::Lie;
use crate::xen::ring::frontend::{self, Frontend, IN_CONS, IN_PROD, OUT_CONS, OUT_PROD};

/// What is waited for comes much sooner, or never.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The order of the rings here.
const ORDER: u32 = 3;

/// Bytes in each direction.
const SIZE: u32 = 4 * 4096;

const ROOT: Fid = Fid(0);

/// One direction of an event channel.
#[derive(Default)]
struct Line {
    is_pending: Mutex<bool>,
    changed: Condvar,
    sent: AtomicU64,
}

impl Line {
    fn send(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        *self.is_pending.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) -> bool {
        let pending = self.is_pending.lock().unwrap();
        let waiting = self
            .changed
            .wait_timeout_while(pending, timeout, |pending| !*pending);
        std::mem::take(&mut *waiting.unwrap().0)
    }
}

/// An event channel, as the worker has it.
#[derive(Clone, Default)]
struct Channel {
    to_frontend: Arc<Line>,
    to_worker: Arc<Line>,
}

impl Events for Channel {
    fn notify(&self) {
        self.to_frontend.send();
    }

    fn unmask(&self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&self, timeout: Option<Timespec>) -> io::Result<bool> {
        match timeout {
            Some(timeout) => Ok(self.to_worker.wait(Duration::try_from(timeout).unwrap())),
            None => {
                while !self.to_worker.wait(TIMEOUT) {}
                Ok(true)
            }
        }
    }
}

/// A guest with rings.
struct Guest {
    rings: Vec<(Frontend, Channel)>,
    connection: Connection<Share>,
    ends: Ends,
    dir: TempDir,
}

impl Guest {
    fn new(rings: usize) -> Guest {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("share")).unwrap();
        let tree = HostTree::open(&dir.path().join("share"), Options::default()).unwrap();
        let file = dir.path().join("counters");
        std::fs::write(&file, "").unwrap();
        let counters = Arc::new(Counters::take(&file).unwrap());
        let (own, theirs): (Vec<_>, Vec<_>) = (0..rings)
            .map(|number| {
                // Soon over the end of the numbers.
                let (front, memory) = frontend::ring(ORDER, u32::MAX - 99 + number as u32);
                let channel = Channel::default();
                let ring = Ring {
                    memory,
                    channel: Box::new(channel.clone()),
                };
                ((front, channel), ring)
            })
            .unzip();
        let share = Share::new(tree, Rights::ReadWrite);
        let (connection, ends) = Connection::new(share, Limits::default(), theirs, &counters);
        let mut guest = Guest {
            rings: own,
            connection,
            ends,
            dir,
        };
        let (msize, version) = (SIZE, b"9P2000.L");
        let attach = Request::Attach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        };
        guest.exchange(0, &[Request::Version { msize, version }]);
        guest.exchange(0, &[attach]);
        guest
    }

    /// Shows requests in one go, with tags from `tag` on, and sends one event.
    fn send(&mut self, ring: usize, tag: u16, requests: &[Request<'_>]) {
        let mut bytes = Vec::new();
        for (tag, request) in (tag..).zip(requests) {
            let mut message = [0; 512];
            let len = request
                .encode(Tag(tag), Dialect::Linux, &mut message)
                .unwrap();
            bytes.extend_from_slice(&message[..len]);
        }
        let (front, channel) = &mut self.rings[ring];
        assert!(bytes.len() <= front.room());
        front.send(&bytes);
        channel.to_worker.send();
    }

    /// Takes so many replies: their types and tags.
    fn replies(&mut self, ring: usize, count: usize) -> Vec<(u8, u16)> {
        let (front, channel) = &mut self.rings[ring];
        let mut bytes = Vec::new();
        let mut replies = Vec::new();
        while replies.len() < count {
            bytes.extend(front.take());
            while let Some(size) = bytes.first_chunk().map(|size| u32::from_le_bytes(*size)) {
                let rest = bytes.split_off(size as usize);
                replies.push((bytes[4], u16::from_le_bytes([bytes[5], bytes[6]])));
                bytes = rest;
            }
            channel.to_worker.send();
            if replies.len() < count {
                assert!(channel.to_frontend.wait(TIMEOUT), "got only {replies:?}");
            }
        }
        assert!(bytes.is_empty());
        replies
    }

    /// Sends requests and takes their replies, which are no errors.
    fn exchange(&mut self, ring: usize, requests: &[Request<'_>]) {
        self.exchange_from(ring, 1, requests);
    }

    /// The same with tags from `tag` on: all rings of a guest share the tags.
    fn exchange_from(&mut self, ring: usize, tag: u16, requests: &[Request<'_>]) {
        self.send(ring, tag, requests);
        for (kind, _) in self.replies(ring, requests.len()) {
            assert_ne!(kind, kind::RLERROR);
        }
    }

    fn count(&self, counter: Counter) -> u64 {
        let file = self.dir.path().join("counters");
        Snapshot::read(&file).unwrap().get(counter)
    }

    /// Why the connection ends.
    fn end(&self) -> (usize, Broken) {
        self.ends.recv_timeout(TIMEOUT).unwrap()
    }
}

fn walk<'a>(newfid: Fid, path: &[&'a [u8]]) -> Request<'a> {
    Request::Walk {
        fid: ROOT,
        newfid,
        names: Names::from_slice(path).unwrap(),
    }
}

fn look(fid: Fid) -> Request<'static> {
    let mask = AttrMask::BASIC;
    Request::Getattr { fid, mask }
}

const fn clunk(fid: Fid) -> Request<'static> {
    Request::Clunk { fid }
}

#[test]
fn what_is_shown_together_is_answered_with_few_events() {
    let mut guest = Guest::new(1);
    std::fs::write(guest.dir.path().join("share/file"), "content").unwrap();
    let (fid, before) = (Fid(1), guest.count(Counter::Notifications));
    let one = [walk(fid, &[b"file"]), look(fid), clunk(fid)];
    for _ in 0..20 {
        guest.exchange(0, &one.repeat(10));
    }
    assert_eq!(guest.count(Counter::Requests), 2 + 600);
    assert_eq!(guest.count(Counter::Fids), 1);
    let events = guest.count(Counter::Notifications) - before;
    // A batch ends where the ring is found empty, which it may be while the frontend still writes.
    assert!((20..=100).contains(&events), "{events} for 20 batches");
    assert_eq!(guest.count(Counter::Errors), 0);
    guest.connection.close();
}

#[test]
fn a_storm_of_events_is_no_work() {
    let mut guest = Guest::new(2);
    for _ in 0..100_000 {
        guest.rings[1].1.to_worker.send();
    }
    guest.exchange(0, &[look(ROOT)]);
    guest.exchange(1, &[look(ROOT)]);
    assert_eq!(guest.count(Counter::Requests), 4);
}

#[test]
fn a_lie_ends_the_connection_and_says_which_ring_told_it() {
    for (word, value, lie) in [
        (OUT_PROD, SIZE + 1, Lie::Sent(SIZE + 1)),
        (IN_CONS, 1, Lie::Taken(u32::MAX)),
    ] {
        let mut guest = Guest::new(2);
        guest.exchange(1, &[look(ROOT)]);
        let (front, channel) = &mut guest.rings[1];
        let own = match word {
            OUT_PROD => OUT_CONS,
            _ => IN_PROD,
        };
        let at = front.word(own).load(Ordering::SeqCst);
        front.set(word, at.wrapping_add(value));
        if word == IN_CONS {
            // It is looked at when there is something to send.
            front.send(&[7, 0, 0, 0, 0, 1, 0]);
        }
        channel.to_worker.send();
        match guest.end() {
            (1, Broken::Lie(found)) => assert_eq!(found, lie),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_frontend_that_takes_no_replies_is_waited_for_and_makes_no_heap() {
    let mut guest = Guest::new(2);
    // More replies than the ring holds: an Rgetattr is 160 bytes long.
    let many = SIZE as usize / 160 + 50;
    let looks = vec![look(ROOT); many];
    guest.send(0, 1, &looks);
    // The other ring is none the worse for it.
    for _ in 0..100 {
        guest.exchange_from(1, many as u16 + 1, &[look(ROOT)]);
    }
    let done = guest.count(Counter::Requests);
    assert!(done <= (2 + many + 100) as u64);
    let tags: Vec<u16> = guest.replies(0, many).iter().map(|reply| reply.1).collect();
    assert!(tags.iter().copied().eq(1..=many as u16), "in order");
    assert!(guest.count(Counter::Stalls) > 0);
}

/// A Tflush is answered on the ring that it came by, after the request that it is about.
#[test]
fn a_flush_may_come_by_another_ring() {
    let mut guest = Guest::new(2);
    std::fs::write(guest.dir.path().join("share/file"), "").unwrap();
    let (fid, flags) = (Fid(1), OpenFlags::READ_WRITE);
    guest.exchange(0, &[walk(fid, &[b"file"]), Request::Lopen { fid, flags }]);
    let lock = Request::Lock {
        fid,
        kind: LockKind::WRITE,
        flags: LockFlags::empty(),
        start: 0,
        length: 1,
        proc_id: 1,
        client_id: b"",
    };
    for _ in 0..50 {
        guest.send(0, 7, &[lock]);
        let oldtag = Tag(7);
        guest.send(1, 8, &[Request::Flush { oldtag }]);
        assert_eq!(guest.replies(1, 1), [(kind::RFLUSH, 8)]);
        assert_eq!(guest.replies(0, 1), [(kind::RLOCK, 7)]);
    }
}

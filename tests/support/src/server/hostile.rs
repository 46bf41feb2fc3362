//! A client of the engine that knows no rules: [`run`] makes a session of any bytes, and panics when the engine breaks one
//! of its promises.
//!
//! Requests are well-formed, or not, or noise; jobs are run, moved by hand, held back, given up, and completed in any order,
//! and the engine is told of what waits. After each step the engine's accounts are compared with what is known here.

mod requests;

use p9_server::{Exports, Job, Limits, OpenFile, Rights, Server, Ticket, Transfer};
use xen9p::p9::wire::*;

use super::mem::{MemNode, MemTree, ready};
use requests::{Input, message};

/// The longest session.
const MOST_STEPS: usize = 400;

/// The size of messages.
const MSIZE: u32 = 2048;

/// Makes a session of the input; says how many steps it took.
pub fn run(input: &[u8]) -> usize {
    let mut input = Input::new(input);
    let tree = MemTree::new();
    tree.put("dir/file", b"content");
    tree.put("dir/a/b", b"deeper");
    tree.put("file", &[7; 5000]);
    let mut limits = Limits::default();
    limits.msize = MSIZE;
    limits.fids = 10;
    limits.open_files = 6;
    limits.open_directories = 3;
    limits.places = 20;
    limits.depth = 8;
    limits.requests = 8;
    limits.bytes_in_flight = 8000;
    limits.locks = 5;
    limits.xattr_size = 300;
    limits.xattr_bytes = 700;
    let exports = Exports::none()
        .with(b"", tree.root(), Rights::ReadWrite)
        .with(b"dir", tree.root(), Rights::ReadOnly);
    let mut server = Server::new(exports, limits.clone());
    let mut buffer = vec![0; MSIZE as usize];
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut steps = 0;
    {
        let first = Request::Version {
            msize: MSIZE,
            version: Dialect::ALL[usize::from(input.byte() % 3)]
                .version()
                .as_bytes(),
        };
        let attach = Request::Attach {
            fid: Fid(0),
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        };
        for (tag, request) in [(u16::MAX, first), (0, attach)] {
            let mut bytes = vec![0; 100];
            let dialect = server.dialect().unwrap_or(Dialect::Linux);
            let len = request.encode(Tag(tag), dialect, &mut bytes).expect("fits");
            let job = server.accept(0, &bytes[..len]).expect("a message");
            let done = ready(job.run(&mut buffer));
            assert!(!server.complete(done, &mut buffer).is_empty());
        }
    }
    // Messages are made first, as jobs borrow from them.
    let dialect = server.dialect().expect("agreed");
    while !input.is_empty() && messages.len() < MOST_STEPS {
        messages.push(message(&mut input, dialect));
    }
    let mut held: Vec<Job<'_, MemNode>> = Vec::new();
    let mut promised = Promised::default();
    for bytes in &messages {
        steps += 1;
        let [verdict, bytes @ ..] = &bytes[..] else {
            unreachable!("at least the verdict");
        };
        let header = bytes.first_chunk().map(parse_header);
        match server.accept(u32::from(*verdict), bytes) {
            Err(_) => (),
            Ok(job) => {
                if header.is_some_and(|header| header.kind == kind::TVERSION)
                    && matches!(job.request(), Some(Request::Version { .. }))
                {
                    promised.forget();
                }
                promised.begin(&job);
                held.push(job);
                promised.cancelled(&server, &held);
            }
        }
        let accounts = server.usage();
        assert!(accounts.requests <= held.len() + promised.parked.len());
        // Which of those that are held back goes on, and how.
        while held.len() > usize::from(*verdict >> 5) {
            let at = usize::from(*verdict) % held.len();
            let job = held.swap_remove(at);
            steps += 1;
            finish(&mut server, job, *verdict, &mut buffer, &mut promised);
        }
        check(&server, &limits);
    }
    for job in held {
        finish(&mut server, job, 0, &mut buffer, &mut promised);
    }
    assert_eq!(server.usage().requests, 0, "requests without an answer");
    assert_eq!(server.usage().bytes_in_flight, 0);
    assert!(promised.is_empty(), "replies that did not come");
    check(&server, &limits);
    // Fid by fid, as what is held for one too many would be forgotten with the session.
    for fid in (0..12).map(Fid) {
        let mut bytes = [0; 11];
        let clunk = Request::Clunk { fid };
        let encoded = clunk.encode(Tag(0), Dialect::Linux, &mut bytes);
        encoded.expect("eleven bytes");
        let job = server.accept(0, &bytes).expect("a message");
        let done = ready(job.run(&mut buffer));
        assert!(!server.complete(done, &mut buffer).is_empty());
    }
    // A byte that was changed on the way may have made another fid.
    if server.usage().fids == 0 {
        assert_eq!(of_the_session(&server), [0; 6]);
    }
    let done = ready(server.close().run(&mut []));
    assert!(server.complete(done, &mut []).is_empty());
    assert_eq!(of_the_session(&server), [0; 6]);
    assert_eq!(tree.locks(), 0);
    drop(server);
    assert_eq!(tree.held(), 0, "files that are not closed");
    steps
}

/// What the peer may expect to hear.
#[derive(Default)]
struct Promised {
    /// Requests of this session that are in the table.
    open: Vec<(Ticket, Tag)>,
    /// Tags of Tflushes that wait for their turn.
    parked: Vec<Tag>,
}

impl Promised {
    fn forget(&mut self) {
        *self = Promised::default();
    }

    fn begin(&mut self, job: &Job<'_, MemNode>) {
        if let Some(ticket) = job.ticket() {
            let tag = job.tag();
            let in_use = self.open.iter().any(|(_, other)| *other == tag);
            assert!(!in_use && !self.parked.contains(&tag), "{tag:?} in use");
            self.open.push((ticket, tag));
        }
    }

    /// What waited and was flushed is not answered, and its tag is free.
    fn cancelled(&mut self, server: &Server<Exports<MemNode>>, held: &[Job<'_, MemNode>]) {
        for ticket in held.iter().filter(|job| job.is_waiting()).map(Job::ticket) {
            if ticket.is_some_and(|ticket| server.is_flushed(ticket)) {
                self.end(ticket);
            }
        }
    }

    /// Whether a request is of this session; it is over.
    fn end(&mut self, ticket: Option<Ticket>) -> bool {
        let at = self
            .open
            .iter()
            .position(|(other, _)| Some(*other) == ticket);
        at.map(|at| self.open.swap_remove(at)).is_some()
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.parked.is_empty()
    }
}

fn finish(
    server: &mut Server<Exports<MemNode>>,
    job: Job<'_, MemNode>,
    verdict: u8,
    buffer: &mut [u8],
    promised: &mut Promised,
) {
    let (ticket, tag) = (job.ticket(), job.tag());
    let Some(job) = server.retry(job) else {
        assert!(!promised.end(ticket), "not run, though not flushed");
        return;
    };
    let live = promised.end(ticket);
    if let (Some(ticket), true) = (ticket, verdict % 7 == 6) {
        drop(job);
        server.abandon(ticket);
        return flushes(server, buffer, promised);
    }
    let moved = match job.transfer() {
        Some(Transfer::Read {
            file,
            offset,
            count,
        }) if verdict % 5 == 4 => {
            assert!(count <= MSIZE - 11);
            let mut data = vec![0; count as usize];
            Some(ready(file.read(&mut data, offset)))
        }
        _ => None,
    };
    let is_flush = matches!(job.request(), Some(Request::Flush { .. }));
    let done = match moved {
        Some(moved) => job.transferred(moved.map_err(|error| error.errno())),
        None => ready(job.run(buffer)),
    };
    let completion = server.complete(done, buffer);
    let size = completion.len() + completion.moved();
    assert!(size <= MSIZE as usize, "a reply of {size} bytes");
    if completion.is_empty() {
        assert_eq!(completion.moved(), 0);
        assert!(!live || is_flush, "no reply");
        if live {
            promised.parked.push(tag);
        }
    } else {
        assert!(
            live || ticket.is_none(),
            "a reply to a request that was flushed"
        );
        let header = parse_header(buffer.first_chunk().expect("a header"));
        assert_eq!((header.size as usize, header.tag), (size, tag.0));
        if completion.moved() == 0 {
            let bytes = &buffer[..completion.len()];
            let decoded = Dialect::ALL
                .iter()
                .any(|dialect| Reply::decode(Reader::new(bytes, *dialect)).is_ok());
            assert!(decoded, "{bytes:02x?}");
        }
    }
    flushes(server, buffer, promised);
}

/// Takes in what became due.
fn flushes(server: &mut Server<Exports<MemNode>>, buffer: &mut [u8], promised: &mut Promised) {
    while let Some(flushed) = server.next_flush(buffer) {
        assert_eq!(flushed.len, 7);
        let header = parse_header(buffer.first_chunk().expect("seven bytes"));
        assert_eq!(header.kind, kind::RFLUSH);
        let parked = &mut promised.parked;
        let at = parked.iter().position(|tag| tag.0 == header.tag);
        parked.remove(at.expect("an Rflush without a Tflush"));
    }
}

/// What is gone when all fids are.
fn of_the_session(server: &Server<Exports<MemNode>>) -> [usize; 6] {
    let usage = server.usage();
    [
        usage.fids,
        usage.places,
        usage.open_files,
        usage.open_directories,
        usage.locks,
        usage.xattr_bytes,
    ]
}

fn check(server: &Server<Exports<MemNode>>, limits: &Limits) {
    let usage = server.usage();
    assert!(usage.fids <= limits.fids);
    assert!(usage.open_files <= limits.open_files);
    assert!(usage.open_directories <= limits.open_directories);
    assert!(usage.open_directories <= usage.open_files);
    // One walk may begin before another has ended.
    assert!(usage.places <= limits.places + 16 * limits.requests);
    // One lock in the middle of another makes three.
    assert!(usage.locks <= limits.locks * 3 + limits.requests);
    assert!(usage.xattr_bytes <= limits.xattr_bytes);
}

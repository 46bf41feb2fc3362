//! A client of the engine that knows no rules: [`run`] makes a session of any bytes, and panics when the engine breaks one
//! of its promises.
//!
//! Requests are well-formed, or not, or noise; jobs are run, moved by hand, held back, given up, and completed in any order,
//! and the engine is told of what waits. After each step the engine's accounts are compared with what is known here.

use p9_server::{Exports, Job, Limits, OpenFile, Rights, Server, Ticket, Transfer};
use xen9p::p9::wire::*;

use super::mem::{MemNode, MemTree, ready};

/// The longest session.
const MOST_STEPS: usize = 400;

/// The size of messages.
const MSIZE: u32 = 2048;

struct Input<'i>(&'i [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn fid(&mut self) -> Fid {
        match self.byte() {
            255 => Fid::NONE,
            byte => Fid(u32::from(byte % 12)),
        }
    }

    fn name(&mut self) -> &'static [u8] {
        const NAMES: [&[u8]; 16] = [
            b"a",
            b"b",
            b"c",
            b"d",
            b"a",
            b"b",
            b"dir",
            b"file",
            b"..",
            b"..",
            b".",
            b"",
            b"x/y",
            b"a\0",
            b"link",
            &[b'n'; 300],
        ];
        NAMES[usize::from(self.byte() % 16)]
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..100 => u64::from(byte),
            byte @ 100..180 => u64::from(byte) * 61,
            byte @ 180..220 => u64::from(byte) << 20,
            byte => u64::MAX - u64::from(byte - 220),
        }
    }
}

/// One of all requests.
fn request<'r>(input: &mut Input<'_>, data: &'r [u8]) -> Request<'r> {
    let (fid, other) = (input.fid(), input.fid());
    let name = input.name();
    let (mode, gid) = (input.number() as u32, 0);
    let flags = u32::from(input.byte()) << 3 & 0o3000 | u32::from(input.byte()) & 0o1303;
    let flags = OpenFlags::from_bits_retain(flags);
    let (start, length) = (input.number(), input.number());
    match input.byte() % 40 {
        0..6 => {
            let mut names = Names::new();
            for _ in 0..input.byte() % 5 {
                assert!(names.push(input.name()));
            }
            Request::Walk {
                fid,
                newfid: other,
                names,
            }
        }
        6..9 => Request::Lopen { fid, flags },
        9 => Request::Lcreate {
            fid,
            name,
            flags,
            mode,
            gid,
        },
        10..13 => Request::Read {
            fid,
            offset: start,
            count: length as u32,
        },
        13..16 => Request::Write {
            fid,
            offset: start.min(100_000),
            data: Payload::from(data),
        },
        16..19 => Request::Clunk { fid },
        19 => Request::Remove { fid },
        20 => Request::Attach {
            fid,
            afid: if start < 250 { Fid::NONE } else { other },
            uname: b"",
            aname: input.name(),
            n_uname: 0,
        },
        21..24 => Request::Flush {
            oldtag: Tag(u16::from(input.byte() % 10)),
        },
        24 => Request::Symlink {
            dfid: fid,
            name,
            target: b"a/b",
            gid,
        },
        25 => Request::Mknod {
            dfid: fid,
            name,
            mode,
            major: 1,
            minor: 2,
            gid,
        },
        26 => Request::Rename {
            fid,
            dfid: other,
            name,
        },
        27 => Request::Renameat {
            olddirfid: fid,
            oldname: name,
            newdirfid: other,
            newname: input.name(),
        },
        28 => Request::Unlinkat {
            dirfid: fid,
            name,
            flags: UnlinkFlags::from_bits_retain(mode & 0x300),
        },
        29 => Request::Getattr {
            fid,
            mask: AttrMask::from_bits_retain(length),
        },
        30 => Request::Setattr {
            fid,
            attr: SetAttr {
                valid: SetAttrMask::from_bits_retain(mode),
                size: start,
                ..SetAttr::default()
            },
        },
        31 => Request::Xattrwalk {
            fid,
            newfid: other,
            name,
        },
        32 => Request::Xattrcreate {
            fid,
            name,
            size: length,
            flags: XattrFlags::from_bits_retain(mode & 3),
        },
        33 => Request::Readdir {
            fid,
            offset: start,
            count: length as u32,
        },
        34 => Request::Lock {
            fid,
            kind: LockKind(input.byte() % 4),
            flags: LockFlags::BLOCK,
            start,
            length,
            proc_id: mode & 1,
            client_id: name,
        },
        35 => Request::Getlock {
            fid,
            kind: LockKind(input.byte() % 4),
            start,
            length,
            proc_id: mode & 1,
            client_id: name,
        },
        36 => Request::Link {
            dfid: fid,
            fid: other,
            name,
        },
        37 => Request::Mkdir {
            dfid: fid,
            name,
            mode,
            gid,
        },
        38 => Request::Fsync { fid, datasync: 1 },
        _ => match input.byte() % 6 {
            0 => Request::Statfs { fid },
            1 => Request::Readlink { fid },
            2 => Request::Auth {
                afid: fid,
                uname: name,
                aname: b"",
                n_uname: 0,
            },
            _ => Request::Version {
                msize: MSIZE,
                version: Dialect::ALL[usize::from(input.byte() % 3)]
                    .version()
                    .as_bytes(),
            },
        },
    }
}

/// Those that the other dialects have.
fn classic(input: &mut Input<'_>) -> Option<Request<'static>> {
    let fid = input.fid();
    let name = input.name();
    let mode = OpenMode::from_bits_retain(input.byte());
    Some(match input.byte() % 8 {
        0 => Request::Open { fid, mode },
        1 => Request::Create {
            fid,
            name,
            perm: DirMode::from_bits_retain(
                1u32.unbounded_shl(u32::from(input.byte() % 40)) & !0o777 | 0o755,
            ),
            mode,
            extension: [&b"a/b"[..], b"3", b"c 1 3"][usize::from(input.byte() % 3)],
        },
        2 => Request::Stat { fid },
        3 => {
            let mut stat = Stat::UNCHANGED;
            match input.byte() % 4 {
                0 => stat.name = name,
                1 => stat.length = input.number(),
                2 => stat.mode = DirMode::from_bits_retain(0o700),
                _ => stat.mtime = 9,
            }
            Request::Wstat { fid, stat }
        }
        _ => return None,
    })
}

/// Makes a session of the input; says how many steps it took.
pub fn run(input: &[u8]) -> usize {
    let mut input = Input(input);
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
    while !input.0.is_empty() && messages.len() < MOST_STEPS {
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

/// A verdict, and a message.
fn message(input: &mut Input<'_>, dialect: Dialect) -> Vec<u8> {
    let verdict = input.byte();
    let data = [verdict; 700];
    let data = &data[..usize::from(verdict) * 2];
    let how = input.byte();
    let tag = Tag(u16::from(input.byte() % 10));
    let request = match how {
        0..200 if dialect != Dialect::Linux || how < 20 => {
            classic(input).unwrap_or_else(|| request(input, data))
        }
        _ => request(input, data),
    };
    let spoken = match request.is_in(dialect) {
        true => dialect,
        false if request.is_in(Dialect::Unix) => Dialect::Unix,
        false => Dialect::Linux,
    };
    let mut bytes = vec![0; 4096];
    let len = request.encode(tag, spoken, &mut bytes).expect("fits");
    bytes.truncate(len);
    if how >= 240 {
        // Somewhere another byte, or fewer of them.
        let at = usize::from(input.byte()) % len;
        let by = input.byte();
        match how % 2 {
            0 if at >= 4 => bytes[at] ^= by,
            _ => {
                bytes.truncate(at.max(7));
                let size = bytes.len() as u32;
                bytes[..4].copy_from_slice(&size.to_le_bytes());
            }
        }
    }
    bytes.insert(0, verdict);
    bytes
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

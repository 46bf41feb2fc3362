//! Our server in memory answers as QEMU's does: the same requests in the same order, and the same
//! outcomes. Tests that use it are worth as much as this holds.

mod script;

use xen9p::errno::Errno;
use xen9p::p9::wire::*;
use xen9p::transport::Transport;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::{LaneOptions, Lanes, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::raw::Raw;

use script::{clunk, open, read, script, unlink, walk, write};

const ROOT: Fid = Fid(0);
const A: Fid = Fid(1);
const B: Fid = Fid(2);
const C: Fid = Fid(3);
const RW: OpenFlags = OpenFlags::READ_WRITE;
const DIR: UnlinkFlags = UnlinkFlags::REMOVE_DIR;
const NOT_DIR: UnlinkFlags = UnlinkFlags::empty();

/// What has to be the same about an answer.
#[derive(Debug, PartialEq)]
enum Outcome {
    Failed(Errno),
    /// Message type only.
    Done(u8),
    Walked(Vec<QidKind>),
    Read(Vec<u8>),
    Number(u64),
    Names(Vec<Vec<u8>>),
    /// Mode, links, and size unless it is a directory.
    Attr(u32, u64, u64),
}

fn outcome(answer: Result<Reply<'_>, Errno>) -> Outcome {
    match answer {
        Err(errno) => Outcome::Failed(errno),
        Ok(Reply::Walk { qids }) => Outcome::Walked(qids.iter().map(|qid| qid.kind).collect()),
        Ok(Reply::Read { data }) => Outcome::Read(data.bytes().collect()),
        Ok(Reply::Readlink { target }) => Outcome::Read(target.to_vec()),
        Ok(Reply::Write { count }) => Outcome::Number(count.into()),
        Ok(Reply::Xattrwalk { size }) => Outcome::Number(size),
        Ok(Reply::Lock { status }) => Outcome::Number(status.0.into()),
        Ok(Reply::Getattr { attr }) => {
            let is_dir = FileKind::of_mode(attr.mode) == FileKind::DIR;
            Outcome::Attr(attr.mode, attr.nlink, if is_dir { 0 } else { attr.size })
        }
        Ok(Reply::Readdir {
            data: Payload(data, _),
        }) => {
            let entries = DirEntries::new(data).map(|entry| entry.unwrap().name.to_vec());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            Outcome::Names(names)
        }
        Ok(reply) => Outcome::Done(reply.kind()),
    }
}

fn run<T: Transport>(transport: T) -> Vec<Outcome> {
    let mut raw = Raw::new(transport, Dialect::Linux);
    script()
        .iter()
        .map(|request| outcome(raw.call(request)))
        .collect()
}

#[test]
fn the_same_requests_have_the_same_outcomes() {
    let export = TempDir::new().unwrap();
    let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() else {
        return;
    };
    let theirs = run(transport);
    for like_qemu in [true, false] {
        let mut server = MemServer::new(MemOptions {
            like_qemu,
            ..MemOptions::default()
        });
        let (transport, _) = lanes(LaneOptions::default(), move |request| {
            server.handle(request)
        });
        let ours = run(transport);
        let mut differ = 0;
        for ((request, ours), theirs) in script().iter().zip(&ours).zip(&theirs) {
            // Of a fid that is not in use, or not open, QEMU says this or that.
            let of_fid = !like_qemu
                && *ours == Outcome::Failed(Errno::EBADF)
                && [Errno::ENOENT, Errno::EINVAL, Errno::ENOTDIR]
                    .map(Outcome::Failed)
                    .contains(theirs);
            if ours != theirs && !of_fid {
                println!("{request:?}\n  ours   {ours:?}\n  theirs {theirs:?}");
                differ += 1;
            }
        }
        assert_eq!(differ, 0, "like QEMU: {like_qemu}");
    }
}

/// A conversation with a server in memory that has "file" in its root, which A is.
fn with_file(options: MemOptions) -> Raw<Lanes> {
    let mut server = MemServer::new(options);
    server.put("file", b"0123456789");
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    let mut raw = Raw::new(transport, Dialect::Linux);
    let attach = Request::Attach {
        fid: ROOT,
        afid: Fid::NONE,
        uname: b"",
        aname: b"",
        n_uname: 0,
    };
    assert!(raw.call(&attach).is_ok());
    assert!(raw.call(&walk(ROOT, A, &[b"file"])).is_ok());
    raw
}

#[test]
fn locks_are_those_of_posix() {
    let mut raw = with_file(MemOptions::default());
    assert!(raw.call(&walk(A, B, &[])).is_ok());
    for fid in [A, B] {
        assert!(raw.call(&open(fid, RW)).is_ok());
    }
    let mut lock = |fid, kind, start, length| {
        let proc_id = fid;
        let request = Request::Lock {
            fid,
            kind,
            flags: LockFlags::empty(),
            start,
            length,
            proc_id: proc_id.0,
            client_id: b"me",
        };
        match raw.call(&request) {
            Ok(Reply::Lock { status }) => status,
            other => panic!("{other:?}"),
        }
    };
    let (yes, no) = (LockStatus::SUCCESS, LockStatus::BLOCKED);
    // Readers share, writers don't, neighbours don't care, and 0 means to the end.
    assert_eq!(lock(A, LockKind::READ, 0, 100), yes);
    assert_eq!(lock(B, LockKind::READ, 50, 10), yes);
    assert_eq!(lock(B, LockKind::WRITE, 99, 1), no);
    assert_eq!(lock(B, LockKind::WRITE, 100, 0), yes);
    assert_eq!(lock(A, LockKind::READ, u64::MAX - 1, 0), no);
    // Giving back the middle leaves the ends.
    assert_eq!(lock(B, LockKind::UNLOCK, 0, 0), yes);
    assert_eq!(lock(A, LockKind::UNLOCK, 10, 80), yes);
    assert_eq!(lock(B, LockKind::WRITE, 10, 80), yes);
    assert_eq!(lock(B, LockKind::WRITE, 9, 1), no);
    assert_eq!(lock(B, LockKind::WRITE, 90, 1), no);

    let query = Request::Getlock {
        fid: B,
        kind: LockKind::WRITE,
        start: 5,
        length: 200,
        proc_id: 2,
        client_id: b"me",
    };
    let held = Reply::Getlock {
        kind: LockKind::READ,
        start: 0,
        length: 10,
        proc_id: 1,
        client_id: b"me",
    };
    assert_eq!(raw.call(&query), Ok(held));
    // With the fid go its locks.
    assert!(raw.call(&clunk(A)).is_ok());
    let free = Reply::Getlock {
        kind: LockKind::UNLOCK,
        start: 5,
        length: 200,
        proc_id: 2,
        client_id: b"me",
    };
    assert_eq!(raw.call(&query), Ok(free));
}

#[test]
fn every_knob_turns() {
    let lacks = vec![kind::TUNLINKAT];
    let mut raw = with_file(MemOptions {
        lacks,
        ..MemOptions::default()
    });
    assert_eq!(raw.call(&unlink(b"file", NOT_DIR)), Err(Errno::EOPNOTSUPP));

    let mut raw = with_file(MemOptions {
        read_only: true,
        ..MemOptions::default()
    });
    assert_eq!(raw.call(&unlink(b"file", NOT_DIR)), Err(Errno::EROFS));
    assert_eq!(raw.call(&open(A, RW)), Err(Errno::EROFS));
    assert!(raw.call(&open(A, OpenFlags::empty())).is_ok());

    let mut raw = with_file(MemOptions {
        io_limit: 3,
        iounit: 77,
        ..MemOptions::default()
    });
    assert!(matches!(
        raw.call(&open(A, RW)),
        Ok(Reply::Lopen { iounit: 77, .. })
    ));
    assert_eq!(
        outcome(raw.call(&read(A, 1))),
        Outcome::Read(b"123".to_vec())
    );
    assert_eq!(
        outcome(raw.call(&write(A, 0, b"abcdef"))),
        Outcome::Number(3)
    );
    assert_eq!(
        outcome(raw.call(&read(A, 1))),
        Outcome::Read(b"bc3".to_vec())
    );

    let mut raw = with_file(MemOptions {
        untyped_entries: true,
        ..MemOptions::default()
    });
    assert!(raw.call(&walk(ROOT, B, &[])).is_ok());
    assert!(raw.call(&open(B, OpenFlags::DIRECTORY)).is_ok());
    let Ok(Reply::Readdir {
        data: Payload(data, _),
    }) = raw.call(&Request::Readdir {
        fid: B,
        offset: 0,
        count: 900,
    })
    else {
        panic!("{:?}", raw.reply());
    };
    for entry in DirEntries::new(data) {
        let entry = entry.unwrap();
        assert_eq!(
            (entry.kind, entry.qid.kind),
            (DirEntryKind::UNKNOWN, QidKind::empty())
        );
    }
}

//! Data costs no memory, and memory that a peer asks for may be refused.

use p9_server::{Exports, Limits, Rights, Server};
use p9_tree::trees::MemTree;
use p9_wire::*;
use xen9p_testing::count::{allocations, with_memory};
use xen9p_testing::server::mem::ready;

use crate::peer::{Peer, ROOT, linux, message, names, tree};

const FILE: Fid = Fid(1);

#[test]
fn reads_and_writes_allocate_nothing() {
    let tree = MemTree::new();
    tree.put("/file", [1; 10_000]).unwrap();
    let exports = Exports::new(tree.root(), Rights::ReadWrite);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Linux);
    peer.version();
    peer.attach(ROOT, b"").unwrap();
    peer.walk(ROOT, FILE, &[b"file"]).unwrap();
    peer.open(FILE, OpenFlags::READ_WRITE).unwrap();
    let fid = FILE;
    let (offset, count) = (10, 9000);
    let data = Payload::from(&[2; 5000][..]);
    let read = Request::Read { fid, offset, count };
    let write = Request::Write { fid, offset, data };
    let flush = Request::Flush { oldtag: Tag(77) };
    let messages = [read, write, flush].map(|request| message(&request, Tag(1), Dialect::Linux));
    let mut buffer = vec![0; 1 << 16];
    let mut round = || {
        for message in messages {
            let job = peer.server.accept(0, message).unwrap();
            let done = ready(job.run(&mut buffer));
            assert!(!peer.server.complete(done, &mut buffer).is_empty());
        }
    };
    round();
    let before = allocations();
    round();
    assert_eq!(allocations(), before);
    peer.walk(ROOT, Fid(2), &[b"file"]).unwrap();
    assert!(allocations() > before, "the counter counts");
}

/// What a guest does most: it walks to a file, looks at it, reads, and lets it go.
#[test]
fn walks_and_looks_allocate_nothing_once_there_was_one_of_each() {
    let tree = MemTree::new();
    tree.put("/dir/sub/file", [1; 10_000]).unwrap();
    let exports = Exports::new(tree.root(), Rights::ReadWrite);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Linux);
    peer.version();
    peer.attach(ROOT, b"").unwrap();
    peer.walk(ROOT, Fid(9), &[b"dir", b"sub", b"file"]).unwrap();
    peer.open(Fid(9), OpenFlags::empty()).unwrap();
    let (dir, file, clone) = (Fid(1), Fid(2), Fid(3));
    let walk = |fid, newfid, path: &[&'static [u8]]| Request::Walk {
        fid,
        newfid,
        names: names(path),
    };
    let mask = AttrMask::BASIC;
    let requests = [
        walk(ROOT, dir, &[b"dir"]),
        Request::Getattr { fid: dir, mask },
        walk(dir, file, &[b"sub", b"file"]),
        Request::Getattr { fid: file, mask },
        walk(file, clone, &[]),
        Request::Read {
            fid: Fid(9),
            offset: 4096,
            count: 4096,
        },
        Request::Clunk { fid: clone },
        Request::Clunk { fid: file },
        Request::Clunk { fid: dir },
    ];
    let messages = requests.map(|request| message(&request, Tag(1), Dialect::Linux));
    let mut buffer = vec![0; 1 << 16];
    let mut round = |allowed| {
        for (message, request) in messages.iter().zip(&requests) {
            let before = allocations();
            let job = peer.server.accept(0, message).unwrap();
            let done = ready(job.run(&mut buffer));
            assert!(!peer.server.complete(done, &mut buffer).is_empty());
            assert_ne!(buffer[4], kind::RLERROR, "{request:?}");
            let count = allocations() - before;
            assert!(count <= allowed, "{count} for {request:?}");
        }
    };
    round(u64::MAX);
    round(0);
}

#[test]
fn what_there_is_no_memory_for_is_an_error() {
    let mut peer = linux(&tree());
    peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
    let create = Request::Xattrcreate {
        fid: FILE,
        name: b"user.x",
        size: 60_000,
        flags: XattrFlags::empty(),
    };
    let message = message(&create, Tag(1), Dialect::Linux);
    let job = with_memory(20_000, || peer.server.accept(0, message).unwrap());
    assert_eq!(peer.end(job).unwrap().1.errno(), Some(Errno::ENOMEM));
    assert_eq!(peer.server.usage().xattr_bytes, 0);
    assert!(peer.call(&create).is_ok());
}

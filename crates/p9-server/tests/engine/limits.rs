//! Limits: an error for what goes beyond, and everything still works that was there before.

use p9_server::{Limits, Rights};
use p9_wire::*;

use crate::peer::{ROOT, attached, names, tree};

fn limits(set: impl FnOnce(&mut Limits)) -> crate::peer::Peer {
    let mut limits = Limits::default();
    set(&mut limits);
    attached(&tree(), Dialect::Linux, Rights::ReadWrite, limits)
}

#[test]
fn fids_and_open_files() {
    let mut peer = limits(|limits| {
        limits.fids = 5;
        limits.open_files = 3;
        limits.open_directories = 1;
    });
    for fid in 1..5 {
        peer.walk(ROOT, Fid(fid), &[b"dir", b"file"]).unwrap();
    }
    assert_eq!(peer.walk(ROOT, Fid(5), &[]), Err(Errno::EMFILE));
    assert_eq!(peer.attach(Fid(5), b""), Err(Errno::EMFILE));
    let xattr = Request::Xattrwalk {
        fid: ROOT,
        newfid: Fid(5),
        name: b"",
    };
    assert_eq!(peer.call(&xattr), Err(Errno::EMFILE));
    for fid in 1..4 {
        peer.open(Fid(fid), OpenFlags::empty()).unwrap();
    }
    assert_eq!(peer.open(Fid(4), OpenFlags::empty()), Err(Errno::EMFILE));
    assert_eq!(peer.read(Fid(1), 0, 3).unwrap(), b"con");
    peer.clunk(Fid(1)).unwrap();
    peer.open(Fid(4), OpenFlags::empty()).unwrap();
    peer.clunk(Fid(4)).unwrap();
    peer.walk(ROOT, Fid(4), &[]).unwrap();
    peer.open(Fid(4), OpenFlags::empty()).unwrap();
    peer.clunk(Fid(2)).unwrap();
    assert_eq!(peer.open(ROOT, OpenFlags::empty()), Err(Errno::EMFILE));
    // An open that fails does not count.
    peer.walk(ROOT, Fid(2), &[b"dir"]).unwrap();
    for _ in 0..10 {
        assert_eq!(peer.open(Fid(2), OpenFlags::empty()), Err(Errno::EMFILE));
    }
    let lcreate = Request::Lcreate {
        fid: Fid(2),
        name: b"file",
        flags: OpenFlags::EXCLUSIVE,
        mode: 0,
        gid: 0,
    };
    for _ in 0..10 {
        assert_eq!(peer.call(&lcreate), Err(Errno::EEXIST));
    }
    assert_eq!(peer.server.usage().open_files, 2);
    assert!(peer.server.usage().refused > 10);
}

#[test]
fn places_and_depth() {
    let mut peer = limits(|limits| {
        limits.places = 7;
        limits.depth = 3;
    });
    // The same file by the same way takes no place of its own.
    for fid in 1..50 {
        peer.walk(ROOT, Fid(fid), &[b"dir", b"file"]).unwrap();
    }
    assert_eq!(peer.server.usage().places, 3);
    let deep = [&b"dir"[..], b"sub", b"deep", b"x"];
    assert_eq!(peer.walk(ROOT, Fid(90), &deep), Err(Errno::ENAMETOOLONG));
    assert_eq!(peer.walk(ROOT, Fid(90), &deep[..3]), Ok(3));
    assert_eq!(peer.server.usage().places, 5);
    peer.walk(ROOT, Fid(91), &[b"dir"]).unwrap();
    assert_eq!(peer.walk(ROOT, Fid(92), &deep[..3]), Err(Errno::ENFILE));
    let root = peer_root(&mut peer);
    assert_eq!(peer.attach(Fid(92), b""), Ok(root));
    assert_eq!(peer.attach(Fid(93), b""), Ok(root));
    assert_eq!(peer.attach(Fid(94), b""), Err(Errno::ENFILE));
    peer.clunk(Fid(90)).unwrap();
    assert_eq!(peer.server.usage().places, 5);
}

fn peer_root(peer: &mut crate::peer::Peer) -> Qid {
    match peer.call(&Request::Getattr {
        fid: ROOT,
        mask: AttrMask::BASIC,
    }) {
        Ok(Reply::Getattr { attr }) => attr.qid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_and_bytes_in_flight() {
    let mut peer = limits(|limits| {
        limits.requests = 3;
        limits.bytes_in_flight = 10_000;
    });
    let getattr = Request::Getattr {
        fid: ROOT,
        mask: AttrMask::BASIC,
    };
    let jobs: Vec<_> = (1..4).map(|tag| peer.begin(tag, &getattr)).collect();
    assert!(peer.server.is_full());
    let refused = peer.begin(4, &getattr);
    assert_eq!(peer.end(refused).unwrap().1.errno(), Some(Errno::EAGAIN));
    // A flush is let in.
    let oldtag = Tag(9);
    let flush = peer.begin(5, &Request::Flush { oldtag });
    assert_eq!(peer.end(flush), Some((Tag(5), Reply::Flush)));
    for job in jobs {
        assert!(peer.end(job).is_some());
    }
    assert!(!peer.server.is_full());
    peer.walk(ROOT, Fid(1), &[b"dir", b"file"]).unwrap();
    peer.open(Fid(1), OpenFlags::READ_WRITE).unwrap();
    let read = |count| Request::Read {
        fid: Fid(1),
        offset: 0,
        count,
    };
    let first = peer.begin(1, &read(6000));
    let second = peer.begin(2, &read(6000));
    assert_eq!(peer.end(second).unwrap().1.errno(), Some(Errno::EAGAIN));
    assert!(peer.end(first).is_some());
    // One is let in, however large.
    assert!(peer.read(Fid(1), 0, u32::MAX).is_ok());
    assert_eq!(peer.server.usage().bytes_in_flight, 0);
}

#[test]
fn locks_and_extended_attributes() {
    let mut peer = limits(|limits| {
        limits.locks = 3;
        limits.xattr_size = 1000;
        limits.xattr_bytes = 2500;
    });
    peer.walk(ROOT, Fid(1), &[b"dir", b"file"]).unwrap();
    peer.open(Fid(1), OpenFlags::READ_WRITE).unwrap();
    let lock = |kind, start| Request::Lock {
        fid: Fid(1),
        kind,
        flags: LockFlags::empty(),
        start,
        length: 1,
        proc_id: 1,
        client_id: b"",
    };
    for start in 0..3 {
        peer.call(&lock(LockKind::WRITE, start * 2)).unwrap();
    }
    let fourth = lock(LockKind::WRITE, 10);
    assert_eq!(peer.call(&fourth), Err(Errno::ENOLCK));
    peer.call(&lock(LockKind::UNLOCK, 2)).unwrap();
    peer.call(&fourth).unwrap();
    peer.clunk(Fid(1)).unwrap();
    assert_eq!(peer.server.usage().locks, 0);

    let create = |fid, size| Request::Xattrcreate {
        fid,
        name: b"user.x",
        size,
        flags: XattrFlags::empty(),
    };
    for fid in 1..5 {
        peer.walk(ROOT, Fid(fid), &[b"dir", b"file"]).unwrap();
    }
    assert_eq!(peer.call(&create(Fid(1), 1001)), Err(Errno::E2BIG));
    peer.call(&create(Fid(1), 1000)).unwrap();
    peer.call(&create(Fid(2), 1000)).unwrap();
    assert_eq!(peer.call(&create(Fid(3), 1000)), Err(Errno::ENOSPC));
    let walk = Request::Xattrwalk {
        fid: Fid(3),
        newfid: Fid(9),
        name: b"",
    };
    assert_eq!(peer.call(&walk), Err(Errno::ENOSPC));
    assert_eq!(peer.clunk(Fid(1)), Err(Errno::EINVAL));
    peer.call(&walk).unwrap();
    peer.call(&create(Fid(3), 1000)).unwrap();
    assert_eq!(peer.server.usage().xattr_bytes, 2000);
}

#[test]
fn many_fids_in_any_order() {
    let mut peer = limits(|limits| limits.fids = 3000);
    let fid = |index: u32| Fid(index.wrapping_mul(0x9e37_79b1) & !1 | 1);
    for index in 1..3000 {
        peer.walk(ROOT, fid(index), &[b"dir"]).unwrap();
    }
    assert_eq!(peer.walk(ROOT, Fid(2), &[]), Err(Errno::EMFILE));
    for index in (1..3000).step_by(3) {
        peer.clunk(fid(index)).unwrap();
        assert_eq!(peer.clunk(fid(index)), Err(Errno::EBADF));
    }
    for index in (1..3000).step_by(3) {
        peer.walk(ROOT, fid(index), &[b"dir", b"sub"]).unwrap();
    }
    for index in 1..3000 {
        peer.clunk(fid(index)).unwrap();
    }
    assert_eq!(peer.server.usage().fids, 1);
    assert_eq!(peer.server.usage().places, 1);
    let all = Request::Walk {
        fid: ROOT,
        newfid: Fid(1),
        names: names(&[&b"dir"[..]; 16]),
    };
    assert!(matches!(peer.call(&all), Ok(Reply::Walk { qids }) if qids.len() == 1));
}

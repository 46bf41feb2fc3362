//! One of each message, with the type and the size that it has on the wire.

use xen9p::p9::wire::*;

pub const FID: Fid = Fid(0x0403_0201);
pub const QID: Qid = Qid {
    kind: QidKind::DIR,
    version: 0x1413_1211,
    path: 0x2827_2625_2423_2221,
};
pub const TAG: Tag = Tag(0x0605);
pub const L: Dialect = Dialect::Linux;
pub const U: Dialect = Dialect::Unix;
pub const P: Dialect = Dialect::Plan9;

pub fn stat() -> Stat<'static> {
    Stat {
        qid: QID,
        name: b"name",
        uid: b"me",
        gid: b"us",
        muid: b"it",
        extension: b"ext",
        ..Stat::UNCHANGED
    }
}

/// A stat as 9P2000 brings it back.
fn plain_stat() -> Stat<'static> {
    Stat {
        extension: b"",
        ..stat()
    }
}

fn lock_owner() -> &'static [u8] {
    b"host"
}

#[rustfmt::skip]
pub fn requests() -> Vec<(Dialect, Request<'static>, u8, usize)> {
    let fid = FID;
    let name: &[u8] = b"name";
    let target: &[u8] = b"target";
    let names = Names::from_slice(&[b"a", b"bc"]).unwrap();
    let attach = |n_uname| Request::Attach {
        fid,
        afid: Fid::NONE,
        uname: b"me",
        aname: b"/srv",
        n_uname,
    };
    let auth = |n_uname| Request::Auth {
        afid: fid,
        uname: b"me",
        aname: b"/srv",
        n_uname,
    };
    let create = |extension| Request::Create {
        fid,
        name,
        perm: DirMode::DIR,
        mode: OpenMode::READ_WRITE,
        extension,
    };
    let mut all = vec![
        (L, auth(7), 102, 15 + 2 + 4 + 4),
        (U, auth(7), 102, 15 + 2 + 4 + 4),
        (P, auth(NO_USER), 102, 15 + 2 + 4),
        (L, attach(7), 104, 19 + 2 + 4 + 4),
        (U, attach(7), 104, 19 + 2 + 4 + 4),
        (P, attach(NO_USER), 104, 19 + 2 + 4),
        (U, create(b"ext"), 114, 18 + 4 + 2 + 3),
        (P, create(b""), 114, 18 + 4),
        (U, Request::Wstat { fid, stat: stat() }, 126, 13 + 63 + 13),
        (P, Request::Wstat { fid, stat: plain_stat() }, 126, 13 + 49 + 10),
        (L, Request::Statfs { fid }, 8, 11),
        (L, Request::Lopen { fid, flags: OpenFlags::READ_WRITE }, 12, 15),
        (L, Request::Lcreate { fid, name, flags: OpenFlags::WRITE_ONLY, mode: 0o644, gid: 5 }, 14, 25 + 4),
        (L, Request::Symlink { dfid: fid, name, target, gid: 5 }, 16, 19 + 4 + 6),
        (L, Request::Mknod { dfid: fid, name, mode: FileKind::FIFO.bits(), major: 1, minor: 2, gid: 5 }, 18, 29 + 4),
        (L, Request::Rename { fid, dfid: Fid(9), name }, 20, 17 + 4),
        (L, Request::Readlink { fid }, 22, 11),
        (L, Request::Getattr { fid, mask: AttrMask::ALL }, 24, 19),
        (L, Request::Setattr { fid, attr: SetAttr { valid: SetAttrMask::SIZE, size: 77, ..SetAttr::default() } }, 26, 67),
        (L, Request::Xattrwalk { fid, newfid: Fid(9), name }, 30, 17 + 4),
        (L, Request::Xattrcreate { fid, name, size: 3, flags: XattrFlags::CREATE }, 32, 25 + 4),
        (L, Request::Readdir { fid, offset: 1 << 62, count: 8192 }, 40, 23),
        (L, Request::Fsync { fid, datasync: 1 }, 50, 15),
        (L, Request::Lock { fid, kind: LockKind::WRITE, flags: LockFlags::BLOCK, start: 1, length: 2, proc_id: 3, client_id: lock_owner() }, 52, 38 + 4),
        (L, Request::Getlock { fid, kind: LockKind::READ, start: 1, length: 2, proc_id: 3, client_id: lock_owner() }, 54, 34 + 4),
        (L, Request::Link { dfid: Fid(9), fid, name }, 70, 17 + 4),
        (L, Request::Mkdir { dfid: fid, name, mode: 0o755, gid: 5 }, 72, 21 + 4),
        (L, Request::Renameat { olddirfid: fid, oldname: name, newdirfid: Fid(9), newname: target }, 74, 19 + 4 + 6),
        (L, Request::Unlinkat { dirfid: fid, name, flags: UnlinkFlags::REMOVE_DIR }, 76, 17 + 4),
    ];
    for dialect in [U, P] {
        all.extend([
            (dialect, Request::Open { fid, mode: OpenMode::TRUNCATE }, 112, 12),
            (dialect, Request::Stat { fid }, 124, 11),
        ]);
    }
    for dialect in Dialect::ALL {
        all.extend([
            (dialect, Request::Version { msize: 8192, version: b"9P2000.L" }, 100, 13 + 8),
            (dialect, Request::Flush { oldtag: TAG }, 108, 9),
            (dialect, Request::Walk { fid, newfid: Fid(9), names }, 110, 17 + 3 + 4),
            (dialect, Request::Read { fid, offset: 5, count: 6 }, 116, 23),
            (dialect, Request::Write { fid, offset: 5, data: Payload::from(&b"data"[..]) }, 118, 23 + 4),
            (dialect, Request::Clunk { fid }, 120, 11),
            (dialect, Request::Remove { fid }, 122, 11),
        ]);
    }
    all
}

#[rustfmt::skip]
pub fn replies() -> Vec<(Dialect, Reply<'static>, u8, usize)> {
    let data = Payload::from(&b"data"[..]);
    let attr = Attr {
        valid: AttrMask::BASIC,
        qid: QID,
        size: 99,
        btime: Time { secs: 1, nanos: 2 },
        ..Attr::default()
    };
    let statfs = Statfs {
        kind: 0xef53,
        namelen: 255,
        ..Statfs::default()
    };
    let error = |errno| Reply::Error {
        ename: b"bad",
        errno,
    };
    let mut all = vec![
        (L, error(2), 107, 9 + 3 + 4),
        (U, error(2), 107, 9 + 3 + 4),
        (P, error(0), 107, 9 + 3),
        (U, Reply::Stat { stat: stat() }, 125, 9 + 63 + 13),
        (P, Reply::Stat { stat: plain_stat() }, 125, 9 + 49 + 10),
        (L, Reply::Statfs { statfs }, 9, 67),
        (L, Reply::Lopen { qid: QID, iounit: 1 }, 13, 24),
        (L, Reply::Lcreate { qid: QID, iounit: 1 }, 15, 24),
        (L, Reply::Symlink { qid: QID }, 17, 20),
        (L, Reply::Mknod { qid: QID }, 19, 20),
        (L, Reply::Rename, 21, 7),
        (L, Reply::Readlink { target: b"there" }, 23, 9 + 5),
        (L, Reply::Getattr { attr }, 25, 160),
        (L, Reply::Setattr, 27, 7),
        (L, Reply::Xattrwalk { size: 3 }, 31, 15),
        (L, Reply::Xattrcreate, 33, 7),
        (L, Reply::Readdir { data }, 41, 11 + 4),
        (L, Reply::Fsync, 51, 7),
        (L, Reply::Lock { status: LockStatus::BLOCKED }, 53, 8),
        (L, Reply::Getlock { kind: LockKind::UNLOCK, start: 1, length: 2, proc_id: 3, client_id: lock_owner() }, 55, 30 + 4),
        (L, Reply::Link, 71, 7),
        (L, Reply::Mkdir { qid: QID }, 73, 20),
        (L, Reply::Renameat, 75, 7),
        (L, Reply::Unlinkat, 77, 7),
    ];
    for dialect in [U, P] {
        all.extend([
            (dialect, Reply::Open { qid: QID, iounit: 1 }, 113, 24),
            (dialect, Reply::Create { qid: QID, iounit: 1 }, 115, 24),
            (dialect, Reply::Wstat, 127, 7),
        ]);
    }
    for dialect in Dialect::ALL {
        all.extend([
            (dialect, Reply::Version { msize: 8192, version: b"unknown" }, 101, 13 + 7),
            (dialect, Reply::Auth { aqid: QID }, 103, 20),
            (dialect, Reply::Attach { qid: QID }, 105, 20),
            (dialect, Reply::Lerror { ecode: 2 }, 7, 11),
            (dialect, Reply::Flush, 109, 7),
            (dialect, Reply::Walk { qids: Qids::from_slice(&[QID; 16]).unwrap() }, 111, 217),
            (dialect, Reply::Read { data }, 117, 11 + 4),
            (dialect, Reply::Write { count: 4 }, 119, 11),
            (dialect, Reply::Clunk, 121, 7),
            (dialect, Reply::Remove, 123, 7),
        ]);
    }
    all
}

//! The order and width of the fields of every message, written down from the protocol's manuals and
//! not from our tables: each field has a value of its own, so that no two can change places.

use xen9p::p9::wire::*;

use super::samples::{L, P, TAG, U};

/// The bytes that a description stands for: `4:7` is 7 in four bytes, `s:me` a string with its
/// length, `d:me` bytes without one, `q:7` the qid that [`qid`] makes of 7.
fn body(layout: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in layout.split_whitespace() {
        let (width, value) = field.split_once(':').expect(field);
        let number = || value.parse::<u64>().expect(field);
        match width {
            "s" => {
                bytes.extend((value.len() as u16).to_le_bytes());
                bytes.extend(value.bytes());
            }
            "d" => bytes.extend(value.bytes()),
            "q" => {
                bytes.push(number() as u8);
                bytes.extend((number() as u32 + 1000).to_le_bytes());
                bytes.extend((number() + 2000).to_le_bytes());
            }
            width => bytes.extend(&number().to_le_bytes()[..width.parse().expect(field)]),
        }
    }
    bytes
}

fn qid(n: u8) -> Qid {
    let kind = QidKind::from_bits_retain(n);
    Qid {
        kind,
        version: u32::from(n) + 1000,
        path: u64::from(n) + 2000,
    }
}

fn message(kind: u8, layout: &str) -> Vec<u8> {
    let body = body(layout);
    let mut bytes = (body.len() as u32 + 7).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(TAG.0.to_le_bytes());
    bytes.extend(body);
    bytes
}

fn time(secs: u64) -> Time {
    Time {
        secs,
        nanos: secs + 1,
    }
}

fn stat() -> Stat<'static> {
    Stat {
        kind: 1,
        dev: 2,
        qid: qid(3),
        mode: DirMode::from_bits_retain(4),
        atime: 5,
        mtime: 6,
        length: 7,
        name: b"name",
        uid: b"uid",
        gid: b"gid",
        muid: b"muid",
        extension: b"ext",
        n_uid: 8,
        n_gid: 9,
        n_muid: 10,
    }
}

const STAT_U: &str =
    "2:80 2:78 2:1 4:2 q:3 4:4 4:5 4:6 8:7 s:name s:uid s:gid s:muid s:ext 4:8 4:9 4:10";
const STAT_2000: &str = "2:63 2:61 2:1 4:2 q:3 4:4 4:5 4:6 8:7 s:name s:uid s:gid s:muid";

#[test]
#[rustfmt::skip]
fn requests_are_laid_out_as_the_manuals_say() {
    let (one, two, three) = (Fid(1), Fid(2), Fid(3));
    let (n, m): (&[u8], &[u8]) = (b"nn", b"mmm");
    let auth = Request::Auth { afid: one, uname: n, aname: m, n_uname: 4 };
    let attach = Request::Attach { fid: one, afid: two, uname: n, aname: m, n_uname: 4 };
    let perm = DirMode::from_bits_retain(4);
    let mode = OpenMode::from_bits_retain(5);
    let create = Request::Create { fid: one, name: n, perm, mode, extension: m };
    let flags = OpenFlags::from_bits_retain(4);
    let attr = SetAttr { valid: SetAttrMask::from_bits_retain(2), mode: 3, uid: 4, gid: 5, size: 6, atime: time(7), mtime: time(9) };
    let kind = LockKind(2);
    let rows = [
        (U, Request::Version { msize: 1, version: n }, 100, "4:1 s:nn"),
        (L, auth, 102, "4:1 s:nn s:mmm 4:4"),
        (P, auth, 102, "4:1 s:nn s:mmm"),
        (U, attach, 104, "4:1 4:2 s:nn s:mmm 4:4"),
        (P, attach, 104, "4:1 4:2 s:nn s:mmm"),
        (P, Request::Flush { oldtag: Tag(1) }, 108, "2:1"),
        (L, Request::Walk { fid: one, newfid: two, names: Names::from_slice(&[n, m]).unwrap() }, 110, "4:1 4:2 2:2 s:nn s:mmm"),
        (P, Request::Open { fid: one, mode }, 112, "4:1 1:5"),
        (P, create, 114, "4:1 s:nn 4:4 1:5"),
        (U, create, 114, "4:1 s:nn 4:4 1:5 s:mmm"),
        (L, Request::Read { fid: one, offset: 2, count: 3 }, 116, "4:1 8:2 4:3"),
        (L, Request::Write { fid: one, offset: 2, data: Payload(b"da", b"ta") }, 118, "4:1 8:2 4:4 d:data"),
        (L, Request::Clunk { fid: one }, 120, "4:1"),
        (L, Request::Remove { fid: one }, 122, "4:1"),
        (U, Request::Stat { fid: one }, 124, "4:1"),
        (U, Request::Wstat { fid: one, stat: stat() }, 126, &format!("4:1 {STAT_U}")),
        (P, Request::Wstat { fid: one, stat: stat() }, 126, &format!("4:1 {STAT_2000}")),
        (L, Request::Statfs { fid: one }, 8, "4:1"),
        (L, Request::Lopen { fid: one, flags }, 12, "4:1 4:4"),
        (L, Request::Lcreate { fid: one, name: n, flags, mode: 5, gid: 6 }, 14, "4:1 s:nn 4:4 4:5 4:6"),
        (L, Request::Symlink { dfid: one, name: n, target: m, gid: 2 }, 16, "4:1 s:nn s:mmm 4:2"),
        (L, Request::Mknod { dfid: one, name: n, mode: 2, major: 3, minor: 4, gid: 5 }, 18, "4:1 s:nn 4:2 4:3 4:4 4:5"),
        (L, Request::Rename { fid: one, dfid: two, name: n }, 20, "4:1 4:2 s:nn"),
        (L, Request::Readlink { fid: one }, 22, "4:1"),
        (L, Request::Getattr { fid: one, mask: AttrMask::from_bits_retain(2) }, 24, "4:1 8:2"),
        (L, Request::Setattr { fid: one, attr }, 26, "4:1 4:2 4:3 4:4 4:5 8:6 8:7 8:8 8:9 8:10"),
        (L, Request::Xattrwalk { fid: one, newfid: two, name: n }, 30, "4:1 4:2 s:nn"),
        (L, Request::Xattrcreate { fid: one, name: n, size: 2, flags: XattrFlags::CREATE }, 32, "4:1 s:nn 8:2 4:1"),
        (L, Request::Readdir { fid: one, offset: 2, count: 3 }, 40, "4:1 8:2 4:3"),
        (L, Request::Fsync { fid: one, datasync: 2 }, 50, "4:1 4:2"),
        (L, Request::Lock { fid: one, kind, flags: LockFlags::BLOCK, start: 3, length: 4, proc_id: 5, client_id: n }, 52, "4:1 1:2 4:1 8:3 8:4 4:5 s:nn"),
        (L, Request::Getlock { fid: one, kind, start: 3, length: 4, proc_id: 5, client_id: n }, 54, "4:1 1:2 8:3 8:4 4:5 s:nn"),
        (L, Request::Link { dfid: one, fid: two, name: n }, 70, "4:1 4:2 s:nn"),
        (L, Request::Mkdir { dfid: one, name: n, mode: 2, gid: 3 }, 72, "4:1 s:nn 4:2 4:3"),
        (L, Request::Renameat { olddirfid: one, oldname: n, newdirfid: three, newname: m }, 74, "4:1 s:nn 4:3 s:mmm"),
        (L, Request::Unlinkat { dirfid: one, name: n, flags: UnlinkFlags::REMOVE_DIR }, 76, "4:1 s:nn 4:512"),
    ];
    for (dialect, request, kind, layout) in rows {
        let mut buf = [0; 256];
        let len = request.encode(TAG, dialect, &mut buf).unwrap();
        assert_eq!(buf[..len], message(kind, layout), "{request:?} in {dialect}");
    }
}

#[test]
#[rustfmt::skip]
fn replies_are_laid_out_as_the_manuals_say() {
    let n: &[u8] = b"nn";
    let q = qid(1);
    let data = Payload::from(&b"data"[..]);
    let statfs = Statfs { kind: 1, bsize: 2, blocks: 3, bfree: 4, bavail: 5, files: 6, ffree: 7, fsid: 8, namelen: 9 };
    let attr = Attr {
        valid: AttrMask::from_bits_retain(2), qid: q, mode: 3, uid: 4, gid: 5, nlink: 6, rdev: 7, size: 8, blksize: 9, blocks: 10,
        atime: time(11), mtime: time(13), ctime: time(15), btime: time(17), generation: 19, data_version: 20,
    };
    let rows = [
        (L, Reply::Version { msize: 1, version: n }, 101, "4:1 s:nn"),
        (L, Reply::Auth { aqid: q }, 103, "q:1"),
        (L, Reply::Attach { qid: q }, 105, "q:1"),
        (U, Reply::Error { ename: n, errno: 3 }, 107, "s:nn 4:3"),
        (P, Reply::Error { ename: n, errno: 3 }, 107, "s:nn"),
        (L, Reply::Lerror { ecode: 3 }, 7, "4:3"),
        (L, Reply::Walk { qids: Qids::from_slice(&[q, qid(2)]).unwrap() }, 111, "2:2 q:1 q:2"),
        (P, Reply::Open { qid: q, iounit: 2 }, 113, "q:1 4:2"),
        (P, Reply::Create { qid: q, iounit: 2 }, 115, "q:1 4:2"),
        (L, Reply::Read { data }, 117, "4:4 d:data"),
        (L, Reply::Write { count: 2 }, 119, "4:2"),
        (U, Reply::Stat { stat: stat() }, 125, STAT_U),
        (P, Reply::Stat { stat: stat() }, 125, STAT_2000),
        (L, Reply::Statfs { statfs }, 9, "4:1 4:2 8:3 8:4 8:5 8:6 8:7 8:8 4:9"),
        (L, Reply::Lopen { qid: q, iounit: 2 }, 13, "q:1 4:2"),
        (L, Reply::Lcreate { qid: q, iounit: 2 }, 15, "q:1 4:2"),
        (L, Reply::Symlink { qid: q }, 17, "q:1"),
        (L, Reply::Mknod { qid: q }, 19, "q:1"),
        (L, Reply::Readlink { target: n }, 23, "s:nn"),
        (L, Reply::Getattr { attr }, 25, "8:2 q:1 4:3 4:4 4:5 8:6 8:7 8:8 8:9 8:10 8:11 8:12 8:13 8:14 8:15 8:16 8:17 8:18 8:19 8:20"),
        (L, Reply::Xattrwalk { size: 2 }, 31, "8:2"),
        (L, Reply::Readdir { data }, 41, "4:4 d:data"),
        (L, Reply::Lock { status: LockStatus(3) }, 53, "1:3"),
        (L, Reply::Getlock { kind: LockKind(1), start: 2, length: 3, proc_id: 4, client_id: n }, 55, "1:1 8:2 8:3 4:4 s:nn"),
        (L, Reply::Mkdir { qid: q }, 73, "q:1"),
    ];
    let bare = [
        (P, Reply::Flush, 109), (P, Reply::Clunk, 121), (P, Reply::Remove, 123), (P, Reply::Wstat, 127), (L, Reply::Rename, 21),
        (L, Reply::Setattr, 27), (L, Reply::Xattrcreate, 33), (L, Reply::Fsync, 51), (L, Reply::Link, 71), (L, Reply::Renameat, 75),
        (L, Reply::Unlinkat, 77),
    ];
    for (dialect, reply, kind, layout) in rows.into_iter().chain(bare.map(|(d, r, k)| (d, r, k, ""))) {
        let mut buf = [0; 256];
        let len = reply.encode(TAG, dialect, &mut buf).unwrap();
        assert_eq!(buf[..len], message(kind, layout), "{reply:?} in {dialect}");
    }
}

#[test]
fn an_entry_of_a_directory_is_laid_out_as_the_manual_says() {
    let entry = DirEntry {
        qid: qid(1),
        offset: 2,
        kind: DirEntryKind(3),
        name: b"nn",
    };
    let mut buf = [0; 64];
    let len = entry.encode(&mut buf).unwrap();
    assert_eq!(buf[..len], body("q:1 8:2 1:3 s:nn"));
}

//! 9P2000.u and 9P2000.

use p9_server::{Limits, Rights};
use p9_wire::*;
use xen9p_testing::server::mem::MemTree;

use crate::peer::{Peer, ROOT, attached, tree};

const A: Fid = Fid(1);
const B: Fid = Fid(2);

fn unix(tree: &MemTree) -> Peer {
    attached(tree, Dialect::Unix, Rights::ReadWrite, Limits::default())
}

fn plan9(tree: &MemTree) -> Peer {
    attached(tree, Dialect::Plan9, Rights::ReadWrite, Limits::default())
}

fn open(peer: &mut Peer, fid: Fid, mode: OpenMode) -> Result<(), Errno> {
    peer.call(&Request::Open { fid, mode }).map(drop)
}

fn create(
    peer: &mut Peer,
    fid: Fid,
    name: &[u8],
    perm: DirMode,
    extension: &[u8],
) -> Result<Qid, Errno> {
    let create = Request::Create {
        fid,
        name,
        perm,
        mode: OpenMode::empty(),
        extension,
    };
    match peer.call(&create)? {
        Reply::Create { qid, .. } => Ok(qid),
        other => panic!("{other:?}"),
    }
}

/// What a test looks at of a stat.
#[derive(Debug, PartialEq)]
struct Seen {
    name: Vec<u8>,
    mode: DirMode,
    length: u64,
    extension: Vec<u8>,
    mtime: u32,
    n_uid: u32,
}

fn seen(stat: &Stat<'_>) -> Seen {
    Seen {
        name: stat.name.to_vec(),
        mode: stat.mode,
        length: stat.length,
        extension: stat.extension.to_vec(),
        mtime: stat.mtime,
        n_uid: stat.n_uid,
    }
}

fn stat(peer: &mut Peer, fid: Fid) -> Seen {
    match peer.call(&Request::Stat { fid }) {
        Ok(Reply::Stat { stat }) => seen(&stat),
        other => panic!("{other:?}"),
    }
}

fn wstat(peer: &mut Peer, fid: Fid, stat: Stat<'_>) -> Result<(), Errno> {
    peer.call(&Request::Wstat { fid, stat }).map(drop)
}

fn perm(bits: u32) -> DirMode {
    DirMode::from_bits_retain(bits)
}

#[test]
fn everything_can_be_made_in_9p2000_u() {
    let tree = tree();
    let mut peer = unix(&tree);
    let mut make = |name: &[u8], perm, extension: &[u8]| {
        peer.walk(ROOT, A, &[]).unwrap();
        let made = create(&mut peer, A, name, perm, extension);
        let seen = made.map(|_| stat(&mut peer, A));
        peer.clunk(A).unwrap();
        seen
    };
    let plain = make(b"plain", perm(0o640), b"").unwrap();
    assert_eq!((plain.mode, &plain.name[..]), (perm(0o640), &b"plain"[..]));
    let dir = make(b"d", DirMode::DIR | perm(0o755), b"").unwrap();
    assert_eq!((dir.mode, dir.length), (DirMode::DIR | perm(0o755), 0));
    let link = make(b"l", DirMode::SYMLINK | perm(0o777), b"dir/file").unwrap();
    assert_eq!(link.mode, DirMode::SYMLINK | perm(0o777));
    assert_eq!(link.extension, b"dir/file");
    let fifo = make(b"f", DirMode::NAMED_PIPE | perm(0o600), b"").unwrap();
    assert_eq!(fifo.mode, DirMode::NAMED_PIPE | perm(0o600));
    let socket = make(b"s", DirMode::SOCKET | perm(0o600), b"").unwrap();
    assert_eq!(socket.mode, DirMode::SOCKET | perm(0o600));
    let null = make(b"null", DirMode::DEVICE | perm(0o666), b"c 1 3").unwrap();
    assert_eq!(null.mode, DirMode::DEVICE | perm(0o666));
    assert_eq!(null.extension, b"c 1 3");
    let loop0 = make(b"loop", DirMode::DEVICE, b"b 7 0").unwrap();
    assert_eq!(loop0.extension, b"b 7 0");
    let sticky = make(b"su", DirMode::SET_UID | DirMode::STICKY | perm(0o755), b"");
    let bits = DirMode::SET_UID | DirMode::STICKY | perm(0o755);
    assert_eq!(sticky.unwrap().mode, bits);
    for (perm, extension, errno) in [
        (perm(0o644), &b""[..], Errno::EEXIST),
        (DirMode::DIR, b"", Errno::EEXIST),
        (DirMode::SYMLINK, b"x", Errno::EEXIST),
        (DirMode::SYMLINK, b"", Errno::ENOENT),
        (DirMode::DEVICE, b"", Errno::EINVAL),
        (DirMode::DEVICE, b"x 1 3", Errno::EINVAL),
        (DirMode::DEVICE, b"c 1", Errno::EINVAL),
        (DirMode::DEVICE, b"c 1 3 5", Errno::EINVAL),
        (DirMode::LINK, b"x", Errno::EINVAL),
        (DirMode::LINK, b"77", Errno::EBADF),
        (DirMode::DIR | DirMode::SYMLINK, b"x", Errno::EOPNOTSUPP),
        (DirMode::EXCLUSIVE, b"", Errno::EOPNOTSUPP),
        (DirMode::APPEND, b"", Errno::EOPNOTSUPP),
    ] {
        assert_eq!(make(b"plain", perm, extension), Err(errno), "{perm:?}");
    }
    // A hard link names its original by fid.
    peer.walk(ROOT, B, &[b"dir", b"file"]).unwrap();
    peer.walk(ROOT, A, &[]).unwrap();
    create(&mut peer, A, b"hard", DirMode::LINK, b"2").unwrap();
    assert_eq!(tree.get("hard").unwrap(), b"content");
    assert_eq!(stat(&mut peer, A).extension, b"HARDLINKCOUNT 2");
    assert_eq!(stat(&mut peer, A).name, b"hard");
    peer.clunk(A).unwrap();
    peer.clunk(B).unwrap();
    assert_eq!(peer.server.usage().open_files, 0);
    assert_eq!(peer.server.usage().open_directories, 0);
}

#[test]
fn files_and_directories_are_open_once_they_are_made() {
    let tree = tree();
    let mut peer = plan9(&tree);
    peer.walk(ROOT, A, &[]).unwrap();
    let made = Request::Create {
        fid: A,
        name: b"new",
        perm: perm(0o666),
        mode: OpenMode::READ_WRITE | OpenMode::REMOVE_ON_CLOSE,
        extension: b"",
    };
    assert!(matches!(peer.call(&made), Ok(Reply::Create { .. })));
    // As far as its directory allows.
    assert_eq!(stat(&mut peer, A).mode, perm(0o644));
    peer.write(A, 0, b"abc").unwrap();
    assert_eq!(peer.read(A, 1, 100).unwrap(), b"bc");
    assert_eq!(tree.get("new").unwrap(), b"abc");
    peer.clunk(A).unwrap();
    assert_eq!(tree.get("new"), None, "removed with its fid");
    peer.walk(ROOT, A, &[]).unwrap();
    create(&mut peer, A, b"d", DirMode::DIR | perm(0o777), b"").unwrap();
    assert_eq!(stat(&mut peer, A).mode, DirMode::DIR | perm(0o755));
    assert_eq!(peer.read(A, 0, 1000).unwrap(), b"");
    assert_eq!(peer.server.usage().open_directories, 1);
    peer.clunk(A).unwrap();
    // Twice is once too often.
    peer.walk(ROOT, A, &[]).unwrap();
    let again = create(&mut peer, A, b"d", perm(0o644), b"");
    assert_eq!(again, Err(Errno::EEXIST));
    let symlink = create(&mut peer, A, b"l", DirMode::SYMLINK, b"x");
    assert_eq!(symlink, Err(Errno::EOPNOTSUPP));
    // The end of the connection is the end of its fids.
    peer.walk(ROOT, B, &[b"dir", b"file"]).unwrap();
    open(&mut peer, B, OpenMode::EXECUTE | OpenMode::REMOVE_ON_CLOSE).unwrap();
    let done = xen9p_testing::server::mem::ready(peer.server.close().run(&mut []));
    assert!(peer.server.complete(done, &mut []).is_empty());
    assert_eq!(tree.get("dir/file"), None);
}

#[test]
fn opening_for_this_and_that() {
    let tree = tree();
    let mut peer = unix(&tree);
    let mut opened = |mode| {
        peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
        open(&mut peer, A, mode).unwrap();
        let result = (peer.read(A, 0, 100).ok(), peer.write(A, 0, b"C").is_ok());
        peer.clunk(A).unwrap();
        result
    };
    let content = Some(b"content".to_vec());
    assert_eq!(opened(OpenMode::empty()), (content.clone(), false));
    assert_eq!(opened(OpenMode::EXECUTE), (content, false));
    assert_eq!(opened(OpenMode::WRITE_ONLY), (None, true));
    let changed = Some(b"Content".to_vec());
    assert_eq!(opened(OpenMode::READ_WRITE), (changed, true));
    let append = OpenMode::READ_WRITE | OpenMode::APPEND;
    opened(append);
    assert_eq!(tree.get("dir/file").unwrap(), b"ContentC");
    opened(OpenMode::WRITE_ONLY | OpenMode::TRUNCATE);
    assert_eq!(tree.get("dir/file").unwrap(), b"C");
    peer.walk(ROOT, A, &[b"dir"]).unwrap();
    let write = OpenMode::WRITE_ONLY;
    assert_eq!(open(&mut peer, A, write), Err(Errno::EISDIR));
    assert_eq!(stat(&mut peer, ROOT).name, b"/");
}

#[test]
fn directories_are_read_as_stats() {
    for dialect in [Dialect::Unix, Dialect::Plan9] {
        let tree = tree();
        for index in 0..200 {
            tree.put(&format!("many/{}{index}", "n".repeat(index % 90)), b"x");
        }
        let mut peer = attached(&tree, dialect, Rights::ReadOnly, Limits::default());
        peer.walk(ROOT, A, &[b"many"]).unwrap();
        open(&mut peer, A, OpenMode::empty()).unwrap();
        for count in [300, 1000, 65_000] {
            let (mut names, mut offset) = (Vec::new(), 0);
            loop {
                let data = peer.read(A, offset, count).unwrap();
                if data.is_empty() {
                    break;
                }
                offset += data.len() as u64;
                for stat in StatEntries::new(&data, dialect, StatLayout::Packed) {
                    let stat = stat.unwrap();
                    assert_eq!((stat.length, stat.mode), (1, perm(0o644)));
                    assert_eq!((stat.uid, stat.gid), (&b"0"[..], &b"0"[..]));
                    names.push(stat.name.to_vec());
                }
            }
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 200, "{dialect} {count}");
        }
        assert_eq!(peer.read(A, 5, 1000), Err(Errno::EINVAL), "in between");
        assert_eq!(peer.read(A, 0, 20), Err(Errno::EINVAL), "no room");
        // Only one at a time, as each goes on where the other ended.
        let read = Request::Read {
            fid: A,
            offset: 0,
            count: 1000,
        };
        let first = peer.begin(1, &read);
        let second = peer.begin(2, &read);
        assert!(!first.is_waiting() && second.is_waiting());
        peer.end(first).unwrap();
        let second = peer.server.retry(second).unwrap();
        assert!(!second.is_waiting());
        peer.end(second).unwrap();
    }
}

#[test]
fn wstat_changes_what_it_names() {
    let tree = tree();
    let mut peer = unix(&tree);
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    peer.walk(ROOT, B, &[b"dir"]).unwrap();
    let before = stat(&mut peer, A);
    let same = Stat::UNCHANGED;
    wstat(&mut peer, A, same).unwrap();
    assert_eq!(stat(&mut peer, A), before);
    let mode = perm(0o4600 & 0o777) | DirMode::SET_UID;
    wstat(&mut peer, A, Stat { mode, ..same }).unwrap();
    wstat(&mut peer, A, Stat { length: 3, ..same }).unwrap();
    let times = Stat {
        mtime: 1_000_000,
        atime: 5,
        ..same
    };
    wstat(&mut peer, A, times).unwrap();
    let owner = Stat {
        n_uid: 12,
        n_gid: 34,
        ..same
    };
    wstat(&mut peer, A, owner).unwrap();
    let now = stat(&mut peer, A);
    assert_eq!((now.mode, now.length), (mode, 3));
    assert_eq!((now.mtime, now.n_uid), (1_000_000, 12));
    assert_eq!(tree.get("dir/file").unwrap(), b"con");
    // To its own name; to another; onto one that is there.
    wstat(
        &mut peer,
        A,
        Stat {
            name: b"file",
            ..same
        },
    )
    .unwrap();
    wstat(
        &mut peer,
        A,
        Stat {
            name: b"new",
            ..same
        },
    )
    .unwrap();
    assert_eq!(tree.get("dir/new").unwrap(), b"con");
    assert_eq!(stat(&mut peer, A).name, b"new");
    tree.put("dir/there", b"there");
    wstat(
        &mut peer,
        A,
        Stat {
            name: b"there",
            ..same
        },
    )
    .unwrap();
    assert_eq!(tree.get("dir/there").unwrap(), b"con");
    for name in [&b"a/b"[..], b"..", b".", b"a\0"] {
        assert!(wstat(&mut peer, A, Stat { name, ..same }).is_err());
    }
    let root = Stat {
        name: b"root",
        ..same
    };
    assert_eq!(wstat(&mut peer, ROOT, root), Err(Errno::EBUSY));
    let length = |length| Stat { length, ..same };
    assert_eq!(wstat(&mut peer, B, length(5)), Err(Errno::EISDIR));
    assert_eq!(wstat(&mut peer, B, length(0)), Ok(()));
    // A directory stays one, and a file a file.
    let mode = |mode| Stat { mode, ..same };
    assert_eq!(wstat(&mut peer, B, mode(perm(0o700))), Err(Errno::EPERM));
    let dir = DirMode::DIR | perm(0o700);
    assert_eq!(wstat(&mut peer, A, mode(dir)), Err(Errno::EPERM));
    wstat(&mut peer, B, mode(dir)).unwrap();
    assert_eq!(stat(&mut peer, B).mode, dir);

    let mut peer = plan9(&tree);
    tree.put("dir/other", b"");
    peer.walk(ROOT, A, &[b"dir", b"other"]).unwrap();
    let onto = Stat {
        name: b"there",
        ..same
    };
    assert_eq!(wstat(&mut peer, A, onto), Err(Errno::EEXIST));
    wstat(&mut peer, A, Stat { gid: b"7", ..same }).unwrap();
    // As stat(5) has it, a change of nothing is a way to ask for stable storage.
    open(&mut peer, A, OpenMode::empty()).unwrap();
    wstat(&mut peer, A, same).unwrap();
    let mut peer = attached(&tree, Dialect::Unix, Rights::ReadOnly, Limits::default());
    peer.walk(ROOT, A, &[b"dir", b"there"]).unwrap();
    for stat in [length(0), Stat { name: b"x", ..same }, mode(perm(0o600))] {
        assert_eq!(wstat(&mut peer, A, stat), Err(Errno::EROFS));
    }
    wstat(&mut peer, A, same).unwrap();
}

#[test]
fn errors_are_words_and_in_9p2000_u_numbers_too() {
    let tree = tree();
    for dialect in [Dialect::Unix, Dialect::Plan9] {
        let mut peer = attached(&tree, dialect, Rights::ReadOnly, Limits::default());
        let walk = Request::Walk {
            fid: ROOT,
            newfid: A,
            names: Names::from_slice(&[b"none"]).unwrap(),
        };
        let job = peer.begin(1, &walk);
        let errno = match dialect {
            Dialect::Plan9 => 0,
            _ => 2,
        };
        let ename = b"No such file or directory";
        assert_eq!(peer.end(job), Some((Tag(1), Reply::Error { ename, errno })));
        // Nothing of 9P2000.L is taken.
        let getattr = Request::Getattr {
            fid: ROOT,
            mask: AttrMask::BASIC,
        };
        let message = crate::peer::message(&getattr, Tag(2), Dialect::Linux);
        let job = peer.server.accept(0, message).unwrap();
        let (_, reply) = peer.end(job).unwrap();
        assert_eq!(reply.errno(), Some(Errno::EOPNOTSUPP));
    }
}

//! Open files: data, directories, locks, extended attributes.

use p9_server::{Limits, Rights};
use p9_wire::*;

use crate::peer::{Peer, ROOT, attached, linux, names, tree};

const FILE: Fid = Fid(1);
const OTHER: Fid = Fid(2);

fn create(peer: &mut Peer, fid: Fid, name: &[u8], flags: OpenFlags) -> Result<(), Errno> {
    peer.walk(ROOT, fid, &[])?;
    let create = Request::Lcreate {
        fid,
        name,
        flags,
        mode: 0o644,
        gid: 0,
    };
    peer.call(&create).map(drop)
}

#[test]
fn a_file_is_used_as_it_was_opened() {
    let tree = tree();
    let mut peer = linux(&tree);
    create(&mut peer, FILE, b"new", OpenFlags::WRITE_ONLY).unwrap();
    assert_eq!(peer.write(FILE, 2, b"abc"), Ok(3));
    assert_eq!(peer.read(FILE, 0, 10), Err(Errno::EBADF));
    assert_eq!(tree.get("new").unwrap(), b"\0\0abc");
    assert_eq!(peer.open(FILE, OpenFlags::empty()), Err(Errno::EINVAL));
    peer.walk(FILE, OTHER, &[]).unwrap();
    assert_eq!(peer.read(OTHER, 0, 1), Err(Errno::EBADF), "not open");
    assert_eq!(peer.write(OTHER, 0, b"x"), Err(Errno::EBADF));
    peer.open(OTHER, OpenFlags::empty()).unwrap();
    assert_eq!(peer.write(OTHER, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(peer.read(OTHER, 4, 100).unwrap(), b"c");
    assert_eq!(peer.read(OTHER, 5, 100).unwrap(), b"");
    assert_eq!(peer.read(OTHER, u64::MAX, 100).unwrap(), b"");
    peer.clunk(OTHER).unwrap();
    peer.clunk(FILE).unwrap();
    let append = OpenFlags::WRITE_ONLY | OpenFlags::APPEND;
    create(&mut peer, FILE, b"new", append).unwrap();
    peer.write(FILE, 0, b"end").unwrap();
    assert_eq!(tree.get("new").unwrap(), b"\0\0abcend");
    assert_eq!(
        create(&mut peer, OTHER, b"new", append | OpenFlags::EXCLUSIVE),
        Err(Errno::EEXIST)
    );
    // The fid is still the directory's.
    assert_eq!(peer.walk(OTHER, OTHER, &[b"dir"]), Ok(1));
    let both = OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE;
    assert_eq!(peer.open(OTHER, both), Err(Errno::EINVAL));
    assert_eq!(peer.open(OTHER, OpenFlags::READ_WRITE), Err(Errno::EISDIR));
    assert_eq!(peer.open(OTHER, OpenFlags::TRUNCATE), Err(Errno::EISDIR));
    peer.open(OTHER, OpenFlags::DIRECTORY).unwrap();
    assert_eq!(peer.read(OTHER, 0, 100), Err(Errno::EISDIR));
    assert_eq!(peer.server.usage().open_files, 2);
    assert_eq!(peer.server.usage().open_directories, 1);
    peer.clunk(FILE).unwrap();
    peer.clunk(OTHER).unwrap();
    peer.clunk(ROOT).unwrap();
    let left = peer.server.usage();
    assert_eq!((left.fids, left.places, left.open_files), (0, 0, 0));
    assert_eq!(tree.held(), 1, "the export's root");
}

#[test]
fn no_reply_is_larger_than_agreed() {
    let tree = tree();
    tree.put("big", &[7; 100_000]);
    let mut limits = Limits::default();
    limits.msize = 300;
    let mut peer = attached(&tree, Dialect::Linux, Rights::ReadWrite, limits);
    assert_eq!(peer.server.msize(), 300);
    peer.walk(ROOT, FILE, &[b"big"]).unwrap();
    peer.open(FILE, OpenFlags::empty()).unwrap();
    for count in [288, 289, 290, 5000, u32::MAX] {
        let read = peer.read(FILE, 0, count).unwrap();
        assert_eq!(read.len(), count.min(289) as usize);
    }
    let symlink = Request::Symlink {
        dfid: ROOT,
        name: b"l",
        target: &[b't'; 250],
        gid: 0,
    };
    peer.call(&symlink).unwrap();
    peer.walk(ROOT, OTHER, &[b"l"]).unwrap();
    let readlink = Request::Readlink { fid: OTHER };
    let Ok(Reply::Readlink { target }) = peer.call(&readlink) else {
        panic!("no target");
    };
    assert_eq!(target.len(), 250);
    // Sixteen qids are 217 bytes.
    let way = [&b".."[..]; 16];
    assert_eq!(peer.walk(ROOT, Fid(3), &way), Ok(16));
    // A request that is larger than agreed is none.
    let too_large = crate::peer::message(
        &Request::Write {
            fid: FILE,
            offset: 0,
            data: Payload::from(&[0; 278][..]),
        },
        Tag(1),
        Dialect::Linux,
    );
    assert!(peer.server.accept(0, too_large).is_err());
}

#[test]
fn a_directory_is_listed_in_pieces_of_any_size() {
    let tree = tree();
    let mut expected: Vec<Vec<u8>> = vec![b".".into(), b"..".into()];
    for index in 0..300 {
        let name = format!("{index}-{}", "n".repeat(index % 200));
        tree.put(&format!("many/{name}"), b"");
        expected.push(name.into_bytes());
    }
    expected.sort();
    let mut peer = linux(&tree);
    peer.walk(ROOT, FILE, &[b"many"]).unwrap();
    peer.open(FILE, OpenFlags::DIRECTORY).unwrap();
    for count in [280, 1000, 60_000] {
        let (mut found, mut offset) = (Vec::new(), 0);
        loop {
            let readdir = Request::Readdir {
                fid: FILE,
                offset,
                count,
            };
            let Ok(Reply::Readdir { data }) = peer.call(&readdir) else {
                panic!("no listing");
            };
            assert!(data.len() <= count as usize);
            if data.is_empty() {
                break;
            }
            for entry in DirEntries::new(data.0).map(Result::unwrap) {
                found.push(entry.name.to_vec());
                offset = entry.offset;
            }
        }
        found.sort();
        assert_eq!(found, expected);
    }
    // Not the end, but no room for an entry.
    let readdir = Request::Readdir {
        fid: FILE,
        offset: 0,
        count: 10,
    };
    assert_eq!(peer.call(&readdir), Err(Errno::EINVAL));
    peer.walk(ROOT, OTHER, &[b"dir", b"file"]).unwrap();
    let readdir = |fid| Request::Readdir {
        fid,
        offset: 0,
        count: 1000,
    };
    assert_eq!(peer.call(&readdir(OTHER)), Err(Errno::EBADF));
    peer.open(OTHER, OpenFlags::empty()).unwrap();
    assert_eq!(peer.call(&readdir(OTHER)), Err(Errno::ENOTDIR));
}

fn lock(fid: Fid, kind: LockKind, start: u64, length: u64, proc_id: u32) -> Request<'static> {
    Request::Lock {
        fid,
        kind,
        flags: LockFlags::BLOCK,
        start,
        length,
        proc_id,
        client_id: b"guest",
    }
}

#[test]
fn locks_mean_it_and_nothing_waits_for_them() {
    let tree = tree();
    let (mut one, mut two) = (linux(&tree), linux(&tree));
    for peer in [&mut one, &mut two] {
        peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
        let read = lock(FILE, LockKind::READ, 0, 0, 1);
        assert_eq!(peer.call(&read), Err(Errno::EBADF), "not open");
        peer.open(FILE, OpenFlags::READ_WRITE).unwrap();
    }
    let status = |status| Ok(Reply::Lock { status });
    let exclusive = |start, length| lock(FILE, LockKind::WRITE, start, length, 7);
    assert_eq!(one.call(&exclusive(10, 10)), status(LockStatus::SUCCESS));
    assert_eq!(
        two.call(&lock(FILE, LockKind::READ, 0, 0, 8)),
        status(LockStatus::BLOCKED)
    );
    assert_eq!(
        two.call(&lock(FILE, LockKind::READ, 20, 0, 8)),
        status(LockStatus::SUCCESS)
    );
    let getlock = Request::Getlock {
        fid: FILE,
        kind: LockKind::WRITE,
        start: 5,
        length: 10,
        proc_id: 9,
        client_id: b"other",
    };
    assert_eq!(
        two.call(&getlock),
        Ok(Reply::Getlock {
            kind: LockKind::WRITE,
            start: 10,
            length: 10,
            proc_id: 7,
            client_id: b"guest"
        })
    );
    assert_eq!(one.server.usage().locks, 1);
    assert_eq!(
        one.call(&lock(FILE, LockKind(9), 0, 0, 7)),
        Err(Errno::EINVAL)
    );
    // Clunk gives back what the fid has.
    one.clunk(FILE).unwrap();
    assert_eq!(one.server.usage().locks, 0);
    assert_eq!(
        two.call(&lock(FILE, LockKind::WRITE, 0, 0, 8)),
        status(LockStatus::SUCCESS)
    );
    assert_eq!(two.server.usage().locks, 1);
    // So does the end of a connection.
    let done = xen9p_testing::server::mem::ready(two.server.close().run(&mut []));
    assert!(two.server.complete(done, &mut []).is_empty());
    assert_eq!(tree.locks(), 0);
}

fn xattr_create(fid: Fid, name: &[u8], size: u64, flags: XattrFlags) -> Request<'_> {
    Request::Xattrcreate {
        fid,
        name,
        size,
        flags,
    }
}

fn set_xattr(peer: &mut Peer, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
    peer.walk(ROOT, OTHER, &[b"dir", b"file"])?;
    let create = xattr_create(OTHER, name, value.len() as u64, flags);
    let created = peer.call(&create).map(drop);
    let written = created.and_then(|()| match value {
        b"" => Ok(0),
        _ => peer.write(OTHER, 0, value),
    });
    let clunked = peer.clunk(OTHER);
    written.map(drop).and(clunked)
}

fn xattr(peer: &mut Peer, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let walk = Request::Xattrwalk {
        fid: FILE,
        newfid: OTHER,
        name,
    };
    let size = match peer.call(&walk)? {
        Reply::Xattrwalk { size } => size,
        other => panic!("{other:?}"),
    };
    let value = peer.read(OTHER, 0, 60_000)?;
    assert_eq!(value.len() as u64, size);
    assert_eq!(peer.write(OTHER, 0, b"x"), Err(Errno::EBADF));
    peer.clunk(OTHER)?;
    Ok(value)
}

#[test]
fn an_extended_attribute_is_set_when_its_fid_goes() {
    let tree = tree();
    let mut peer = linux(&tree);
    peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
    let any = XattrFlags::empty();
    assert_eq!(xattr(&mut peer, b"user.a"), Err(Errno::ENODATA));
    set_xattr(&mut peer, b"user.a", b"one", any).unwrap();
    set_xattr(&mut peer, b"user.b", &[3; 40_000], XattrFlags::CREATE).unwrap();
    assert_eq!(xattr(&mut peer, b"user.a").unwrap(), b"one");
    assert_eq!(xattr(&mut peer, b"user.b").unwrap(), [3; 40_000]);
    assert_eq!(xattr(&mut peer, b"").unwrap(), b"user.a\0user.b\0");
    let again = set_xattr(&mut peer, b"user.a", b"x", XattrFlags::CREATE);
    assert_eq!(again, Err(Errno::EEXIST));
    let none = set_xattr(&mut peer, b"user.c", b"x", XattrFlags::REPLACE);
    assert_eq!(none, Err(Errno::ENODATA));
    set_xattr(&mut peer, b"user.a", b"", any).unwrap();
    assert_eq!(xattr(&mut peer, b"user.a"), Err(Errno::ENODATA));
    assert_eq!(peer.server.usage().xattr_bytes, 0);

    // Not all of it, in another order, and more of it than was said.
    peer.walk(FILE, OTHER, &[]).unwrap();
    peer.call(&xattr_create(OTHER, b"user.d", 6, any)).unwrap();
    assert_eq!(peer.server.usage().xattr_bytes, 6);
    assert_eq!(peer.write(OTHER, 4, b"abc"), Err(Errno::EINVAL));
    assert_eq!(peer.write(OTHER, u64::MAX, b"abc"), Err(Errno::EINVAL));
    peer.write(OTHER, 3, b"def").unwrap();
    assert_eq!(peer.clunk(OTHER), Err(Errno::EINVAL));
    assert_eq!(peer.clunk(OTHER), Err(Errno::EBADF), "gone all the same");
    assert_eq!(xattr(&mut peer, b"user.d"), Err(Errno::ENODATA));
    peer.walk(FILE, OTHER, &[]).unwrap();
    peer.call(&xattr_create(OTHER, b"user.d", 6, any)).unwrap();
    peer.write(OTHER, 3, b"def").unwrap();
    peer.write(OTHER, 0, b"abc").unwrap();
    peer.clunk(OTHER).unwrap();
    assert_eq!(xattr(&mut peer, b"user.d").unwrap(), b"abcdef");

    for (name, size, errno) in [
        (&b"user.e"[..], 65_537, Errno::E2BIG),
        (b"user.e", u64::MAX, Errno::E2BIG),
        (b"", 1, Errno::EINVAL),
        (b"a\0b", 1, Errno::EINVAL),
        (&[b'x'; 256], 1, Errno::ERANGE),
    ] {
        let create = xattr_create(FILE, name, size, any);
        assert_eq!(peer.call(&create), Err(errno));
    }
    peer.open(FILE, OpenFlags::empty()).unwrap();
    let create = xattr_create(FILE, b"user.f", 1, any);
    assert_eq!(peer.call(&create), Err(Errno::EINVAL), "open");
    // What such a fid is not for.
    peer.walk(ROOT, OTHER, &[b"dir", b"file"]).unwrap();
    peer.call(&xattr_create(OTHER, b"user.f", 1, any)).unwrap();
    assert_eq!(peer.open(OTHER, OpenFlags::empty()), Err(Errno::EINVAL));
    assert_eq!(peer.walk(OTHER, Fid(3), &[]), Err(Errno::EINVAL));
    assert_eq!(peer.read(OTHER, 0, 1), Err(Errno::EBADF));
    assert_eq!(
        peer.call(&Request::Remove { fid: OTHER }),
        Err(Errno::EINVAL)
    );
    assert_eq!(peer.server.usage().xattr_bytes, 0);
}

#[test]
fn what_the_tree_lacks_is_refused_by_name() {
    let mut peer = linux(&tree());
    peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
    peer.open(FILE, OpenFlags::READ_WRITE).unwrap();
    // No such message: what may come after 9P2000.L.
    for kind in [0, 6, 7, 13, 78, 79, 99, 101, 106, 128, 255] {
        let message = [7, 0, 0, 0, kind, 9, 0];
        let job = peer.server.accept(0, &message).unwrap();
        let (tag, reply) = peer.end(job).unwrap();
        assert_eq!((tag, reply.errno()), (Tag(9), Some(Errno::EOPNOTSUPP)));
    }
    // Unikraft makes directories in 9P2000.L by a message of 9P2000.u, as QEMU lets it.
    let create = Request::Create {
        fid: ROOT,
        name: b"unikraft",
        perm: DirMode::DIR | DirMode::PERMISSIONS,
        mode: OpenMode::empty(),
        extension: b"",
    };
    let message = crate::peer::message(&create, Tag(3), Dialect::Unix);
    let job = peer.server.accept(0, message).unwrap();
    peer.dialect = Dialect::Unix;
    assert!(matches!(peer.end(job), Some((_, Reply::Create { .. }))));
    peer.dialect = Dialect::Linux;
    let walk = Request::Walk {
        fid: ROOT,
        newfid: OTHER,
        names: names(&[b"..", b"unikraft"]),
    };
    assert!(matches!(peer.call(&walk), Ok(Reply::Walk { .. })));
}

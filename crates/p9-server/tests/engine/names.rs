//! Walks, "..", and files that are renamed and removed under their fids.

use p9_server::{Exports, Limits, Rights, Server};
use p9_wire::*;

use crate::peer::{Peer, ROOT, linux, message, names, tree};

const A: Fid = Fid(1);
const B: Fid = Fid(2);

fn rename(peer: &mut Peer, fid: Fid, dfid: Fid, name: &[u8]) -> Result<(), Errno> {
    peer.call(&Request::Rename { fid, dfid, name }).map(drop)
}

fn unlink(peer: &mut Peer, dirfid: Fid, name: &[u8], dir: bool) -> Result<(), Errno> {
    let flags = match dir {
        true => UnlinkFlags::REMOVE_DIR,
        false => UnlinkFlags::empty(),
    };
    let unlink = Request::Unlinkat {
        dirfid,
        name,
        flags,
    };
    peer.call(&unlink).map(drop)
}

#[test]
fn a_walk_goes_as_far_as_the_names_lead() {
    let mut peer = linux(&tree());
    assert_eq!(peer.walk(ROOT, A, &[b"none"]), Err(Errno::ENOENT));
    assert_eq!(peer.walk(ROOT, A, &[b"dir", b"none", b"x"]), Ok(1));
    assert_eq!(peer.server.usage().fids, 1, "no fid for half a walk");
    assert_eq!(peer.walk(ROOT, A, &[b"dir", b"file", b"x"]), Ok(2));
    assert_eq!(peer.walk(ROOT, A, &[b"dir", b"file"]), Ok(2));
    assert_eq!(peer.walk(A, B, &[b"x"]), Err(Errno::ENOTDIR));
    assert_eq!(peer.walk(A, B, &[b".."]), Err(Errno::ENOTDIR));
    assert_eq!(peer.walk(ROOT, A, &[b"dir"]), Err(Errno::EINVAL), "in use");
    assert_eq!(peer.walk(ROOT, Fid::NONE, &[]), Err(Errno::EINVAL));
    assert_eq!(peer.walk(Fid(99), B, &[]), Err(Errno::EBADF));
    for name in [&b""[..], b"/", b"a/b", b"dir/file", b"a\0", &[b'x'; 256]] {
        let error = peer.walk(ROOT, B, &[name]).unwrap_err();
        let long = name.len() > 255;
        assert_eq!(
            error,
            if long {
                Errno::ENAMETOOLONG
            } else {
                Errno::ENOENT
            }
        );
    }
    // A fid may move itself.
    assert_eq!(peer.walk(ROOT, B, &[]), Ok(0));
    assert_eq!(peer.walk(B, B, &[b"dir", b"sub"]), Ok(2));
    assert_eq!(peer.walk(B, B, &[b"none"]), Err(Errno::ENOENT));
    assert_eq!(peer.walk(B, B, &[b"deep"]), Ok(1));
    peer.open(B, OpenFlags::empty()).unwrap();
    assert_eq!(peer.walk(B, B, &[]), Err(Errno::EINVAL), "open");
    assert_eq!(peer.read(B, 0, 9).unwrap(), b"deep down");
}

#[test]
fn the_root_of_an_attach_is_its_own_parent() {
    let tree = tree();
    let mut peer = linux(&tree);
    let root = peer.path(ROOT);
    peer.walk(ROOT, A, &[b"dir", b"sub"]).unwrap();
    for (way, end) in [
        (&[&b".."[..]][..], "dir"),
        (&[b"..", b".."], ""),
        (&[b"..", b"..", b"..", b".."], ""),
        (&[b"..", b"sub", b"..", b"..", b"dir"], "dir"),
        (&[b".", b"..", b".", b"."], "dir"),
        (&[b"..", b"..", b"dir", b"sub", b"..", b".."], ""),
    ] {
        assert_eq!(peer.walk(A, B, way), Ok(way.len()));
        let there = peer.path(B);
        peer.clunk(B).unwrap();
        let direct: Vec<_> = end.split('/').filter(|name| !name.is_empty()).collect();
        let direct: Vec<_> = direct.iter().map(|name| name.as_bytes()).collect();
        peer.walk(ROOT, B, &direct).unwrap();
        assert_eq!(peer.path(B), there, "{way:?}");
        peer.clunk(B).unwrap();
    }
    // An attach below ends there, too.
    peer.attach(B, b"dir/sub").unwrap();
    let sub = peer.path(B);
    assert_eq!(peer.walk(B, B, &[b"..", b".."]), Ok(2));
    assert_eq!(peer.path(B), sub);
    assert_eq!(peer.walk(B, B, &[b"..", b"deep"]), Ok(2));
    assert_ne!(sub, root);
    // The listing of a root does not tell what is above.
    peer.clunk(B).unwrap();
    peer.attach(B, b"/dir/sub/").unwrap();
    peer.open(B, OpenFlags::DIRECTORY).unwrap();
    let readdir = Request::Readdir {
        fid: B,
        offset: 0,
        count: 4000,
    };
    let Ok(Reply::Readdir { data }) = peer.call(&readdir) else {
        panic!("no listing");
    };
    let entries: Vec<_> = DirEntries::new(data.0).map(Result::unwrap).collect();
    let up = entries.iter().find(|entry| entry.name == b"..").unwrap();
    assert_eq!(up.qid.path, sub);
}

#[test]
fn fids_of_a_renamed_tree_stay_valid() {
    let tree = tree();
    tree.put("other/x", b"");
    let mut peer = linux(&tree);
    let (sub, deep, other) = (Fid(10), Fid(11), Fid(12));
    peer.walk(ROOT, A, &[b"dir"]).unwrap();
    peer.walk(ROOT, sub, &[b"dir", b"sub"]).unwrap();
    peer.walk(ROOT, deep, &[b"dir", b"sub", b"deep"]).unwrap();
    peer.walk(ROOT, other, &[b"other"]).unwrap();
    let other_path = peer.path(other);
    // By a fid, and by a name.
    rename(&mut peer, sub, other, b"moved").unwrap();
    let renameat = Request::Renameat {
        olddirfid: ROOT,
        oldname: b"other",
        newdirfid: A,
        newname: b"another",
    };
    assert_eq!(peer.call(&renameat), Ok(Reply::Renameat));
    assert_eq!(tree.get("dir/another/moved/deep").unwrap(), b"deep down");
    peer.walk(sub, B, &[b".."]).unwrap();
    assert_eq!(peer.path(B), other_path);
    peer.open(deep, OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE)
        .unwrap();
    peer.write(deep, 0, b"new").unwrap();
    assert_eq!(tree.get("dir/another/moved/deep").unwrap(), b"new");
    // Tremove goes by the new name.
    assert_eq!(peer.call(&Request::Remove { fid: deep }), Ok(Reply::Remove));
    assert_eq!(tree.get("dir/another/moved/deep"), None);
    assert_eq!(peer.call(&Request::Remove { fid: sub }), Ok(Reply::Remove));
    assert_eq!(
        rename(&mut peer, other, other, b"in itself"),
        Err(Errno::EINVAL)
    );
    assert_eq!(rename(&mut peer, ROOT, A, b"root"), Err(Errno::EBUSY));
    unlink(&mut peer, other, b"x", false).unwrap();
    assert_eq!(
        peer.call(&Request::Remove { fid: B }),
        Ok(Reply::Remove),
        "empty by now"
    );
}

#[test]
fn a_name_that_another_file_has_by_now_is_not_touched() {
    let tree = tree();
    let mut peer = linux(&tree);
    let mut other = linux(&tree);
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    // Behind this server's back.
    other.walk(ROOT, A, &[b"dir"]).unwrap();
    unlink(&mut other, A, b"file", false).unwrap();
    tree.put("dir/file", b"precious");
    assert_eq!(rename(&mut peer, A, ROOT, b"mine"), Err(Errno::ENOENT));
    assert_eq!(peer.call(&Request::Remove { fid: A }), Err(Errno::ENOENT));
    assert_eq!(tree.get("dir/file").unwrap(), b"precious");
    // Through it.
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    peer.walk(ROOT, B, &[b"dir"]).unwrap();
    unlink(&mut peer, B, b"file", false).unwrap();
    tree.put("dir/file", b"precious");
    assert_eq!(peer.call(&Request::Remove { fid: A }), Err(Errno::ENOENT));
    assert_eq!(tree.get("dir/file").unwrap(), b"precious");
    // What was removed while it is open is there until it is closed.
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    peer.open(A, OpenFlags::READ_WRITE).unwrap();
    unlink(&mut peer, B, b"file", false).unwrap();
    assert_eq!(peer.read(A, 0, 100).unwrap(), b"precious");
    let attr = SetAttr {
        valid: SetAttrMask::SIZE,
        size: 3,
        ..SetAttr::default()
    };
    assert_eq!(
        peer.call(&Request::Setattr { fid: A, attr }),
        Ok(Reply::Setattr)
    );
    assert_eq!(peer.read(A, 0, 100).unwrap(), b"pre");
}

#[test]
fn names_that_no_file_can_have() {
    let mut peer = linux(&tree());
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    let long = [b'n'; 256];
    for (name, errno) in [
        (&b""[..], Errno::ENOENT),
        (b".", Errno::EEXIST),
        (b"..", Errno::EEXIST),
        (b"a/b", Errno::ENOENT),
        (b"/", Errno::ENOENT),
        (b"a\0b", Errno::EINVAL),
        (&long, Errno::ENAMETOOLONG),
    ] {
        let (dfid, mode, gid, flags) = (ROOT, 0o644, 0, OpenFlags::READ_WRITE);
        for request in [
            Request::Mkdir {
                dfid,
                name,
                mode,
                gid,
            },
            Request::Symlink {
                dfid,
                name,
                target: b"x",
                gid,
            },
            Request::Mknod {
                dfid,
                name,
                mode,
                major: 0,
                minor: 0,
                gid,
            },
            Request::Link { dfid, fid: A, name },
            Request::Rename { fid: A, dfid, name },
            Request::Lcreate {
                fid: ROOT,
                name,
                flags,
                mode,
                gid,
            },
        ] {
            assert_eq!(peer.call(&request), Err(errno), "{request:?}");
        }
        assert!(unlink(&mut peer, ROOT, name, false).is_err());
        assert!(unlink(&mut peer, ROOT, name, true).is_err());
    }
    let symlink = |target| Request::Symlink {
        dfid: ROOT,
        name: b"link",
        target,
        gid: 0,
    };
    assert_eq!(peer.call(&symlink(b"")), Err(Errno::ENOENT));
    assert_eq!(peer.call(&symlink(&[b'x'; 4096])), Err(Errno::ENAMETOOLONG));
    assert!(peer.call(&symlink(b"../..")).is_ok());
    peer.walk(ROOT, B, &[b"link"]).unwrap();
    assert_eq!(peer.open(B, OpenFlags::empty()), Err(Errno::ELOOP));
    assert_eq!(peer.walk(B, Fid(3), &[b"dir"]), Err(Errno::ENOTDIR));
    let Ok(Reply::Readlink { target }) = peer.call(&Request::Readlink { fid: B }) else {
        panic!("no target");
    };
    assert_eq!(target, b"../..");
}

#[test]
fn nothing_goes_from_one_tree_to_another() {
    let (one, two) = (tree(), tree());
    let exports = Exports::none()
        .with(b"one", one.root(), Rights::ReadWrite)
        .with(b"two", two.root(), Rights::ReadWrite);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Linux);
    peer.version();
    peer.attach(A, b"one/dir").unwrap();
    peer.attach(B, b"two").unwrap();
    let renameat = Request::Renameat {
        olddirfid: A,
        oldname: b"file",
        newdirfid: B,
        newname: b"file",
    };
    assert_eq!(peer.call(&renameat), Err(Errno::EXDEV));
    peer.walk(A, Fid(3), &[b"file"]).unwrap();
    let link = Request::Link {
        dfid: B,
        fid: Fid(3),
        name: b"link",
    };
    assert_eq!(peer.call(&link), Err(Errno::EXDEV));
    assert_eq!(rename(&mut peer, Fid(3), B, b"x"), Err(Errno::EXDEV));
    // The same tree by two attaches is one.
    peer.attach(Fid(4), b"one").unwrap();
    assert_eq!(rename(&mut peer, Fid(3), Fid(4), b"up"), Ok(()));
    assert_eq!(one.get("up").unwrap(), b"content");
    let remove = Request::Remove { fid: Fid(3) };
    assert_eq!(peer.call(&remove), Ok(Reply::Remove));
    assert_eq!(one.get("up"), None);
}

/// A walk whose fid is only looked at, as the requests behind it say, is answered as any other is, also where more comes of it.
#[test]
fn a_walk_to_one_look_is_a_walk() {
    let tree = tree();
    let mut peer = linux(&tree);
    let (newfid, mask) = (A, AttrMask::BASIC);
    let look = Request::Getattr { fid: newfid, mask };
    let ahead = [look, Request::Clunk { fid: newfid }].map(|request| {
        let message = message(&request, Tag(7), Dialect::Linux);
        *message.first_chunk().unwrap()
    });
    let walk = |path: &[&'static [u8]]| Request::Walk {
        fid: ROOT,
        newfid,
        names: names(path),
    };
    for path in [
        &[&b"dir"[..], b"file"][..],
        &[b"dir"],
        &[b"dir", b"..", b"dir"],
        &[],
        &[b"dir", b"none"],
    ] {
        let mut job = peer.begin(1, &walk(path));
        job.foresee(|n| ahead.get(n).copied());
        let reply = peer.end(job).unwrap().1;
        let Reply::Walk { qids } = reply else {
            panic!("{reply:?}");
        };
        let whole = qids.len() == path.len();
        assert_eq!(whole, path.last() != Some(&&b"none"[..]));
        if whole {
            let is_there = peer.call(&look).map(drop);
            assert_eq!(is_there, Ok(()));
            // What it did not say.
            assert_eq!(peer.walk(A, B, &[]), Ok(0));
            peer.clunk(A).unwrap();
            peer.clunk(B).unwrap();
        }
    }
    assert_eq!(peer.server.usage().places, 1);
    assert_eq!(peer.server.usage().fids, 1);
}

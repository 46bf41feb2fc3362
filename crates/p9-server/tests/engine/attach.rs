//! Exports, rights, and who may attach.

use p9_server::{Authentication, Export, Exports, Limits, Login, Policy, Rights, Server};
use p9_wire::*;
use xen9p_testing::server::mem::{MemNode, MemTree};

use crate::peer::{Peer, ROOT, attached, tree};

const A: Fid = Fid(1);

#[test]
fn anames_are_exports_and_ways_into_them() {
    let (one, two, three) = (tree(), tree(), MemTree::new());
    three.put("here", b"");
    let exports = Exports::none()
        .with(b"", one.root(), Rights::ReadWrite)
        .with(b"/srv/two/", two.root(), Rights::ReadWrite)
        .with(b"/srv/two/dir", three.root(), Rights::ReadOnly);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Linux);
    peer.version();
    for (aname, there) in [
        (&b""[..], &[&b"dir"[..], b"file"][..]),
        (b"/", &[b"dir", b"file"]),
        (b"dir", &[b"file"]),
        (b"/dir//sub/", &[b"deep"]),
        (b"srv/two", &[b"dir", b"file"]),
        (b"/srv/two/", &[b"dir", b"file"]),
        // The longest name of an export that it begins with.
        (b"/srv/two/dir", &[b"here"]),
    ] {
        peer.attach(A, aname).unwrap();
        let walked = peer.walk(A, Fid(2), there);
        assert_eq!(walked, Ok(there.len()), "{}", aname.escape_ascii());
        peer.clunk(Fid(2)).unwrap();
        peer.clunk(A).unwrap();
    }
    for (aname, errno) in [
        (&b"none"[..], Errno::ENOENT),
        (b"/srv/twox", Errno::ENOENT),
        (b"/srv/two/none", Errno::ENOENT),
        (b"dir/file", Errno::ENOTDIR),
        (b"dir/file/x", Errno::ENOTDIR),
        (b"..", Errno::ENOENT),
        (b"dir/../..", Errno::ENOENT),
        (b"/srv/two/../..", Errno::ENOENT),
        (b"dir/a\0b", Errno::ENOENT),
    ] {
        let attached = peer.attach(A, aname);
        assert_eq!(attached, Err(errno), "{}", aname.escape_ascii());
    }
    assert_eq!(peer.server.usage().fids, 0);
    assert_eq!(peer.server.usage().places, 0);
    let mut none = Peer::new(
        Server::new(Exports::<MemNode>::none(), Limits::default()),
        Dialect::Linux,
    );
    none.version();
    assert_eq!(none.attach(A, b""), Err(Errno::ENOENT));
}

#[test]
fn read_only_is_read_only() {
    let tree = tree();
    let mut peer = attached(&tree, Dialect::Linux, Rights::ReadOnly, Limits::default());
    peer.walk(ROOT, A, &[b"dir", b"file"]).unwrap();
    let (dfid, fid, name, mode, gid) = (ROOT, A, &b"new"[..], 0o644, 0);
    let renameat = Request::Renameat {
        olddirfid: ROOT,
        oldname: b"dir",
        newdirfid: ROOT,
        newname: b"x",
    };
    let write_only = OpenFlags::WRITE_ONLY;
    let setattr = |valid| Request::Setattr {
        fid,
        attr: SetAttr {
            valid,
            ..SetAttr::default()
        },
    };
    let requests = [
        Request::Lopen {
            fid,
            flags: write_only,
        },
        Request::Lopen {
            fid,
            flags: OpenFlags::READ_WRITE,
        },
        Request::Lopen {
            fid,
            flags: OpenFlags::TRUNCATE,
        },
        Request::Lcreate {
            fid: ROOT,
            name: b"file",
            flags: OpenFlags::empty(),
            mode,
            gid,
        },
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
        Request::Link { dfid, fid, name },
        Request::Rename { fid, dfid, name },
        renameat,
        Request::Unlinkat {
            dirfid: ROOT,
            name: b"dir",
            flags: UnlinkFlags::REMOVE_DIR,
        },
        setattr(SetAttrMask::MODE),
        setattr(SetAttrMask::ATIME),
        setattr(SetAttrMask::empty()),
        Request::Xattrcreate {
            fid,
            name,
            size: 1,
            flags: XattrFlags::empty(),
        },
    ];
    for request in &requests {
        assert_eq!(peer.call(request), Err(Errno::EROFS), "{request:?}");
    }
    peer.open(A, OpenFlags::empty()).unwrap();
    assert_eq!(peer.write(A, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(peer.read(A, 0, 100).unwrap(), b"content");
    let remove = Request::Remove { fid: A };
    assert_eq!(peer.call(&remove), Err(Errno::EROFS));
    assert_eq!(peer.clunk(A), Err(Errno::EBADF), "gone all the same");
    assert_eq!(tree.get("dir/file").unwrap(), b"content");
    assert_eq!(peer.server.usage().open_files, 0);
}

/// Rights are of an attach, not of a connection.
#[test]
fn two_attaches_have_two_rights() {
    let tree = tree();
    let exports = Exports::none()
        .with(b"ro", tree.root(), Rights::ReadOnly)
        .with(b"rw", tree.root(), Rights::ReadWrite);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Linux);
    peer.version();
    peer.attach(ROOT, b"ro/dir").unwrap();
    peer.attach(A, b"rw/dir").unwrap();
    for (root, result) in [(ROOT, Err(Errno::EROFS)), (A, Ok(()))] {
        peer.walk(root, Fid(2), &[b"file"]).unwrap();
        assert_eq!(peer.open(Fid(2), OpenFlags::READ_WRITE), result);
        peer.clunk(Fid(2)).unwrap();
    }
    // A file that may only be read gets no name where it may be written.
    peer.walk(ROOT, Fid(2), &[b"file"]).unwrap();
    let (dfid, fid, name) = (A, Fid(2), &b"mine"[..]);
    let link = Request::Link { dfid, fid, name };
    assert_eq!(peer.call(&link), Err(Errno::EROFS));
    let rename = Request::Rename { fid, dfid, name };
    assert_eq!(peer.call(&rename), Err(Errno::EROFS));
}

/// Wants to be told a word.
struct Guarded(MemTree);

struct Word {
    heard: Vec<u8>,
}

impl Authentication for Word {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let question = b"the word?";
        let len = question.len().min(into.len());
        into[..len].copy_from_slice(&question[..len]);
        Ok(len)
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, Errno> {
        self.heard.extend(from);
        Ok(from.len())
    }
}

impl Policy for Guarded {
    type Node = MemNode;
    type Authentication = Word;

    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        proof: Option<&Word>,
    ) -> Result<Export<'m, MemNode>, Errno> {
        match proof {
            Some(word) if word.heard == b"swordfish" => Ok(Export {
                root: self.0.root(),
                tree: 0,
                below: login.aname,
                rights: Rights::ReadWrite,
            }),
            _ => Err(Errno::EACCES),
        }
    }

    fn authenticate(&mut self, login: &Login<'_>) -> Result<Word, Errno> {
        match login.uname {
            b"glenda" => Ok(Word { heard: Vec::new() }),
            _ => Err(Errno::EPERM),
        }
    }
}

#[test]
fn an_identity_is_proved_on_an_afid() {
    let server = Server::new(Guarded(tree()), Limits::default());
    let mut peer = Peer::new(server, Dialect::Unix);
    peer.version();
    let (afid, n_uname) = (Fid(9), NO_USER);
    let auth = |uname| Request::Auth {
        afid,
        uname,
        aname: b"dir",
        n_uname,
    };
    let attach = |uname, aname, afid| Request::Attach {
        fid: ROOT,
        afid,
        uname,
        aname,
        n_uname,
    };
    assert_eq!(peer.call(&auth(b"root")), Err(Errno::EPERM));
    let Ok(Reply::Auth { aqid }) = peer.call(&auth(b"glenda")) else {
        panic!("no afid");
    };
    assert_eq!(aqid.kind, QidKind::AUTH);
    assert_eq!(peer.call(&auth(b"glenda")), Err(Errno::EINVAL), "in use");
    let good = attach(b"glenda", b"dir", afid);
    assert_eq!(peer.call(&good), Err(Errno::EACCES), "too early");
    assert_eq!(peer.read(afid, 0, 100).unwrap(), b"the word?");
    assert_eq!(peer.read(afid, 0, 3).unwrap(), b"the");
    peer.write(afid, 0, b"sword").unwrap();
    peer.write(afid, 5, b"fish").unwrap();
    for other in [
        attach(b"root", b"dir", afid),
        attach(b"glenda", b"", afid),
        attach(b"glenda", b"dir", Fid::NONE),
    ] {
        assert_eq!(peer.call(&other), Err(Errno::EACCES), "{other:?}");
    }
    let unknown = attach(b"glenda", b"dir", Fid(77));
    assert_eq!(peer.call(&unknown), Err(Errno::EBADF));
    // It is no file.
    assert_eq!(peer.walk(afid, Fid(5), &[]), Err(Errno::EINVAL));
    assert_eq!(peer.call(&Request::Stat { fid: afid }), Err(Errno::EINVAL));
    assert!(matches!(peer.call(&good), Ok(Reply::Attach { .. })));
    assert_eq!(peer.walk(ROOT, Fid(5), &[b"file"]), Ok(1));
    peer.clunk(afid).unwrap();
    // Where nothing has to be proved, that is said.
    let exports = Exports::new(tree().root(), Rights::ReadOnly);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), Dialect::Unix);
    peer.version();
    assert_eq!(peer.call(&auth(b"glenda")), Err(Errno::EOPNOTSUPP));
}

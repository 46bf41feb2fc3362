//! Files that are append-only, or that only one may have open.

use std::cell::RefCell;
use std::rc::Rc;

use p9_server::{Exports, Limits, Node, OpenFile, Rights, Server};
use p9_wire::*;

use crate::peer::{Peer, ROOT};

const A: Fid = Fid(1);
const B: Fid = Fid(2);

/// A directory with the files "log" and "exclusive".
#[derive(Clone)]
struct Odd {
    kind: QidKind,
    content: Rc<RefCell<Vec<u8>>>,
}

struct Opened(Odd, OpenFlags);

impl Node for Odd {
    type File = Opened;

    fn qid(&self) -> Qid {
        Qid {
            kind: self.kind,
            version: 0,
            path: self.kind.bits().into(),
        }
    }

    async fn walk(&self, name: &[u8]) -> p9_tree::Result<Self> {
        let kind = match name {
            b"log" => QidKind::APPEND,
            b"exclusive" => QidKind::EXCLUSIVE,
            _ => return Err(Errno::ENOENT.into()),
        };
        let content = self.content.clone();
        Ok(Odd { kind, content })
    }

    async fn getattr(&self, _: AttrMask) -> p9_tree::Result<Attr> {
        let kind = match self.kind {
            QidKind::DIR => FileKind::DIR,
            _ => FileKind::REGULAR,
        };
        Ok(Attr {
            qid: self.qid(),
            mode: kind.bits() | 0o644,
            ..Attr::default()
        })
    }

    async fn open(&self, flags: OpenFlags) -> p9_tree::Result<Opened> {
        Ok(Opened(self.clone(), flags))
    }
}

impl OpenFile for Opened {
    async fn read(&self, _: &mut [u8], _: u64) -> p9_tree::Result<usize> {
        Ok(0)
    }

    async fn write(&self, from: &[u8], offset: u64) -> p9_tree::Result<usize> {
        let mut content = self.0.content.borrow_mut();
        if !self.1.contains(OpenFlags::APPEND) {
            content.truncate(offset as usize);
        }
        content.extend(from);
        Ok(from.len())
    }
}

fn served(dialect: Dialect) -> (Peer<Exports<Odd>>, Rc<RefCell<Vec<u8>>>) {
    let content = Rc::new(RefCell::new(Vec::new()));
    let root = Odd {
        kind: QidKind::DIR,
        content: content.clone(),
    };
    let exports = Exports::new(root, Rights::ReadWrite);
    let mut peer = Peer::new(Server::new(exports, Limits::default()), dialect);
    peer.version();
    peer.attach(ROOT, b"").unwrap();
    (peer, content)
}

#[test]
fn an_append_only_file_ignores_offsets_and_gets_no_shorter() {
    let (mut peer, content) = served(Dialect::Linux);
    peer.walk(ROOT, A, &[b"log"]).unwrap();
    let truncate = OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    assert_eq!(peer.open(A, truncate), Err(Errno::EPERM));
    let attr = SetAttr {
        valid: SetAttrMask::SIZE,
        ..SetAttr::default()
    };
    let setattr = Request::Setattr { fid: A, attr };
    assert_eq!(peer.call(&setattr), Err(Errno::EPERM));
    peer.open(A, OpenFlags::WRITE_ONLY).unwrap();
    for offset in [0, 0, 1000] {
        peer.write(A, offset, b"line ").unwrap();
    }
    assert_eq!(*content.borrow(), b"line line line ");
    // In Plan 9, such a file is simply not truncated.
    let (mut peer, content) = served(Dialect::Plan9);
    peer.walk(ROOT, A, &[b"log"]).unwrap();
    let mode = OpenMode::WRITE_ONLY | OpenMode::TRUNCATE;
    peer.call(&Request::Open { fid: A, mode }).unwrap();
    peer.write(A, 0, b"a").unwrap();
    peer.write(A, 0, b"b").unwrap();
    assert_eq!(*content.borrow(), b"ab");
    let Ok(Reply::Stat { stat }) = peer.call(&Request::Stat { fid: A }) else {
        panic!("no stat");
    };
    assert!(stat.mode.contains(DirMode::APPEND));
    let length = Stat {
        length: 0,
        ..Stat::UNCHANGED
    };
    let wstat = Request::Wstat {
        fid: A,
        stat: length,
    };
    assert_eq!(peer.call(&wstat), Err(Errno::EPERM));
}

#[test]
fn an_exclusive_file_has_one_opener() {
    let (mut peer, _) = served(Dialect::Linux);
    for fid in [A, B] {
        peer.walk(ROOT, fid, &[b"exclusive"]).unwrap();
    }
    peer.open(A, OpenFlags::empty()).unwrap();
    assert_eq!(peer.open(B, OpenFlags::empty()), Err(Errno::EBUSY));
    peer.clunk(A).unwrap();
    peer.open(B, OpenFlags::empty()).unwrap();
    // Two that are under way at once.
    peer.clunk(B).unwrap();
    for fid in [A, B] {
        peer.walk(ROOT, fid, &[b"exclusive"]).unwrap();
    }
    let open = |fid| Request::Lopen {
        fid,
        flags: OpenFlags::empty(),
    };
    let first = peer.begin(1, &open(A));
    let second = peer.begin(2, &open(B));
    assert_eq!(peer.end(second).unwrap().1.errno(), Some(Errno::EBUSY));
    assert_eq!(peer.end(first).unwrap().1.errno(), None);
}

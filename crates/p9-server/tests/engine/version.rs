//! What is agreed on first.

use p9_server::{Exports, Limits, Rights, Server, Violation};
use p9_wire::*;

use crate::peer::{Peer, ROOT, message, tree};

fn agree(dialects: &[Dialect], msize: u32, version: &[u8]) -> (u32, Vec<u8>) {
    let exports = Exports::new(tree().root(), Rights::ReadOnly);
    let server = Server::new(exports, Limits::default()).dialects(dialects);
    let mut peer = Peer::new(server, Dialect::Linux);
    let (msize, version) = match peer.call(&Request::Version { msize, version }) {
        Ok(Reply::Version { msize, version }) => (msize, version.to_vec()),
        other => panic!("{other:?}"),
    };
    let dialect = peer.server.dialect();
    assert_eq!(dialect, Dialect::from_version(&version));
    (msize, version)
}

#[test]
fn a_dialect_that_both_speak() {
    let all = &Dialect::ALL[..];
    let only = |dialect| [dialect];
    for (dialects, asked, agreed) in [
        (all, &b"9P2000.L"[..], &b"9P2000.L"[..]),
        (all, b"9P2000.u", b"9P2000.u"),
        (all, b"9P2000", b"9P2000"),
        // Without what comes behind the last full stop that is not known.
        (all, b"9P2000.L.Google.7", b"9P2000.L"),
        (all, b"9P2000.e", b"9P2000"),
        (&only(Dialect::Plan9), b"9P2000.L", b"9P2000"),
        (&only(Dialect::Unix), b"9P2000.L", b"unknown"),
        (&only(Dialect::Linux), b"9P2000", b"unknown"),
        (all, b"9P1999", b"unknown"),
        (all, b"9p2000.l", b"unknown"),
        (all, b"", b"unknown"),
        (all, b"....", b"unknown"),
    ] {
        let (_, got) = agree(dialects, 8192, asked);
        assert_eq!(got, agreed, "{}", asked.escape_ascii());
    }
    assert_eq!(agree(all, 8192, b"9P2000.L").0, 8192);
    assert_eq!(agree(all, u32::MAX, b"9P2000.L").0, 1 << 20);
}

#[test]
fn nothing_is_said_before_that_and_nothing_small_is_agreed() {
    let exports = Exports::new(tree().root(), Rights::ReadOnly);
    let server = Server::new(exports, Limits::default());
    let mut peer = Peer::new(server, Dialect::Linux);
    assert_eq!(peer.attach(ROOT, b""), Err(Errno::EPROTO));
    for msize in [0, 7, 255] {
        let version = b"9P2000.L";
        let asked = Request::Version { msize, version };
        assert_eq!(peer.call(&asked), Err(Errno::EMSGSIZE));
        assert_eq!(peer.server.dialect(), None);
    }
    peer.version();
    peer.attach(ROOT, b"").unwrap();
    // A failed one ends the session, too.
    let asked = Request::Version {
        msize: 8192,
        version: b"unknown",
    };
    assert!(matches!(peer.call(&asked), Ok(Reply::Version { .. })));
    assert_eq!(peer.server.usage().fids, 0);
    assert_eq!(peer.attach(ROOT, b""), Err(Errno::EPROTO));
}

#[test]
fn what_is_no_message_is_a_violation() {
    let exports = Exports::new(tree().root(), Rights::ReadOnly);
    let mut server = Server::new(exports, Limits::default());
    for (bytes, violation) in [
        (&b""[..], Violation::TooShort),
        (&[7, 0, 0, 0, 100, 0], Violation::TooShort),
        (&[6, 0, 0, 0, 100, 0, 0], Violation::TooShort),
        (&[8, 0, 0, 0, 100, 0, 0], Violation::WrongSize),
        (&[7, 0, 0, 0, 100, 0, 0, 0], Violation::WrongSize),
        (&[0, 0, 0, 1, 100, 0, 0], Violation::TooLarge),
    ] {
        assert_eq!(server.accept(0, bytes).err(), Some(violation));
    }
    assert_eq!(server.usage().requests, 0);
}

/// Each request cut off at each byte, and with a byte too many: an error, and nothing comes of it.
#[test]
fn messages_that_are_cut_off() {
    let tree = tree();
    let mut peer = crate::peer::linux(&tree);
    let qids = Names::from_slice(&[b"dir", b"file"]).unwrap();
    let walk = Request::Walk {
        fid: ROOT,
        newfid: Fid(1),
        names: qids,
    };
    let mkdir = Request::Mkdir {
        dfid: ROOT,
        name: b"new",
        mode: 0,
        gid: 0,
    };
    for request in [walk, mkdir] {
        let whole = message(&request, Tag(5), Dialect::Linux);
        for len in (7..whole.len()).chain([whole.len() + 1]) {
            let mut bytes = whole.to_vec();
            bytes.resize(len, 0);
            bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
            let job = peer.server.accept(0, Vec::leak(bytes)).unwrap();
            let (tag, reply) = peer.end(job).unwrap();
            assert_eq!((tag, reply.errno()), (Tag(5), Some(Errno::EPROTO)));
        }
    }
    assert_eq!(peer.server.usage().fids, 1);
    assert_eq!(peer.walk(ROOT, Fid(1), &[b"new"]), Err(Errno::ENOENT));
}

//! A server on a stream of bytes that comes in pieces of any size.

use std::collections::VecDeque;

use p9_server::{Exports, Frames, Limits, Rights, ServeError, Server, Violation, serve};
use p9_wire::*;
use xen9p_testing::server::mem::ready;

use crate::peer::{ROOT, message, names, tree};

/// Requests as they would come from a client that waits for nothing.
fn session() -> Vec<u8> {
    let (fid, newfid) = (ROOT, Fid(1));
    let requests = [
        Request::Version {
            msize: 20_000,
            version: b"9P2000.L",
        },
        Request::Attach {
            fid,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        },
        Request::Walk {
            fid,
            newfid,
            names: names(&[b"dir", b"file"]),
        },
        Request::Lopen {
            fid: newfid,
            flags: OpenFlags::READ_WRITE,
        },
        Request::Write {
            fid: newfid,
            offset: 0,
            data: Payload::from(&[9; 19_000][..]),
        },
        Request::Read {
            fid: newfid,
            offset: 0,
            count: 20_000,
        },
    ];
    let messages = (1..).zip(&requests);
    let messages = messages.map(|(tag, request)| message(request, Tag(tag), Dialect::Linux));
    messages.flatten().copied().collect()
}

#[test]
fn bytes_in_any_pieces() {
    let session = session();
    for piece in [1, 7, 100, 9000, 100_000] {
        let tree = tree();
        let exports = Exports::new(tree.root(), Rights::ReadWrite);
        let mut server = Server::new(exports, Limits::default());
        let mut stream: VecDeque<u8> = session.iter().copied().collect();
        let mut replies = Vec::new();
        let read = async |into: &mut [u8]| -> Result<usize, ()> {
            assert!(!into.is_empty());
            let count = into.len().min(piece).min(stream.len());
            for (place, byte) in into.iter_mut().zip(stream.drain(..count)) {
                *place = byte;
            }
            Ok(count)
        };
        let write = async |bytes: &[u8]| -> Result<(), ()> {
            replies.extend_from_slice(bytes);
            Ok(())
        };
        assert_eq!(ready(serve(&mut server, read, write)), Ok(()));
        let mut rest = &replies[..];
        let mut kinds = Vec::new();
        while let Some(header) = rest.first_chunk().map(parse_header) {
            kinds.push(header.kind);
            rest = &rest[header.size as usize..];
        }
        assert_eq!(kinds, [101, 105, 111, 13, 119, 117], "pieces of {piece}");
        assert_eq!(replies.len(), 21 + 20 + 35 + 24 + 11 + 11 + 19_000);
        assert_eq!(server.usage().fids, 0);
        drop(server);
        assert_eq!(tree.held(), 0);
    }
}

#[test]
fn a_stream_that_is_no_9p_ends() {
    for (bytes, violation) in [
        (&b"GET / HTTP/1.0\r\n"[..], Violation::TooLarge),
        (&[3, 0, 0, 0, 0, 0], Violation::TooShort),
    ] {
        let exports = Exports::new(tree().root(), Rights::ReadWrite);
        let mut server = Server::new(exports, Limits::default());
        let read = async |into: &mut [u8]| -> Result<usize, ()> {
            into[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        let write = async |_: &[u8]| -> Result<(), ()> { panic!("nothing to say") };
        let served = ready(serve(&mut server, read, write));
        assert_eq!(served, Err(ServeError::Violation(violation)));
    }
    let exports = Exports::new(tree().root(), Rights::ReadWrite);
    let mut server = Server::new(exports, Limits::default());
    let failed = serve(&mut server, async |_| Err("gone"), async |_| Ok(()));
    assert_eq!(ready(failed), Err(ServeError::Stream("gone")));
}

#[test]
fn frames_keep_what_comes_behind_a_message() {
    let mut frames = Frames::new();
    let stream: Vec<u8> = (0..50u8)
        .flat_map(|index| {
            let len = 7 + u32::from(index) * 100;
            let mut message = len.to_le_bytes().to_vec();
            message.resize(len as usize, index);
            message
        })
        .collect();
    let (mut sent, mut got) = (0, 0);
    while got < 50 {
        while let Some(message) = frames.next(8192).unwrap() {
            assert_eq!(message.len(), 7 + got * 100);
            assert!(message[4..].iter().all(|byte| usize::from(*byte) == got));
            frames.done();
            got += 1;
        }
        let space = frames.space(8192).unwrap();
        let count = space.len().min(stream.len() - sent).min(1000);
        space[..count].copy_from_slice(&stream[sent..][..count]);
        frames.filled(count);
        sent += count;
    }
    assert_eq!(frames.next(8192), Ok(None));
}

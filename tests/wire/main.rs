//! The size of every message, and the bytes of some, as they are known from the protocol's
//! documents and from what servers were seen to send.

mod arbitrary;
mod directories;
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod lanes;
mod layout;
mod mem;
mod qemu;
mod replay;
mod samples;
mod servers;

use samples::*;
use xen9p::p9::wire::*;

/// Checks one message of either sort: size, header, head without payload, and that every way to cut
/// it in two decodes to what was encoded, while no shorter one decodes at all.
macro_rules! check {
    ($enum:ident, $dialect:expr, $message:expr, $kind:expr, $size:expr) => {{
        let (dialect, message, size) = ($dialect, $message, $size);
        let name = kind::name($kind);
        let mut buf = [0xaa; 512];
        assert_eq!(
            message.encode(TAG, dialect, &mut buf),
            Ok(size),
            "{name} in {dialect}"
        );
        let bytes = &buf[..size];
        let header = parse_header(bytes.first_chunk().unwrap());
        assert_eq!(
            (header.size as usize, header.kind, header.tag),
            (size, $kind, TAG.0)
        );
        assert_eq!(message.kind(), $kind);

        let mut head = [0; 512];
        let head_len = message.encode_head(TAG, dialect, &mut head).unwrap();
        assert_eq!(head_len + message.payload().len(), size);
        assert_eq!(head[..head_len], bytes[..head_len]);
        assert_eq!(
            message.encode(TAG, dialect, &mut head[..size - 1]),
            Err(WireError::Room {
                needed: size as u32
            })
        );

        let mut scratch = [0; 16];
        for cut in 0..=size {
            let (front, back) = bytes.split_at(cut);
            let reader = Reader::split(front, back, &mut scratch, dialect);
            assert_eq!($enum::decode(reader), Ok((TAG, message)), "cut at {cut}");
        }
        for end in 0..size {
            assert!($enum::decode(Reader::new(&bytes[..end], dialect)).is_err());
        }
    }};
}

#[test]
fn every_request_has_its_size_and_survives() {
    for (dialect, message, kind, size) in requests() {
        check!(Request, dialect, message, kind, size);
    }
}

#[test]
fn every_reply_has_its_size_and_survives() {
    for (dialect, message, kind, size) in replies() {
        check!(Reply, dialect, message, kind, size);
    }
}

#[test]
fn the_tables_above_leave_no_message_out() {
    let requests: Vec<u8> = requests().iter().map(|row| row.2).collect();
    let replies: Vec<u8> = replies().iter().map(|row| row.2).collect();
    for number in 0..=255 {
        let name = kind::name(number);
        assert_eq!(name.starts_with('T'), requests.contains(&number), "{name}");
        assert_eq!(name.starts_with('R'), replies.contains(&number), "{name}");
    }
}

#[test]
fn no_reply_exceeds_what_is_kept_free_for_it() {
    for (dialect, request, kind, _) in requests() {
        let room = request.max_reply(dialect, 1 << 20) as usize;
        let answers: Vec<_> = replies()
            .into_iter()
            .filter(|row| row.0 == dialect && row.2 == kind + 1 && row.2 != 111)
            .collect();
        for (_, reply, _, size) in answers {
            assert!(size <= room, "{reply:?} to {request:?}");
        }
    }
    let reads = |count| Request::Read {
        fid: FID,
        offset: 0,
        count,
    };
    assert_eq!(reads(100).max_reply(L, 8192), 111);
    assert_eq!(reads(u32::MAX).max_reply(L, 8192), 8192);
    assert_eq!(Request::Clunk { fid: FID }.max_reply(L, 8192), 11);
    assert_eq!(Request::Clunk { fid: FID }.max_reply(U, 8192), 268);
    let names = Names::from_slice(&[&b"x"[..]; 16]).unwrap();
    let walk = Request::Walk {
        fid: FID,
        newfid: FID,
        names,
    };
    assert_eq!(walk.max_reply(L, 8192), 217);
}

#[test]
fn a_walk_byte_by_byte() {
    let request = Request::Walk {
        fid: FID,
        newfid: Fid(2),
        names: Names::from_slice(&[b"a", b"bc"]).unwrap(),
    };
    let mut buf = [0; 64];
    let len = request.encode(TAG, L, &mut buf).unwrap();
    assert_eq!(
        buf[..len],
        [
            24, 0, 0, 0, 110, 5, 6, // size, type, tag
            1, 2, 3, 4, // fid
            2, 0, 0, 0, // newfid
            2, 0, 1, 0, b'a', 2, 0, b'b', b'c'
        ]
    );
}

#[test]
fn attributes_byte_by_byte() {
    // An Rgetattr as QEMU 7.2 sends it: 42 bytes, mode 0100644, owner 0, two links.
    let mut bytes = vec![160, 0, 0, 0, 25, 1, 0];
    bytes.extend([0xff, 0x07, 0, 0, 0, 0, 0, 0]); // valid: BASIC
    bytes.extend([0, 9, 8, 7, 6, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0]); // qid
    bytes.extend([0xa4, 0x81, 0, 0]); // mode
    bytes.extend([0; 8]); // uid, gid
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]); // nlink
    bytes.extend([0; 8]); // rdev
    bytes.extend([42, 0, 0, 0, 0, 0, 0, 0]); // size
    bytes.extend([0, 0x10, 0, 0, 0, 0, 0, 0]); // blksize
    bytes.extend([8, 0, 0, 0, 0, 0, 0, 0]); // blocks
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]); // atime
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]); // mtime
    bytes.extend([5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]); // ctime
    bytes.extend([0; 32]); // btime, generation, data version
    let (tag, reply) = Reply::decode(Reader::new(&bytes, L)).unwrap();
    let Reply::Getattr { attr } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(tag, Tag(1));
    assert_eq!(attr.valid, AttrMask::BASIC);
    assert_eq!(
        (attr.qid.version, attr.qid.path),
        (0x0607_0809, 0x11_2233_4455)
    );
    assert_eq!(FileKind::of_mode(attr.mode), FileKind::REGULAR);
    assert_eq!(attr.mode & ModeBits::PERMISSIONS.bits(), 0o644);
    assert_eq!(
        (attr.nlink, attr.size, attr.blksize, attr.blocks),
        (2, 42, 4096, 8)
    );
    assert_eq!(attr.mtime, Time { secs: 3, nanos: 4 });
    assert_eq!(attr.ctime, Time { secs: 5, nanos: 6 });
}

#[test]
fn messages_of_other_dialects_are_refused() {
    let stat = Request::Stat { fid: FID };
    let mut buf = [0; 64];
    let wrong = WireError::Kind {
        kind: 124,
        dialect: L,
    };
    assert_eq!(stat.encode(TAG, L, &mut buf), Err(wrong));
    let len = stat.encode(TAG, P, &mut buf).unwrap();
    assert_eq!(Request::decode(Reader::new(&buf[..len], L)), Err(wrong));
    assert!(matches!(
        Reply::decode(Reader::new(&buf[..len], P)),
        Err(WireError::Kind { kind: 124, .. })
    ));
}

#[test]
fn late_fields_may_be_missing() {
    let fsync = [11, 0, 0, 0, 50, 1, 0, 1, 2, 3, 4];
    assert_eq!(
        Request::decode(Reader::new(&fsync, L)),
        Ok((
            Tag(1),
            Request::Fsync {
                fid: FID,
                datasync: 0
            }
        ))
    );
    let error = [12, 0, 0, 0, 107, 1, 0, 3, 0, b'b', b'a', b'd'];
    assert_eq!(
        Reply::decode(Reader::new(&error, L)),
        Ok((
            Tag(1),
            Reply::Error {
                ename: b"bad",
                errno: 0
            }
        ))
    );
}

#[test]
fn sizes_in_a_stat_are_not_believed() {
    let mut buf = [0; 128];
    let reply = Reply::Stat { stat: stat() };
    let len = reply.encode(TAG, U, &mut buf).unwrap();
    // QEMU sends nstat 0; xen-9pfsd both 10 too large.
    for (nstat, size) in [(0u16, 74u16), (86, 84), (u16::MAX, 0)] {
        buf[7..9].copy_from_slice(&nstat.to_le_bytes());
        buf[9..11].copy_from_slice(&size.to_le_bytes());
        let decoded = Reply::decode(Reader::new(&buf[..len], U));
        assert_eq!(decoded, Ok((TAG, reply)));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut many = vec![0, 0, 0, 0, 111, 1, 0, 17, 0];
    many.extend([0; 17 * 13]);
    many[0] = many.len() as u8;
    let error = Reply::decode(Reader::new(&many, L)).unwrap_err();
    assert_eq!(error.to_string(), "Rwalk: bad value for field qids");

    let short = [10, 0, 0, 0, 7, 1, 0, 1, 0, 0];
    let error = Reply::decode(Reader::new(&short, L)).unwrap_err();
    assert_eq!(error.to_string(), "Rlerror ends within its field ecode");

    let long = [12, 0, 0, 0, 7, 1, 0, 1, 0, 0, 0, 9];
    let error = Reply::decode(Reader::new(&long, L)).unwrap_err();
    assert_eq!(error.to_string(), "Rlerror has 1 bytes too many");

    let lies = [9, 0, 0, 0, 109, 1, 0];
    let error = Reply::decode(Reader::new(&lies, L)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "9P message of 7 bytes says that it has 9"
    );

    let name = vec![b'n'; 65536];
    let link = Request::Link {
        dfid: FID,
        fid: FID,
        name: &name,
    };
    let error = link.encode(TAG, L, &mut [0; 128]).unwrap_err();
    assert_eq!(error.to_string(), "Tlink: bad value for field name");

    let linked = [14, 0, 0, 0, 23, 1, 0, 5, 0, b't', b'h', b'e', b'r', b'e'];
    let (front, back) = linked.split_at(11);
    let error = Reply::decode(Reader::split(front, back, &mut [0; 4], L)).unwrap_err();
    assert!(matches!(error, WireError::Seam { kind: 23, field: 0 }));
}

#[test]
fn the_length_of_data_is_checked_against_the_message() {
    let head = [111, 0, 0, 0, 117, 1, 0, 100, 0, 0, 0];
    assert_eq!(payload_len(&head), Ok(100));
    for count in [99u32, 101, u32::MAX] {
        let mut head = head;
        head[7..].copy_from_slice(&count.to_le_bytes());
        assert!(payload_len(&head).is_err());
    }
}

//! A server that lies: every lie ends in an error, in bounded time, and never in wrong data. What an error ends,
//! the operation or the connection, is docs/hostile-backends.md's.

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, MountOptions, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{HEADER_LEN, Payload, Qid, Qids, Reply, Tag, kind, parse_header};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::random::Random;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const CONTENT: &[u8] = b"what the file really says";

fn honest() -> Bed {
    bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        server.put("/dir/file", CONTENT);
        server.put("/big", &[7; 100_000]);
    })
}

/// A bed where the reply to each request of type `kind` becomes what `lie` makes of it.
fn lying(kind: u8, lie: impl Fn(&[u8], Vec<u8>) -> Vec<Vec<u8>> + 'static) -> Bed {
    let bed = honest();
    bed.control.tamper(move |request, reply| {
        if parse_header(request.first_chunk().unwrap()).kind == kind {
            lie(request, reply)
        } else {
            vec![reply]
        }
    });
    bed
}

fn encoded(reply: &Reply<'_>, like: &[u8]) -> Vec<u8> {
    let tag = parse_header(like.first_chunk().unwrap()).tag;
    let mut bytes = vec![0; 1 << 16];
    let len = reply.encode(Tag(tag), Dialect::Linux, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// The session is over, and everything says why.
fn assert_over(fs: &Fs, error: Error) {
    assert!(
        matches!(error, Error::Protocol(_) | Error::Malformed(_)),
        "{error:?}"
    );
    assert_eq!(fs.to_async().session().error(), Some(error));
    assert_eq!(fs.metadata("/big").unwrap_err(), error);
    assert_eq!(fs.open("/big").unwrap_err(), error);
    assert_eq!(fs.read_dir("/").map(drop).unwrap_err(), error);
}

/// One operation has failed because of what the server says of its files, and everything else goes on.
fn assert_alone(bed: &Bed, error: Error) {
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
    assert_eq!(bed.fs.to_async().session().error(), None);
    bed.control.behave();
    assert_eq!(bed.fs.read("/dir/file").unwrap(), CONTENT);
    assert_eq!(bed.fs.read_dir("/").unwrap().count(), 2);
}

#[test]
fn a_tag_that_was_never_sent() {
    for tag in [9, 63, 64, 127, 128, 5000, 0xfffe, 0xffff] {
        let bed = lying(kind::TGETATTR, move |_, mut reply| {
            reply[5..7].copy_from_slice(&u16::to_le_bytes(tag));
            vec![reply]
        });
        // The request's own tag would be no lie.
        let error = bed.fs.metadata("/dir").unwrap_err();
        assert_over(&bed.fs, error);
    }
}

#[test]
fn the_same_reply_twice() {
    let bed = lying(kind::TGETATTR, |_, reply| vec![reply.clone(), reply]);
    let first = bed.fs.metadata("/dir");
    let error = first.and_then(|_| bed.fs.metadata("/dir")).unwrap_err();
    assert_over(&bed.fs, error);
}

#[test]
fn a_reply_of_another_type() {
    for (asked, other) in [
        (kind::TGETATTR, kind::RREAD),
        (kind::TGETATTR, kind::TGETATTR),
        (kind::TWALK, kind::RCLUNK),
        (kind::TLOPEN, kind::RLCREATE),
        (kind::TREAD, kind::RREADDIR),
        (kind::TREAD, kind::RFLUSH),
        (kind::TREAD, 0),
        (kind::TREAD, 255),
    ] {
        let bed = lying(asked, move |_, mut reply| {
            reply[4] = other;
            vec![reply]
        });
        let read = bed.fs.read("/big").map(drop);
        let error = read.and_then(|()| bed.fs.metadata("/dir").map(drop));
        assert_over(&bed.fs, error.unwrap_err());
    }
}

#[test]
fn a_reply_cut_short_or_too_long() {
    for asked in [
        kind::TGETATTR,
        kind::TWALK,
        kind::TLOPEN,
        kind::TREAD,
        kind::TREADDIR,
    ] {
        for by in [-5i32, -1, 1, 4] {
            let bed = lying(asked, move |_, mut reply| {
                let size = reply.len().checked_add_signed(by as isize).unwrap();
                if size < HEADER_LEN {
                    return vec![reply];
                }
                reply.resize(size, 0xee);
                reply[..4].copy_from_slice(&(size as u32).to_le_bytes());
                vec![reply]
            });
            let result = bed
                .fs
                .read("/dir/file")
                .map(drop)
                .and_then(|()| bed.fs.metadata("/dir").map(drop))
                .and_then(|()| bed.fs.read_dir("/")?.try_for_each(|entry| entry.map(drop)));
            assert_over(&bed.fs, result.unwrap_err());
        }
    }
}

#[test]
fn a_size_that_promises_more_than_comes() {
    let bed = lying(kind::TREAD, |_, mut reply| {
        let more = reply.len() as u32 + 100;
        reply[..4].copy_from_slice(&more.to_le_bytes());
        vec![reply]
    });
    // The rest never comes: nothing but time can tell.
    assert_eq!(bed.fs.read("/dir/file"), Err(Error::TimedOut));
}

#[test]
fn sizes_that_no_message_has() {
    for size in [0u32, 1, 6, (1 << 19) + 1, u32::MAX] {
        let bed = lying(kind::TREAD, move |_, mut reply| {
            reply[..4].copy_from_slice(&size.to_le_bytes());
            vec![reply]
        });
        assert!(matches!(bed.fs.read("/dir/file"), Err(Error::Transport(_))));
        assert!(matches!(bed.fs.metadata("/"), Err(Error::Transport(_))));
    }
}

#[test]
fn more_data_than_was_asked_for() {
    let bed = lying(kind::TREAD, |_, reply| {
        vec![encoded(
            &Reply::Read {
                data: Payload(&[1; 40], &[]),
            },
            &reply,
        )]
    });
    let file = bed.fs.open("/big").unwrap();
    let mut buffer = [0; 10];
    let error = file.read(&mut buffer).unwrap_err();
    assert_eq!(buffer, [0; 10]);
    drop(file);
    assert_over(&bed.fs, error);
}

#[test]
fn a_count_that_is_not_that_of_the_data() {
    for (count, big) in [
        (0u32, true),
        (5, true),
        (99_999, true),
        (u32::MAX, true),
        (3, false),
    ] {
        let bed = lying(kind::TREAD, move |_, mut reply| {
            reply[7..11].copy_from_slice(&count.to_le_bytes());
            vec![reply]
        });
        let path = if big { "/big" } else { "/dir/file" };
        let error = bed.fs.read(path).unwrap_err();
        assert_over(&bed.fs, error);
    }
}

#[test]
fn more_written_than_was_sent() {
    let bed = lying(kind::TWRITE, |_, reply| {
        vec![encoded(&Reply::Write { count: 6 }, &reply)]
    });
    let error = bed.fs.write("/new", b"12345").unwrap_err();
    assert_over(&bed.fs, error);
}

#[test]
fn a_write_of_nothing_is_no_endless_loop() {
    let bed = lying(kind::TWRITE, |_, reply| {
        vec![encoded(&Reply::Write { count: 0 }, &reply)]
    });
    assert_eq!(bed.fs.write("/new", b"12345"), Err(Error::WriteZero));
}

#[test]
fn a_walk_of_more_or_fewer_names_than_can_be() {
    for count in [0, 3, 16] {
        let bed = lying(kind::TWALK, move |request, reply| {
            // Only the walk of two names.
            if request[15..17] != [2, 0] {
                return vec![reply];
            }
            let qids = Qids::from_slice(&vec![Qid::default(); count]).unwrap();
            vec![encoded(&Reply::Walk { qids }, &reply)]
        });
        let error = bed.fs.metadata("/dir/file").unwrap_err();
        assert_over(&bed.fs, error);
    }
}

#[test]
fn error_numbers_that_are_none_are_still_errors() {
    for ecode in [0, 4096, u32::MAX] {
        let bed = lying(kind::TGETATTR, move |_, reply| {
            vec![encoded(&Reply::Lerror { ecode }, &reply)]
        });
        assert_eq!(
            bed.fs.metadata("/big"),
            Err(Error::Errno(Errno::EPROTO)),
            "{ecode}"
        );
        // The session goes on.
        assert!(bed.fs.exists("/big").unwrap());
        bed.finish();
    }
}

fn entry(name: &[u8], offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; 24 + name.len()];
    let entry = xen9p::p9::wire::DirEntry {
        qid: Qid::default(),
        offset,
        kind: Default::default(),
        name,
    };
    entry.encode(&mut bytes).unwrap();
    bytes
}

/// Lists the root with this as the answer to every Treaddir.
fn list(data: Vec<u8>) -> (Bed, Result<usize, Error>) {
    let bed = lying(kind::TREADDIR, move |_, reply| {
        vec![encoded(
            &Reply::Readdir {
                data: Payload(&data, &[]),
            },
            &reply,
        )]
    });
    let mut count = 0;
    let result = bed.fs.read_dir("/").unwrap().try_for_each(|entry| {
        count += 1;
        entry.map(drop)
    });
    (bed, result.map(|()| count))
}

#[test]
fn directory_entries_that_are_not_all_there() {
    let whole = [entry(b"one", 1), entry(b"two", 2)].concat();
    for cut in (1..whole.len()).filter(|&cut| cut != 27) {
        let (bed, result) = list(whole[..cut].to_vec());
        assert_alone(&bed, result.unwrap_err());
    }
}

#[test]
fn directory_entries_with_impossible_names() {
    for name in [b"".as_slice(), b"a/b", b"/", b"nul\0", b"../x"] {
        let (bed, result) = list(entry(name, 1));
        assert_alone(&bed, result.unwrap_err());
    }
}

#[test]
fn directories_without_end() {
    // The same entries again and again.
    let (bed, result) = list([entry(b"a", 1), entry(b"b", 2)].concat());
    assert_alone(&bed, result.unwrap_err());

    // Circles of any length.
    for length in [1u64, 2, 3, 7, 100, 1000] {
        let bed = lying(kind::TREADDIR, move |request, reply| {
            let offset = u64::from_le_bytes(request[11..19].try_into().unwrap());
            let data = entry(b"again", offset % length + 1);
            vec![encoded(
                &Reply::Readdir {
                    data: Payload(&data, &[]),
                },
                &reply,
            )]
        });
        let error = bed.fs.read_dir("/").unwrap().find_map(Result::err);
        assert!(matches!(error, Some(Error::Protocol(_))), "{error:?}");
        // In bounded time, too; the entries are not there, so the server refuses first.
        assert!(bed.fs.remove_dir_all("/dir").is_err());
        assert_alone(&bed, error.unwrap());
    }
}

#[test]
fn a_reply_after_the_flush_was_answered() {
    use std::cell::RefCell;
    use std::rc::Rc;

    let bed = honest();
    let file = bed.fs.open("/dir/file").unwrap();
    // Keeps the reply to the read back, and sends it after Rflush.
    let kept = Rc::new(RefCell::new(Vec::new()));
    bed.control.tamper(move |request, reply| {
        match parse_header(request.first_chunk().unwrap()).kind {
            kind::TREAD => {
                *kept.borrow_mut() = reply;
                vec![]
            }
            kind::TFLUSH => vec![reply, kept.take()],
            _ => vec![reply],
        }
    });
    let mut buffer = [0; 10];
    assert_eq!(file.read(&mut buffer), Err(Error::TimedOut));
    let error = file.metadata().unwrap_err();
    assert_eq!(buffer, [0; 10]);
    drop(file);
    assert_over(&bed.fs, error);
}

#[test]
fn answers_to_flushes_that_were_not_sent() {
    let bed = honest();
    let tag = 64; // The window's first flush.
    let mut bytes = vec![0; 16];
    let len = Reply::Flush
        .encode(Tag(tag), Dialect::Linux, &mut bytes)
        .unwrap();
    bed.control.inject(xen9p::transport::Lane(0), &bytes[..len]);
    let error = bed.fs.metadata("/big").unwrap_err();
    assert_over(&bed.fs, error);
}

fn mount_against(
    version: &'static [u8],
    msize: impl Fn(u32) -> u32 + 'static,
) -> Result<Fs, Error> {
    let mut server = MemServer::new(MemOptions::default());
    let (transport, control) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    control.tamper(move |request, reply| {
        if parse_header(request.first_chunk().unwrap()).kind != kind::TVERSION {
            return vec![reply];
        }
        let asked = u32::from_le_bytes(request[7..11].try_into().unwrap());
        let msize = msize(asked);
        vec![encoded(&Reply::Version { msize, version }, &reply)]
    });
    Fs::mount(transport, &MountOptions::new())
}

#[test]
fn negotiations_that_come_to_nothing() {
    let same = |asked| asked;
    for (version, msize) in [
        (b"unknown".as_slice(), 0u32),
        (b"", 8192),
        (b"9P2000.L.Google.7", 8192),
        (b"9p2000.l", 8192),
    ] {
        let error = mount_against(version, move |_| msize).unwrap_err();
        assert_eq!(error, Error::NoCommonDialect);
    }
    for msize in [0, 7, 24, 4095] {
        let error = mount_against(b"9P2000.L", move |_| msize).unwrap_err();
        assert_eq!(error, Error::MessageSize(msize));
    }
    for more in [1, 1 << 30] {
        let error = mount_against(b"9P2000.L", move |asked| asked + more).unwrap_err();
        assert!(matches!(error, Error::Protocol(_)));
    }
    assert_eq!(mount_against(b"9P2000.L", same).unwrap().msize(), 1 << 19);
    assert_eq!(mount_against(b"9P2000.L", |_| 4096).unwrap().msize(), 4096);
}

#[test]
fn a_hostile_link_leads_nowhere_new() {
    for target in [b"".as_slice(), b"a\0b", &[b'x'; 300]] {
        let bed = lying(kind::TREADLINK, move |_, reply| {
            vec![encoded(&Reply::Readlink { target }, &reply)]
        });
        bed.fs.symlink("/big", "/link").unwrap();
        assert!(bed.fs.read("/link").is_err());
        assert!(bed.fs.metadata("/big").is_ok());
    }
}

#[test]
fn noise_in_place_of_any_reply() {
    let mut random = Random::new(1);
    for _ in 0..400 {
        let bed = honest();
        let at = random.below(12);
        let mut noise = Random::new(random.number());
        let mut seen = 0;
        bed.control.tamper(move |_, mut reply| {
            seen += 1;
            if seen > at {
                for byte in reply.iter_mut().skip(7) {
                    if noise.below(5) == 0 {
                        *byte = noise.number() as u8;
                    }
                }
            }
            vec![reply]
        });
        let fs = &bed.fs;
        let _ = fs.read("/dir/file");
        let _ = fs.metadata("/big");
        let _ = fs.read_dir("/").map(|list| list.take(1000).count());
        let _ = fs.write("/dir/new", b"text");
        let mut options = OpenOptions::new();
        let _ = options.append(true).create(true).open(fs, "/dir/log");
        let _ = fs.read_link("/dir/file");
        let _ = fs.xattr("/big", "user.x");
        let _ = fs.statfs("/");
        let _ = fs.remove_dir_all("/dir");
    }
}

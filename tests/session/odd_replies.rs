//! Odd replies of a server that is no enemy: they cost the operation that met them, and nothing else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, MountOptions, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::session::{Config, Scope, Session, Violation};
use xen9p::p9::wire::{
    DirEntry, Fid, OpenMode, Payload, Qid, QidKind, Reader, Reply, Request, Stat, Tag, kind,
    parse_header,
};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// The smallest messages, and the smallest ring that carries them.
fn smallest() -> LaneOptions {
    LaneOptions {
        capacity: 8192,
        ..LaneOptions::default()
    }
}

fn bed(options: MemOptions) -> Bed {
    bed_with(smallest(), options, |server| {
        server.put("/file", b"content");
        server.put("/big", &[7; 40_000]);
    })
}

fn encoded(reply: &Reply<'_>, tag: u16, dialect: Dialect) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 17];
    let len = reply.encode(Tag(tag), dialect, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn goes_on(fs: &Fs) {
    assert_eq!(fs.to_async().session().error(), None);
    assert_eq!(fs.read("/file").unwrap(), b"content");
    assert_eq!(fs.read("/big").unwrap().len(), 40_000);
}

#[test]
fn the_target_of_a_link_may_take_more_than_a_message() {
    for (oversize, expected) in [(true, Ok(())), (false, Err(Error::Errno(Errno::EMSGSIZE)))] {
        let bed = bed(MemOptions {
            msize: 4096,
            oversize_replies: oversize,
            // It takes requests that are too large.
            like_qemu: true,
            ..MemOptions::default()
        });
        assert_eq!(bed.fs.msize(), 4096);
        let target = "x/".repeat(2047) + "x";
        assert_eq!(target.len(), 4095);
        // A request to make it would be too large, too.
        let server = bed.server.clone();
        let made = make_link(&server, "link", target.as_bytes());
        assert!(made);
        let held = bed.fs.open("/big").unwrap();
        let found = bed.fs.read_link("/link");
        assert_eq!(
            found.map(|found| assert_eq!(found, target.as_bytes())),
            expected
        );
        assert_eq!(held.read_at(&mut [0; 10_000], 0).unwrap(), 10_000);
        goes_on(&bed.fs);
        drop(held);
        bed.finish();
    }
}

/// Makes a link without the client.
fn make_link(server: &Rc<RefCell<MemServer>>, name: &str, target: &[u8]) -> bool {
    let call = |request: Request<'_>| {
        let mut bytes = vec![0; 8192];
        let len = request.encode(Tag(1), Dialect::Linux, &mut bytes).unwrap();
        server.borrow_mut().handle(&bytes[..len])[4]
    };
    let (fid, afid) = (Fid(9999), Fid::NONE);
    call(Request::Attach {
        fid,
        afid,
        uname: b"",
        aname: b"",
        n_uname: 0,
    });
    let made = call(Request::Symlink {
        dfid: fid,
        name: name.as_bytes(),
        target,
        gid: 0,
    });
    call(Request::Clunk { fid });
    made == kind::RSYMLINK
}

/// Gives `reply` to every request of type `kind`.
fn answering(
    control: &Control,
    asked: u8,
    dialect: Dialect,
    reply: impl Fn() -> Reply<'static> + 'static,
) {
    control.tamper(move |request, honest| {
        let header = parse_header(request.first_chunk().unwrap());
        vec![match header.kind == asked {
            true => encoded(&reply(), header.tag, dialect),
            false => honest,
        }]
    });
}

#[test]
fn a_link_beyond_all_that_links_can_be() {
    // Within msize, but beyond the room that was kept for it.
    let big = bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        server.put("/file", b"content");
        server.put("/big", &[7; 40_000]);
    });
    big.fs.symlink("file", "/link").unwrap();
    answering(&big.control, kind::TREADLINK, Dialect::Linux, || {
        Reply::Readlink {
            target: &[b'x'; 20_000],
        }
    });
    let error = Error::from(Violation::NoRoom);
    assert_eq!(big.fs.read_link("/link"), Err(error));
    big.control.behave();
    goes_on(&big.fs);
    big.finish();
}

/// A session of 9P2000.u with a server whose stats and errors say much.
fn talkative(name: &'static [u8], error: &'static [u8]) -> (Session, Control) {
    let (transport, control) = lanes(smallest(), move |request| {
        let (tag, request) = Request::decode(Reader::new(request, Dialect::Unix)).unwrap();
        let qid = Qid {
            kind: QidKind::DIR,
            ..Qid::default()
        };
        let stat = Stat {
            name,
            ..Stat::UNCHANGED
        };
        let reply = match request {
            Request::Version { msize, version } => Reply::Version { msize, version },
            Request::Attach { .. } => Reply::Attach { qid },
            Request::Stat { .. } => Reply::Stat { stat },
            Request::Clunk { .. } => Reply::Clunk,
            _ => Reply::Error {
                ename: error,
                errno: 13,
            },
        };
        // Larger than what was kept free for it, as servers with rings of their own mind do.
        encoded(&reply, tag.0, Dialect::Unix)
    });
    control.lenient();
    let session = Session::new(Box::new(transport), &Config::default()).unwrap();
    (session, control)
}

#[test]
fn stats_and_error_texts_of_any_length() {
    let refused = Error::Errno(Errno::EACCES);
    let no_room = Error::from(Violation::NoRoom);
    for (name, error, stat, open) in [
        (&[b'n'; 255][..], &[b'e'; 255][..], Ok(255), refused),
        // Within the room for a stat, but not within msize.
        (&[b'n'; 4090], &[b'e'; 256], Ok(4090), no_room),
        (&[b'n'; 60], &[b'e'; 4000], Ok(60), no_room),
    ] {
        let (session, control) = talkative(name, error);
        session.block_on(async {
            session.negotiate(&[Dialect::Unix]).await.unwrap();
            assert_eq!(session.msize(), 4096);
            let (root, _) = session.attach(None, b"root", 0, b"").await.unwrap();
            assert_eq!(root.stat(|stat| stat.name.len()).await, stat);
            assert_eq!(root.open(OpenMode::empty()).await.map(drop), Err(open));
            assert_eq!(root.stat(|stat| stat.name.len()).await, stat);
        });
        assert_eq!(session.error(), None);
        drop(session);
        assert_eq!(control.reserved(), 0);
    }
}

#[test]
fn an_attribute_larger_than_any_program_may_see() {
    let bed = bed(MemOptions::default());
    bed.fs.set_xattr("/file", "user.x", b"value").unwrap();
    answering(&bed.control, kind::TXATTRWALK, Dialect::Linux, || {
        Reply::Xattrwalk { size: 65_537 }
    });
    let too_big = Error::Errno(Errno::E2BIG);
    assert_eq!(bed.fs.xattr("/file", "user.x"), Err(too_big));
    assert_eq!(bed.fs.list_xattrs("/file"), Err(too_big));
    bed.control.behave();
    assert_eq!(bed.fs.xattr("/file", "user.x").unwrap(), b"value");
    goes_on(&bed.fs);
    bed.finish();
}

#[test]
fn a_directory_in_circles_is_one_listing_that_fails() {
    let bed = bed(MemOptions::default());
    bed.control.tamper(|request, reply| {
        if request[4] != kind::TREADDIR {
            return vec![reply];
        }
        let tag = parse_header(request.first_chunk().unwrap()).tag;
        let entry = DirEntry {
            qid: Qid::default(),
            offset: 1,
            kind: Default::default(),
            name: b"again",
        };
        let mut data = [0; 29];
        entry.encode(&mut data).unwrap();
        let data = Payload(&data, &[]);
        vec![encoded(&Reply::Readdir { data }, tag, Dialect::Linux)]
    });
    let error = bed.fs.read_dir("/").unwrap().find_map(Result::err);
    assert_eq!(error, Some(Violation::CircularDirectory.into()));
    bed.control.behave();
    goes_on(&bed.fs);
    assert_eq!(bed.fs.read_dir("/").unwrap().count(), 2);
    bed.finish();
}

/// Refuses the first request of type `kind` with EBADF, and every walk of no names where `all` is set.
fn forgetful(control: &Control, asked: u8, all: bool) {
    let done = Cell::new(false);
    control.tamper(move |request, reply| {
        let header = parse_header(request.first_chunk().unwrap());
        let to_root = header.kind == kind::TWALK && request[15..17] == [0, 0];
        let refuse = header.kind == asked && !done.replace(header.kind == asked || done.get());
        let ecode = Errno::EBADF.number().into();
        vec![match refuse || all && to_root {
            true => encoded(&Reply::Lerror { ecode }, header.tag, Dialect::Linux),
            false => reply,
        }]
    });
}

#[test]
fn one_ebadf_is_not_a_lost_server() {
    for asked in [kind::TWALK, kind::TGETATTR] {
        let bed = bed(MemOptions::default());
        let held = bed.fs.open("/big").unwrap();
        let file = bed.fs.open("/file").unwrap();
        forgetful(&bed.control, asked, false);
        let bad = Err(Error::Errno(Errno::EBADF));
        match asked {
            kind::TWALK => assert_eq!(bed.fs.metadata("/file").map(drop), bad),
            _ => assert_eq!(file.metadata().map(drop), bad),
        }
        assert_eq!(held.read_at(&mut [0; 9000], 0), Ok(9000));
        goes_on(&bed.fs);
        drop((held, file));
        bed.finish();
    }
}

#[test]
fn one_ebadf_that_the_root_confirms_is_a_lost_server() {
    let bed = bed(MemOptions::default());
    forgetful(&bed.control, kind::TWALK, true);
    let error = bed.fs.metadata("/file").unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error}");
    assert_eq!(bed.fs.metadata("/file").map(drop), Err(error));
}

#[test]
fn one_who_gives_up_during_the_verification_leaves_nothing() {
    let bed = bed(MemOptions::default());
    let fs = bed.fs.to_async();
    forgetful(&bed.control, kind::TWALK, false);
    {
        let mut waiting = std::pin::pin!(fs.metadata("/file"));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // The walk is refused, and the probe hangs.
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        fs.session().pump();
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
    }
    drop(fs);
    goes_on(&bed.fs);
    bed.finish();
}

#[test]
fn appending_says_where_the_end_was() {
    for ignores_append in [false, true] {
        let bed = bed(MemOptions {
            ignores_append,
            ..MemOptions::default()
        });
        let log = OpenOptions::new()
            .append(true)
            .open(&bed.fs, "/file")
            .unwrap();
        let (_, cost) = bed.cost(|_| log.write_all(b" one").unwrap());
        // One more than the write: how long the file is.
        assert_eq!(cost, 2);
        let (_, cost) = bed.cost(|_| log.write_all(b" two").unwrap());
        assert_eq!(cost, 1);
        log.set_len(7).unwrap();
        log.write_all(b" three").unwrap();
        assert_eq!(bed.fs.read("/file").unwrap(), b"content three");
        let mut options = OpenOptions::new();
        let fresh = options.append(true).create_new(true).open(&bed.fs, "/new");
        let fresh = fresh.unwrap();
        let (_, cost) = bed.cost(|_| fresh.write_all(b"first").unwrap());
        assert_eq!(cost, 1);
        fresh.write_all(b" second").unwrap();
        assert_eq!(bed.fs.read("/new").unwrap(), b"first second");
        drop((log, fresh));
        bed.finish();
    }
}

#[test]
fn a_disk_that_is_full_half_way() {
    const CHUNK: usize = 4096 - 24;
    for failing in [0_usize, 1, 3, 5] {
        let mut server = MemServer::new(MemOptions::default());
        server.put("/file", b"");
        let server = Rc::new(RefCell::new(server));
        let serving = server.clone();
        let (transport, _) = lanes(LaneOptions::default(), move |request| {
            let header = parse_header(request.first_chunk().unwrap());
            let offset = request
                .get(11..19)
                .map(|at| u64::from_le_bytes(at.try_into().unwrap()));
            if header.kind == kind::TWRITE && offset == Some((failing * CHUNK) as u64) {
                let ecode = Errno::ENOSPC.number().into();
                return encoded(&Reply::Lerror { ecode }, header.tag, Dialect::Linux);
            }
            serving.borrow_mut().handle(request)
        });
        let fs = Fs::mount(transport, &MountOptions::new().msize(4096)).unwrap();
        let file = OpenOptions::new().write(true).open(&fs, "/file").unwrap();
        let data: Vec<u8> = (0..6 * CHUNK).map(|at| (at % 250) as u8 + 1).collect();
        let full = Error::Errno(Errno::ENOSPC);
        match file.write_at(&data, 0) {
            Ok(count) => assert_eq!(count, failing * CHUNK),
            Err(error) => assert_eq!((error, failing), (full, 0)),
        }
        // What is there: all that was reported, and beyond it holes and the program's own bytes.
        let there = server.borrow().get("/file").unwrap();
        assert_eq!(there[..failing * CHUNK], data[..failing * CHUNK]);
        let beyond = there.iter().zip(&data).skip(failing * CHUNK);
        assert!(
            beyond
                .into_iter()
                .all(|(there, sent)| there == sent || *there == 0)
        );
        // The advice of the docs.
        file.set_len((failing * CHUNK) as u64).unwrap();
        assert_eq!(
            server.borrow().get("/file").unwrap(),
            data[..failing * CHUNK]
        );
        assert_eq!(file.write_at(b"again", (failing * CHUNK) as u64), Err(full));
    }
}

#[test]
fn the_table_of_broken_rules_is_that_of_the_docs() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hostile-backends.md");
    const BEGIN: &str = "<!-- table: written by tests/session/odd_replies.rs -->\n";
    const END: &str = "<!-- end of the table of rules -->";
    let row = |violation: &Violation| {
        let ends = match violation.scope() {
            Scope::Operation => "the operation",
            Scope::Connection => "the connection",
        };
        format!("| {} | {ends} |\n", violation.rule())
    };
    let rows: String = Violation::ALL.iter().map(row).collect();
    let table = format!("| the server sends | which ends |\n|---|---|\n{rows}");
    let document = std::fs::read_to_string(FILE).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the table's beginning");
    let (old, after) = rest.split_once(END).expect("the table's end");
    if std::env::var_os("XEN9P_WRITE_TABLE").is_some() {
        std::fs::write(FILE, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    assert_eq!(old, table, "XEN9P_WRITE_TABLE=1 writes it anew");
    for violation in Violation::ALL {
        let error = Error::from(*violation);
        assert_eq!(Violation::scope_of(error), Some(violation.scope()));
    }
}

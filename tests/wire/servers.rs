//! The codec reads what servers send, and servers understand what it sends, one request at a time.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use p9_client::transport::socket::Socket;
use xen9p::errno::Errno;
use xen9p::p9::wire::*;
use xen9p::transport::{Lane, Transport, TransportError};
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{Engine, MemOptions, MemServer};
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::raw::Raw;
use xen9p_testing::server::real::{diod, ninep, p9, xen9pd};

const ROOT: Fid = Fid(0);
const CONTENT: &[u8] = b"all the world's a stage";

fn names<'a>(names: &[&'a [u8]]) -> Names<'a> {
    Names::from_slice(names).unwrap()
}

/// Goes through a tree that holds `dir/file` with [`CONTENT`], in 9P2000.L, and writes to it.
fn tour_of_linux<T: Transport>(transport: T, aname: &[u8]) {
    let mut raw = Raw::new(transport, Dialect::Linux);
    attach(&mut raw, aname);
    let (dir, file) = (Fid(1), Fid(2));

    let walk = Request::Walk {
        fid: ROOT,
        newfid: file,
        names: names(&[b"dir", b"file"]),
    };
    let Ok(Reply::Walk { qids }) = raw.call(&walk) else {
        panic!("{:?}", raw.reply());
    };
    assert_eq!(qids.len(), 2);
    assert_eq!(qids[0].kind, QidKind::DIR);
    assert_eq!(qids[1].kind, QidKind::empty());
    let qid = qids[1];

    let mask = AttrMask::BASIC;
    let Ok(Reply::Getattr { attr }) = raw.call(&Request::Getattr { fid: file, mask }) else {
        panic!("{:?}", raw.reply());
    };
    assert!(attr.valid.contains(mask));
    assert_eq!((attr.qid.path, attr.size), (qid.path, CONTENT.len() as u64));
    assert_eq!(FileKind::of_mode(attr.mode), FileKind::REGULAR);

    let flags = OpenFlags::READ_WRITE;
    assert!(raw.call(&Request::Lopen { fid: file, flags }).is_ok());
    assert_eq!(read(&mut raw, file, 4), CONTENT[4..]);
    let write = Request::Write {
        fid: file,
        offset: CONTENT.len() as u64,
        data: Payload(b" an", b"d"),
    };
    assert_eq!(raw.call(&write), Ok(Reply::Write { count: 4 }));
    assert_eq!(read(&mut raw, file, CONTENT.len() as u64), b" and");
    assert_eq!(
        raw.call(&Request::Fsync {
            fid: file,
            datasync: 0
        }),
        Ok(Reply::Fsync)
    );
    assert_eq!(raw.call(&Request::Clunk { fid: file }), Ok(Reply::Clunk));

    let walk = Request::Walk {
        fid: ROOT,
        newfid: dir,
        names: names(&[b"dir"]),
    };
    assert!(raw.call(&walk).is_ok());
    let flags = OpenFlags::DIRECTORY;
    assert!(raw.call(&Request::Lopen { fid: dir, flags }).is_ok());
    let readdir = Request::Readdir {
        fid: dir,
        offset: 0,
        count: 4000,
    };
    let Ok(Reply::Readdir {
        data: Payload(data, _),
    }) = raw.call(&readdir)
    else {
        panic!("{:?}", raw.reply());
    };
    let entries: Vec<_> = DirEntries::new(data).map(Result::unwrap).collect();
    let mut found: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    found.sort();
    assert_eq!(found, [&b"."[..], b"..", b"file"]);
    let last = entries.last().unwrap().offset;
    let readdir = Request::Readdir {
        fid: dir,
        offset: last,
        count: 4000,
    };
    let end = Reply::Readdir {
        data: Payload::default(),
    };
    assert_eq!(raw.call(&readdir), Ok(end));

    let walk = Request::Walk {
        fid: ROOT,
        newfid: file,
        names: names(&[b"nowhere"]),
    };
    assert_eq!(raw.call(&walk), Err(Errno::ENOENT));
    let Ok(Reply::Statfs { statfs }) = raw.call(&Request::Statfs { fid: ROOT }) else {
        panic!("{:?}", raw.reply());
    };
    assert!(statfs.namelen >= 255 && statfs.bsize > 0);
    let oldtag = Tag(999);
    assert_eq!(raw.call(&Request::Flush { oldtag }), Ok(Reply::Flush));
    for fid in [dir, ROOT] {
        assert_eq!(raw.call(&Request::Clunk { fid }), Ok(Reply::Clunk));
    }
    raw.transport.close();
}

fn attach<T: Transport>(raw: &mut Raw<T>, aname: &[u8]) {
    let attach = Request::Attach {
        fid: ROOT,
        afid: Fid::NONE,
        uname: b"root",
        aname,
        n_uname: 0,
    };
    let Ok(Reply::Attach { qid }) = raw.call(&attach) else {
        panic!("{:?}", raw.reply());
    };
    assert_eq!(qid.kind, QidKind::DIR);
}

fn read<T: Transport>(raw: &mut Raw<T>, fid: Fid, offset: u64) -> Vec<u8> {
    let read = Request::Read {
        fid,
        offset,
        count: 4000,
    };
    let Ok(Reply::Read { data }) = raw.call(&read) else {
        panic!("{:?}", raw.reply());
    };
    data.bytes().collect()
}

#[test]
fn our_own_server_in_memory() {
    for lane_count in [1, 3] {
        let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
        server.borrow_mut().put("dir/file", CONTENT);
        let serving = server.clone();
        let options = LaneOptions {
            lanes: lane_count,
            ..LaneOptions::default()
        };
        let (transport, control) =
            lanes(options, move |request| serving.borrow_mut().handle(request));
        tour_of_linux(transport, b"");
        assert_eq!(
            server.borrow().get("dir/file").unwrap(),
            [CONTENT, b" and"].concat()
        );
        assert_eq!(server.borrow().fids(), 0);
        assert_eq!(control.reserved(), 0);
        assert!(control.is_closed());
        assert_eq!(control.count(kind::TWALK), 3);
    }
}

#[test]
fn our_own_engine_in_every_dialect() {
    for dialect in Dialect::ALL {
        let engine = Engine::new(&MemOptions {
            dialects: vec![dialect],
            ..MemOptions::default()
        });
        let tree = engine.tree.clone();
        tree.put("dir/file", CONTENT);
        let engine = Rc::new(RefCell::new(engine));
        let serving = engine.clone();
        let (transport, control) = lanes(LaneOptions::default(), move |request| {
            serving.borrow_mut().handle(request)
        });
        match dialect {
            Dialect::Linux => tour_of_linux(transport, b""),
            _ => tour_of_the_classics(transport, dialect),
        }
        assert_eq!(tree.get("dir/file").unwrap(), [CONTENT, b" and"].concat());
        assert!(control.is_closed());
        let usage = engine.borrow().server.usage();
        // The classics leave their root attached.
        let left = usize::from(dialect != Dialect::Linux);
        assert_eq!(
            (usage.fids, usage.places, usage.open_files),
            (left, left, 0)
        );
        assert_eq!((usage.requests, usage.bytes_in_flight), (0, 0));
        engine.borrow_mut().close();
        drop((engine, control));
        assert_eq!(tree.held(), 0);
    }
}

/// A directory of this machine with what the tours expect, and a check of what they leave.
struct Export(TempDir);

impl Export {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        fs::write(dir.path().join("dir/file"), CONTENT).unwrap();
        Export(dir)
    }

    fn check(&self) {
        let written = fs::read(self.0.path().join("dir/file")).unwrap();
        assert_eq!(written, [CONTENT, b" and"].concat());
    }
}

/// The same tour in 9P2000 or 9P2000.u.
fn tour_of_the_classics<T: Transport>(transport: T, dialect: Dialect) {
    let mut raw = Raw::new(transport, dialect);
    attach(&mut raw, b"");
    let (dir, file) = (Fid(1), Fid(2));

    let walk = Request::Walk {
        fid: ROOT,
        newfid: file,
        names: names(&[b"dir", b"file"]),
    };
    assert!(raw.call(&walk).is_ok());
    let Ok(Reply::Stat { stat }) = raw.call(&Request::Stat { fid: file }) else {
        panic!("{:?}", raw.reply());
    };
    assert_eq!(
        (stat.name, stat.length),
        (&b"file"[..], CONTENT.len() as u64)
    );
    assert!(!stat.mode.contains(DirMode::DIR));

    let mode = OpenMode::READ_WRITE;
    let Ok(Reply::Open { .. }) = raw.call(&Request::Open { fid: file, mode }) else {
        panic!("{:?}", raw.reply());
    };
    assert_eq!(read(&mut raw, file, 4), CONTENT[4..]);
    let write = Request::Write {
        fid: file,
        offset: CONTENT.len() as u64,
        data: Payload(b" an", b"d"),
    };
    assert_eq!(raw.call(&write), Ok(Reply::Write { count: 4 }));
    assert_eq!(raw.call(&Request::Clunk { fid: file }), Ok(Reply::Clunk));

    let walk = Request::Walk {
        fid: ROOT,
        newfid: dir,
        names: names(&[b"dir"]),
    };
    assert!(raw.call(&walk).is_ok());
    let mode = OpenMode::empty();
    assert!(raw.call(&Request::Open { fid: dir, mode }).is_ok());
    let data = read(&mut raw, dir, 0);
    assert_eq!(StatLayout::of(&data, dialect), StatLayout::Packed);
    let stats: Vec<_> = StatEntries::new(&data, dialect, StatLayout::Packed)
        .map(Result::unwrap)
        .collect();
    let mut found: Vec<_> = stats.iter().map(|stat| stat.name).collect();
    found.retain(|name| ![&b"."[..], b".."].contains(name));
    assert_eq!(found, [b"file"]);

    let walk = Request::Walk {
        fid: ROOT,
        newfid: file,
        names: names(&[b"nowhere"]),
    };
    assert_eq!(raw.call(&walk), Err(Errno::ENOENT));
    assert_eq!(raw.call(&Request::Clunk { fid: dir }), Ok(Reply::Clunk));
    raw.transport.close();
}

#[test]
fn the_crate_p9() {
    let export = Export::new();
    tour_of_linux(p9(export.0.path()).unwrap(), b"");
    export.check();
}

#[test]
fn diod_of_debian() {
    let export = Export::new();
    let Some(transport) = diod(export.0.path()).unwrap() else {
        return;
    };
    tour_of_linux(transport, export.0.path().as_os_str().as_encoded_bytes());
    export.check();
}

#[test]
fn our_own_daemon() {
    for dialect in Dialect::ALL {
        let export = Export::new();
        let Some(transport) = xen9pd(export.0.path()).unwrap() else {
            return;
        };
        match dialect {
            Dialect::Linux => tour_of_linux(transport, b""),
            _ => tour_of_the_classics(transport, dialect),
        }
        export.check();
    }
}

#[test]
fn qemu_of_debian() {
    for security_model in ["none", "mapped-xattr"] {
        let options = QemuOptions {
            security_model,
            ..QemuOptions::default()
        };
        let export = Export::new();
        let Some(transport) = qemu(export.0.path(), options).unwrap() else {
            return;
        };
        tour_of_linux(transport, b"");
        export.check();

        let export = Export::new();
        let transport = qemu(export.0.path(), options).unwrap().expect("just there");
        tour_of_the_classics(transport, Dialect::Unix);
        export.check();
    }
}

#[test]
fn the_crate_ninep() {
    let export = Export::new();
    tour_of_the_classics(ninep(export.0.path()).unwrap(), Dialect::Plan9);
    export.check();
}

#[test]
fn qemu_works_on_many_requests_at_once() {
    let options = QemuOptions {
        slots: 8,
        msize: 1 << 16,
        ..QemuOptions::default()
    };
    let export = Export::new();
    let Some(transport) = qemu(export.0.path(), options).unwrap() else {
        return;
    };
    let mut raw = Raw::new(transport, Dialect::Linux);
    attach(&mut raw, b"");
    let file = Fid(2);
    let walk = Request::Walk {
        fid: ROOT,
        newfid: file,
        names: names(&[b"dir", b"file"]),
    };
    assert!(raw.call(&walk).is_ok());
    let flags = OpenFlags::empty();
    assert!(raw.call(&Request::Lopen { fid: file, flags }).is_ok());
    for round in 0..20 {
        let read = |offset| Request::Read {
            fid: file,
            offset,
            count: 1,
        };
        let mut sent: Vec<_> = (0..8).map(|at| raw.send(&read(at))).collect();
        assert_eq!(
            raw.transport.has_room(Lane(0), 23, 12),
            Ok(false),
            "{round}"
        );
        let first = sent[0].0;
        while !sent.is_empty() {
            let tag = raw.receive(Lane(0));
            let at = sent
                .iter()
                .position(|sent| *sent == tag)
                .expect("one of ours, once");
            sent.remove(at);
            let Reply::Read { data } = raw.reply() else {
                panic!("{:?}", raw.reply());
            };
            assert_eq!(
                data,
                Payload::from(&CONTENT[usize::from(tag.0 - first)..][..1])
            );
        }
    }
}

#[test]
fn qemu_exports_read_only() {
    let options = QemuOptions {
        read_only: true,
        ..QemuOptions::default()
    };
    let export = Export::new();
    let Some(transport) = qemu(export.0.path(), options).unwrap() else {
        return;
    };
    let mut raw = Raw::new(transport, Dialect::Linux);
    attach(&mut raw, b"");
    let mkdir = Request::Mkdir {
        dfid: ROOT,
        name: b"new",
        mode: 0o755,
        gid: 0,
    };
    assert_eq!(raw.call(&mkdir), Err(Errno::EROFS));
}

#[test]
fn a_server_that_goes_is_noticed_once_its_last_words_are_read() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut socket = Socket::new(ours, 4096, ());
    let lane = Lane(0);
    assert_eq!(socket.peek(lane), Ok(None));
    theirs
        .write_all(&[7, 0, 0, 0, kind::RCLUNK, 1, 0, 9])
        .unwrap();
    drop(theirs);
    let deadline = socket.now() + Duration::from_secs(20);
    socket.wait(deadline).unwrap();
    assert!(matches!(socket.peek(lane), Ok(Some(header)) if header.kind == kind::RCLUNK));
    socket.consume(lane);
    assert!(matches!(socket.peek(lane), Err(TransportError::Lost(_))));
    assert!(matches!(
        socket.wait(deadline),
        Err(TransportError::Lost(_))
    ));
}

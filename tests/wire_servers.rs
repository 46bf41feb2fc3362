//! The codec against servers, one request at a time: what they send can be read, and what we send
//! they understand.

use std::cell::RefCell;
use std::rc::Rc;

use xen9p::errno::Errno;
use xen9p::p9::wire::*;
use xen9p::transport::Transport;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::raw::Raw;

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

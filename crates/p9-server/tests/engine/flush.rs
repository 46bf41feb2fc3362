//! Replies in any order, and requests that are taken back.

use p9_wire::*;

use crate::peer::{ROOT, linux, message, names, tree};

const FILE: Fid = Fid(1);

const GETATTR: Request<'_> = Request::Getattr {
    fid: ROOT,
    mask: AttrMask::BASIC,
};

fn flush(oldtag: u16) -> Request<'static> {
    let oldtag = Tag(oldtag);
    Request::Flush { oldtag }
}

#[test]
fn replies_come_in_the_order_in_which_jobs_end() {
    let mut peer = linux(&tree());
    let jobs: Vec<_> = (1..=5).map(|tag| peer.begin(tag, &GETATTR)).collect();
    assert_eq!(peer.server.usage().requests, 5);
    for job in jobs.into_iter().rev() {
        let tag = job.tag();
        assert_eq!(peer.end(job).unwrap().0, tag);
    }
    assert_eq!(peer.server.usage().requests, 0);
}

#[test]
fn rflush_comes_after_the_reply_to_what_was_flushed() {
    let mut peer = linux(&tree());
    let slow = peer.begin(1, &GETATTR);
    let ticket = slow.ticket().unwrap();
    assert!(!peer.server.is_flushed(ticket));
    let first = peer.begin(2, &flush(1));
    assert!(peer.server.is_flushed(ticket));
    let second = peer.begin(3, &flush(1));
    // Its job is done, its turn has not come.
    assert!(peer.end(second).is_none());
    assert!(peer.end(first).is_none());
    assert_eq!(peer.flushed(), None);
    assert_eq!(peer.server.usage().requests, 3);
    assert_eq!(peer.end(slow).unwrap().0, Tag(1));
    // In the order in which they came, each to its lane.
    assert_eq!(peer.flushed(), Some((Tag(2), 2)));
    assert_eq!(peer.flushed(), Some((Tag(3), 3)));
    assert_eq!(peer.flushed(), None);
    assert_eq!(peer.server.usage().requests, 0);
}

#[test]
fn rflush_comes_instead_of_a_reply_to_what_was_abandoned() {
    let tree = tree();
    let mut peer = linux(&tree);
    let walk = Request::Walk {
        fid: ROOT,
        newfid: FILE,
        names: names(&[b"dir", b"file"]),
    };
    let slow = peer.begin(1, &walk);
    let ticket = slow.ticket().unwrap();
    let flush = peer.begin(2, &flush(1));
    assert!(peer.end(flush).is_none());
    drop(slow);
    peer.server.abandon(ticket);
    assert_eq!(peer.flushed(), Some((Tag(2), 2)));
    // Nothing is left of it: the fid is free, and so is what was held for it.
    assert_eq!(peer.server.usage().fids, 1);
    assert_eq!(peer.server.usage().places, 1);
    assert_eq!(peer.walk(ROOT, FILE, &[b"dir"]), Ok(1));
    // A caller that completes it nevertheless gets no reply.
    peer.server.abandon(ticket);
    assert_eq!(peer.server.usage().requests, 0);
}

#[test]
fn flush_of_nothing_of_itself_and_of_a_flush() {
    let mut peer = linux(&tree());
    let oldtag = Tag(77);
    assert_eq!(peer.call(&Request::Flush { oldtag }), Ok(Reply::Flush));
    let own = peer.begin(9, &flush(9));
    assert_eq!(peer.end(own), Some((Tag(9), Reply::Flush)));
    let slow = peer.begin(1, &GETATTR);
    let first = peer.begin(2, &flush(1));
    let second = peer.begin(3, &flush(2));
    assert!(peer.end(first).is_none());
    assert!(peer.end(second).is_none());
    assert!(peer.end(slow).is_some());
    assert_eq!(peer.flushed(), Some((Tag(2), 2)));
    assert_eq!(peer.flushed(), Some((Tag(3), 3)));
    assert_eq!(peer.flushed(), None);
}

#[test]
fn a_flush_whose_job_is_late_is_answered_when_it_ends() {
    let mut peer = linux(&tree());
    let slow = peer.begin(1, &GETATTR);
    let flush = peer.begin(2, &flush(1));
    assert!(peer.end(slow).is_some());
    assert_eq!(peer.flushed(), None);
    assert_eq!(peer.end(flush), Some((Tag(2), Reply::Flush)));
}

#[test]
fn a_request_waits_for_the_one_that_gives_its_fid_a_meaning() {
    let mut peer = linux(&tree());
    let walk = Request::Walk {
        fid: ROOT,
        newfid: FILE,
        names: names(&[b"dir", b"file"]),
    };
    let flags = OpenFlags::empty();
    let read = Request::Read {
        fid: FILE,
        offset: 0,
        count: 100,
    };
    let walk = peer.begin(1, &walk);
    let open = peer.begin(2, &Request::Lopen { fid: FILE, flags });
    let read = peer.begin(3, &read);
    assert!(!walk.is_waiting() && open.is_waiting() && read.is_waiting());
    let open = peer.server.retry(open).unwrap();
    assert!(open.is_waiting());
    assert!(peer.end(walk).is_some());
    let open = peer.server.retry(open).unwrap();
    let read = peer.server.retry(read).unwrap();
    // It is busy once more.
    assert!(!open.is_waiting() && read.is_waiting());
    assert!(matches!(
        peer.end(open),
        Some((Tag(2), Reply::Lopen { .. }))
    ));
    let read = peer.server.retry(read).unwrap();
    let Some((Tag(3), Reply::Read { data })) = peer.end(read) else {
        panic!("not read");
    };
    assert_eq!(data, Payload::from(&b"content"[..]));
}

#[test]
fn a_front_end_that_does_not_wait_gets_an_error() {
    let mut peer = linux(&tree());
    let walk = Request::Walk {
        fid: ROOT,
        newfid: FILE,
        names: names(&[b"dir"]),
    };
    let walk = peer.begin(1, &walk);
    let clunk = peer.begin(2, &Request::Clunk { fid: FILE });
    let (_, reply) = peer.end(clunk).unwrap();
    assert_eq!(reply.errno(), Some(Errno::EBUSY));
    assert!(peer.end(walk).is_some());
    assert_eq!(peer.clunk(FILE), Ok(()));
}

#[test]
fn what_waits_is_flushed_at_once() {
    let mut peer = linux(&tree());
    let walk = Request::Walk {
        fid: ROOT,
        newfid: FILE,
        names: names(&[b"dir"]),
    };
    let walk = peer.begin(1, &walk);
    let clunk = peer.begin(2, &Request::Clunk { fid: FILE });
    let flush = peer.begin(3, &flush(2));
    assert_eq!(peer.end(flush), Some((Tag(3), Reply::Flush)));
    assert!(peer.end(walk).is_some());
    assert!(peer.server.retry(clunk).is_none());
    assert_eq!(peer.server.usage().requests, 0);
    // It did not come to pass.
    assert_eq!(peer.clunk(FILE), Ok(()));
}

#[test]
fn a_tag_in_use_is_refused_and_the_first_request_goes_on() {
    let mut peer = linux(&tree());
    let first = peer.begin(1, &GETATTR);
    let second = peer.begin(1, &Request::Clunk { fid: ROOT });
    assert_eq!(second.ticket(), None);
    let (tag, reply) = peer.end(second).unwrap();
    assert_eq!((tag, reply.errno()), (Tag(1), Some(Errno::EINVAL)));
    assert!(matches!(peer.end(first), Some((_, Reply::Getattr { .. }))));
    assert_eq!(peer.server.usage().requests, 0);
}

#[test]
fn a_new_session_ends_what_is_under_way() {
    let tree = tree();
    let mut peer = linux(&tree);
    peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
    let open = peer.begin(
        1,
        &Request::Lopen {
            fid: FILE,
            flags: OpenFlags::READ_WRITE,
        },
    );
    let flush = peer.begin(2, &flush(1));
    assert!(peer.end(flush).is_none());
    let attr = peer.begin(3, &GETATTR);
    peer.version();
    let usage = peer.server.usage();
    assert_eq!((usage.fids, usage.places, usage.open_files), (0, 0, 0));
    // The tags are free already.
    assert!(peer.attach(ROOT, b"").is_ok());
    let again = peer.begin(1, &GETATTR);
    assert!(peer.end(again).is_some());
    assert!(peer.end(open).is_none());
    assert!(peer.end(attr).is_none());
    assert_eq!(peer.flushed(), None);
    assert_eq!(peer.server.usage().requests, 0);
    assert_eq!(peer.server.usage().open_files, 0);
    drop(peer);
    assert_eq!(tree.held(), 0);
}

#[test]
fn bulk_data_may_be_moved_by_the_front_end() {
    use p9_server::{OpenFile, Transfer};
    use xen9p_testing::server::mem::ready;

    let mut peer = linux(&tree());
    peer.walk(ROOT, FILE, &[b"dir", b"file"]).unwrap();
    peer.open(FILE, OpenFlags::READ_WRITE).unwrap();
    let read = Request::Read {
        fid: FILE,
        offset: 3,
        count: u32::MAX,
    };
    let job = peer.begin(1, &read);
    let mut data = [0; 100];
    let Some(Transfer::Read {
        file,
        offset,
        count,
    }) = job.transfer()
    else {
        panic!("no transfer");
    };
    assert_eq!(count, (1 << 16) - 11);
    let moved = ready(file.read(&mut data, offset)).unwrap();
    let mut head = [0; 32];
    let completion = peer.server.complete(job.transferred(Ok(moved)), &mut head);
    assert_eq!((completion.len(), completion.moved()), (11, 4));
    let whole = [&head[..11], &data[..4]].concat();
    let reply = Reply::decode(Reader::new(&whole, Dialect::Linux)).unwrap();
    let data = Payload::from(&b"tent"[..]);
    assert_eq!(reply, (Tag(1), Reply::Read { data }));

    // More than was asked for would be a reply that is too large.
    let job = peer.begin(2, &read);
    let completion = peer
        .server
        .complete(job.transferred(Ok(1 << 20)), &mut head);
    assert_eq!((completion.len(), completion.moved()), (11, 0));

    // A write of which only the head is here.
    let write = Request::Write {
        fid: FILE,
        offset: 0,
        data: Payload::from(&b"CON"[..]),
    };
    let bytes = message(&write, Tag(3), Dialect::Linux);
    let head: &[u8; 23] = bytes.first_chunk().unwrap();
    let job = peer.server.accept_write(0, head).unwrap();
    assert!(job.needs_data());
    let Some(Transfer::Write {
        file,
        offset: 0,
        count: 3,
    }) = job.transfer()
    else {
        panic!("no transfer");
    };
    let written = ready(file.write(b"CON", 0));
    let done = job.transferred(written.map_err(p9_tree::Error::errno));
    assert_eq!(peer.finish(done), Some((Tag(3), Reply::Write { count: 3 })));
    // Or the data comes later, in two pieces.
    let job = peer.server.accept_write(0, head).unwrap();
    assert_eq!(peer.end(job).unwrap().1.errno(), Some(Errno::EIO));
    let job = peer.server.accept_write(0, head).unwrap();
    let job = job.with_data(Payload(b"c", b"on"));
    assert!(!job.needs_data());
    assert_eq!(peer.end(job), Some((Tag(3), Reply::Write { count: 3 })));
    assert_eq!(peer.read(FILE, 0, 100).unwrap(), b"content");
    // A head that lies about its size.
    let mut lie = *head;
    lie[0] += 1;
    assert!(peer.server.accept_write(0, &lie).is_err());
}

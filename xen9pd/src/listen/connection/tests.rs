//! Two requests on one connection, of which the first takes long.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use p9_server::{Exports, Rights};
use p9_tree::{Created, Node, OpenFile, Result};
use p9_wire::{
    Attr, AttrMask, Dialect, DirEntry, Errno, Fid, Names, OpenFlags, Qid, QidKind, Reader, Reply,
    Request, Tag,
};

use super::*;

/// What is waited for comes much sooner, or never.
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));

/// Where an fsync waits: it says that it is there, and goes on when its sender is dropped.
struct Gate(Mutex<Sender<Sender<()>>>);

/// A directory in which each name is a file that takes long to sync.
#[derive(Clone)]
struct Slow {
    gate: Arc<Gate>,
    is_root: bool,
}

struct SlowFile(Slow);

impl Node for Slow {
    type File = SlowFile;

    fn qid(&self) -> Qid {
        Qid {
            kind: match self.is_root {
                true => QidKind::DIR,
                false => QidKind::empty(),
            },
            version: 0,
            path: self.is_root.into(),
        }
    }

    async fn walk(&self, _: &[u8]) -> Result<Self> {
        Ok(Slow {
            gate: self.gate.clone(),
            is_root: false,
        })
    }

    async fn getattr(&self, _: AttrMask) -> Result<Attr> {
        Ok(Attr::default())
    }

    async fn open(&self, _: OpenFlags) -> Result<SlowFile> {
        Ok(SlowFile(self.clone()))
    }

    async fn create(&self, _: &[u8], _: OpenFlags, _: u32, _: u32) -> Result<Created<Self>> {
        Err(Errno::EROFS.into())
    }
}

impl OpenFile for SlowFile {
    async fn read(&self, _: &mut [u8], _: u64) -> Result<usize> {
        Ok(0)
    }

    async fn readdir(&self, _: u64, _: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<()> {
        Ok(())
    }

    async fn fsync(&self, _: bool) -> Result<()> {
        let (release, released) = channel::<()>();
        lock(&self.0.gate.0).send(release).expect("a test");
        released.recv().expect_err("nothing is sent");
        Ok(())
    }
}

/// A peer that has opened a file as fid 1.
struct Peer {
    stream: UnixStream,
    entered: Receiver<Sender<()>>,
    server: JoinHandle<io::Result<()>>,
}

impl Peer {
    fn new() -> Peer {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(TIMEOUT).unwrap();
        let (enter, entered) = channel();
        let root = Slow {
            gate: Arc::new(Gate(Mutex::new(enter))),
            is_root: true,
        };
        let exports = Exports::new(root, Rights::ReadWrite);
        let server = thread::spawn(|| serve(Stream::Unix(other), exports));
        let mut peer = Peer {
            stream,
            entered,
            server,
        };
        let version = Dialect::Linux.version().as_bytes();
        let (fid, newfid, afid) = (Fid(0), Fid(1), Fid::NONE);
        peer.call(&Request::Version {
            msize: 8192,
            version,
        });
        peer.call(&Request::Attach {
            fid,
            afid,
            uname: b"",
            aname: b"",
            n_uname: 0,
        });
        let names = Names::from_slice(&[b"file"]).unwrap();
        peer.call(&Request::Walk { fid, newfid, names });
        let flags = OpenFlags::empty();
        peer.call(&Request::Lopen { fid: newfid, flags });
        peer
    }

    fn send(&mut self, tag: u16, request: &Request<'_>) {
        let mut message = [0; 256];
        let len = request.encode(Tag(tag), Dialect::Linux, &mut message);
        self.stream.write_all(&message[..len.unwrap()]).unwrap();
    }

    /// The tag of the next reply, and whether it is an error.
    fn reply(&mut self) -> (u16, Option<Errno>) {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).unwrap();
        let mut message = vec![0; u32::from_le_bytes(size) as usize];
        message[..4].copy_from_slice(&size);
        self.stream.read_exact(&mut message[4..]).unwrap();
        let (tag, reply) = Reply::decode(Reader::new(&message, Dialect::Linux)).unwrap();
        (tag.0, reply.errno())
    }

    fn call(&mut self, request: &Request<'_>) {
        self.send(7, request);
        assert_eq!(self.reply(), (7, None));
    }

    /// The gate of the next fsync that is under way.
    fn gate(&mut self) -> Sender<()> {
        self.entered.recv_timeout(TIMEOUT.unwrap()).unwrap()
    }
}

const FSYNC: Request<'_> = Request::Fsync {
    fid: Fid(1),
    datasync: 0,
};

const GETATTR: Request<'_> = Request::Getattr {
    fid: Fid(1),
    mask: AttrMask::BASIC,
};

#[test]
fn a_slow_request_does_not_hold_a_quick_one_and_is_answered_before_its_flush() {
    let mut peer = Peer::new();
    peer.send(1, &FSYNC);
    let gate = peer.gate();
    peer.call(&GETATTR);
    // Its Rflush has to wait for it; who comes behind that has not.
    peer.send(2, &Request::Flush { oldtag: Tag(1) });
    peer.call(&GETATTR);
    drop(gate);
    assert_eq!(peer.reply(), (1, None));
    assert_eq!(peer.reply(), (2, None));
    peer.call(&GETATTR);
    drop(peer.stream);
    peer.server.join().unwrap().unwrap();
}

#[test]
fn as_many_slow_requests_as_are_done_apart_hold_none_and_one_more_waits() {
    let mut peer = Peer::new();
    let most = MAX_APART as u16;
    let mut gates = Vec::new();
    for tag in 0..most {
        peer.send(100 + tag, &FSYNC);
        gates.push(peer.gate());
        peer.call(&GETATTR);
    }
    // The thread that reads does this one itself.
    peer.send(200, &FSYNC);
    let last = peer.gate();
    peer.send(8, &GETATTR);
    gates.clear();
    let mut first: Vec<_> = (0..most).map(|_| peer.reply().0).collect();
    first.sort_unstable();
    assert!(first.into_iter().eq(100..100 + most));
    drop(last);
    assert_eq!([peer.reply().0, peer.reply().0], [200, 8]);
    // Threads that are free again take over.
    peer.send(9, &FSYNC);
    let gate = peer.gate();
    peer.call(&GETATTR);
    // The end of the requests does not cut off the reply to one that is under way.
    peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(gate);
    assert_eq!(peer.reply(), (9, None));
    peer.server.join().unwrap().unwrap();
}

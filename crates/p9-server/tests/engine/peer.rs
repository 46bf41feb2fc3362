//! The other end of a server: says what a client may say, and things that none would.

use p9_server::{Done, Exports, Job, Limits, Policy, Rights, Server};
use p9_wire::*;
use xen9p_testing::server::mem::{MemNode, MemTree, ready};

pub const ROOT: Fid = Fid(0);

/// A server and what it last said.
pub struct Peer<P: Policy = Exports<MemNode>> {
    pub server: Server<P>,
    pub dialect: Dialect,
    tag: u16,
    buffer: Vec<u8>,
    len: usize,
}

/// A tree with `dir/file` ("content") and `dir/sub/deep`.
pub fn tree() -> MemTree {
    let tree = MemTree::new();
    tree.put("dir/file", b"content");
    tree.put("dir/sub/deep", b"deep down");
    tree
}

/// A server of such a tree that is attached to as [`ROOT`].
pub fn attached(tree: &MemTree, dialect: Dialect, rights: Rights, limits: Limits) -> Peer {
    let exports = Exports::new(tree.root(), rights);
    let mut peer = Peer::new(Server::new(exports, limits), dialect);
    peer.version();
    peer.attach(ROOT, b"").unwrap();
    peer
}

pub fn linux(tree: &MemTree) -> Peer {
    attached(tree, Dialect::Linux, Rights::ReadWrite, Limits::default())
}

pub fn names<'a>(names: &[&'a [u8]]) -> Names<'a> {
    Names::from_slice(names).unwrap()
}

/// A request as bytes that live as long as the test.
pub fn message(request: &Request<'_>, tag: Tag, dialect: Dialect) -> &'static [u8] {
    let mut bytes = vec![0; 200_000];
    let len = request.encode(tag, dialect, &mut bytes).unwrap();
    bytes.truncate(len);
    Vec::leak(bytes)
}

impl<P: Policy> Peer<P> {
    pub fn new(server: Server<P>, dialect: Dialect) -> Self {
        Peer {
            server,
            dialect,
            tag: 0,
            buffer: vec![0; 1 << 16],
            len: 0,
        }
    }

    pub fn version(&mut self) {
        let version = self.dialect.version().as_bytes();
        let asked = Request::Version {
            msize: 1 << 16,
            version,
        };
        let answer = self.call(&asked);
        assert!(
            matches!(answer, Ok(Reply::Version { version: got, .. }) if got == version),
            "{answer:?}"
        );
    }

    /// Sends a request and takes in its reply; an error reply is an error.
    pub fn call(&mut self, request: &Request<'_>) -> Result<Reply<'_>, Errno> {
        self.tag = (self.tag + 1) % 1000;
        let tag = Tag(self.tag);
        let message = message(request, tag, self.dialect);
        let job = self.server.accept(0, message).unwrap();
        let done = ready(job.run(&mut self.buffer));
        let reply = self.finish(done).expect("a reply");
        assert_eq!(reply.0, tag);
        match reply.1.errno() {
            Some(errno) => Err(errno),
            None => Ok(reply.1),
        }
    }

    /// Hands a request to the server; what comes of it is for later.
    pub fn begin(&mut self, tag: u16, request: &Request<'_>) -> Job<'static, P::Node> {
        let message = message(request, Tag(tag), self.dialect);
        self.server.accept(u32::from(tag), message).unwrap()
    }

    /// Runs a job, completes it and takes in the reply, if there is one.
    pub fn end(&mut self, job: Job<'_, P::Node>) -> Option<(Tag, Reply<'_>)> {
        let done = ready(job.run(&mut self.buffer));
        self.finish(done)
    }

    pub fn finish(&mut self, done: Done<'_, P::Node>) -> Option<(Tag, Reply<'_>)> {
        let completion = self.server.complete(done, &mut self.buffer);
        assert_eq!(completion.moved(), 0);
        assert!(completion.len() <= self.server.msize() as usize);
        self.len = completion.len();
        (self.len > 0).then(|| self.reply())
    }

    /// The tag and lane of the next Rflush that is due.
    pub fn flushed(&mut self) -> Option<(Tag, u32)> {
        let flushed = self.server.next_flush(&mut self.buffer)?;
        self.len = flushed.len;
        let (tag, reply) = self.reply();
        assert_eq!(reply, Reply::Flush);
        Some((tag, flushed.lane))
    }

    fn reply(&self) -> (Tag, Reply<'_>) {
        let bytes = &self.buffer[..self.len];
        let decoded = Reply::decode(Reader::new(bytes, self.dialect));
        decoded.unwrap_or_else(|e| panic!("{e}: {bytes:02x?}"))
    }

    pub fn attach(&mut self, fid: Fid, aname: &[u8]) -> Result<Qid, Errno> {
        let attach = Request::Attach {
            fid,
            afid: Fid::NONE,
            uname: b"root",
            aname,
            n_uname: 0,
        };
        match self.call(&attach)? {
            Reply::Attach { qid } => Ok(qid),
            other => panic!("{other:?}"),
        }
    }

    pub fn walk(&mut self, fid: Fid, newfid: Fid, way: &[&[u8]]) -> Result<usize, Errno> {
        let names = names(way);
        match self.call(&Request::Walk { fid, newfid, names })? {
            Reply::Walk { qids } => Ok(qids.len()),
            other => panic!("{other:?}"),
        }
    }

    pub fn open(&mut self, fid: Fid, flags: OpenFlags) -> Result<(), Errno> {
        self.call(&Request::Lopen { fid, flags }).map(drop)
    }

    pub fn clunk(&mut self, fid: Fid) -> Result<(), Errno> {
        self.call(&Request::Clunk { fid }).map(drop)
    }

    pub fn read(&mut self, fid: Fid, offset: u64, count: u32) -> Result<Vec<u8>, Errno> {
        match self.call(&Request::Read { fid, offset, count })? {
            Reply::Read { data } => Ok(data.bytes().collect()),
            other => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, fid: Fid, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let data = Payload::from(data);
        match self.call(&Request::Write { fid, offset, data })? {
            Reply::Write { count } => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub fn path(&mut self, fid: Fid) -> u64 {
        let mask = AttrMask::BASIC;
        match self.call(&Request::Getattr { fid, mask }) {
            Ok(Reply::Getattr { attr }) => attr.qid.path,
            other => panic!("{other:?}"),
        }
    }
}

//! One request at a time, without a session: what the servers and transports are tried with.

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::p9::wire::*;
use xen9p::transport::{Lane, Transport};

/// No server takes longer than this.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// A conversation of which nothing is known but the dialect.
pub struct Raw<T> {
    pub transport: T,
    pub dialect: Dialect,
    msize: u32,
    tag: Tag,
    reply: Vec<u8>,
}

impl<T: Transport> Raw<T> {
    /// Starts a conversation; panics if the server doesn't take the dialect.
    pub fn new(transport: T, dialect: Dialect) -> Self {
        let msize = transport.max_message();
        let mut raw = Raw {
            transport,
            dialect,
            msize,
            tag: Tag::NONE,
            reply: Vec::new(),
        };
        let version = dialect.version().as_bytes();
        match raw.call(&Request::Version { msize, version }) {
            Ok(Reply::Version { version: got, .. }) if got == version => (),
            other => panic!("{dialect} was answered {other:?}"),
        }
        raw.tag = Tag(0);
        raw
    }

    /// Sends a request and waits for its reply; an error reply is an error.
    pub fn call(&mut self, request: &Request<'_>) -> Result<Reply<'_>, Errno> {
        let tag = self.send(request);
        let got = self.receive(Lane(tag.0 % self.transport.lanes()));
        assert_eq!(got, tag, "reply to {request:?}");
        let room = request.max_reply(self.dialect, self.msize);
        self.transport
            .release(Lane(tag.0 % self.transport.lanes()), room);
        let (_, reply) = decode(&self.reply, self.dialect);
        assert!(
            self.reply.len() <= room as usize,
            "{} bytes for {request:?}",
            self.reply.len()
        );
        match reply.errno() {
            Some(errno) => Err(errno),
            None => {
                assert_eq!(reply.kind(), request.kind() + 1);
                Ok(reply)
            }
        }
    }

    /// Sends a request without waiting; returns its tag.
    pub fn send(&mut self, request: &Request<'_>) -> Tag {
        let tag = self.tag;
        if tag != Tag::NONE {
            self.tag = Tag((tag.0 + 1) % 1000);
        }
        let mut head = vec![0; 70_000];
        let len = request
            .encode_head(tag, self.dialect, &mut head)
            .expect("well-formed");
        let Payload(first, second) = request.payload();
        let lane = Lane(tag.0 % self.transport.lanes());
        let room = request.max_reply(self.dialect, self.msize);
        let sent = self
            .transport
            .send(lane, &[&head[..len], first, second], room);
        assert_eq!(sent, Ok(true));
        self.transport.flush().expect("alive");
        tag
    }

    /// Waits for a reply on `lane`; returns its tag. It is then in [`reply`](Self::reply).
    pub fn receive(&mut self, lane: Lane) -> Tag {
        let deadline = self.transport.now() + REPLY_TIMEOUT;
        let header = loop {
            if let Some(header) = self.transport.peek(lane).expect("alive") {
                break header;
            }
            assert!(self.transport.now() < deadline, "no reply");
            self.transport.wait(deadline).expect("alive");
        };
        self.reply.resize(header.size as usize, 0);
        self.transport.copy_out(lane, 0, &mut self.reply);
        self.transport.consume(lane);
        self.transport.flush().expect("alive");
        Tag(header.tag)
    }

    /// The last reply received.
    pub fn reply(&self) -> Reply<'_> {
        decode(&self.reply, self.dialect).1
    }
}

fn decode(bytes: &[u8], dialect: Dialect) -> (Tag, Reply<'_>) {
    Reply::decode(Reader::new(bytes, dialect)).unwrap_or_else(|e| panic!("{e}: {bytes:02x?}"))
}

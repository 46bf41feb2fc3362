//! A tree in memory, mounted as all others are: by a connection to a server that is in here, too.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use xen9p::server::{Exports, Frames, Limits, Rights, Server, Violation};
use xen9p::time::Instant;
use xen9p::transport::TransportError;
use xen9p::transport::stream::{ByteStream, Framed};
use xen9p::tree::trees::{MemNode, MemTree};
use xen9p::tree::{NeverWaits, block_on};
use xen9p::xen::Xen;

use crate::mount::connect::Connected;
use crate::platform::{self, Kernel, known_memory};

/// What such a tree is called when it is mounted.
pub(crate) const NAME: &str = "#mem";

/// What its files may take, as a share of the kernel's memory.
const SHARE: usize = 8;

/// The largest message.
const MESSAGE: u32 = 64 << 10;

/// The way to the server, which answers at once.
struct Loop {
    xen: Xen<Kernel>,
    server: Server<Exports<MemNode>>,
    requests: Frames,
    /// Where a reply is made, and which of its bytes were not read yet.
    reply: Vec<u8>,
    unread: core::ops::Range<usize>,
}

/// How the connection ends if memory is short.
const NO_MEMORY: TransportError = TransportError::Lost(&"there is no memory for a message");

fn broken(_: Violation) -> TransportError {
    TransportError::Violation(&"the server in here was sent no 9P")
}

impl Loop {
    /// Whether a whole request waits.
    fn has_request(&self) -> Result<bool, TransportError> {
        let next = self.requests.next(self.server.msize()).map_err(broken)?;
        Ok(next.is_some())
    }

    /// Answers the next request, if there is one and the reply to the last was read.
    fn answer(&mut self) -> Result<(), TransportError> {
        if !self.unread.is_empty() {
            return Ok(());
        }
        let next = self.requests.next(self.server.msize());
        let Some(message) = next.map_err(broken)? else {
            return Ok(());
        };
        let size = MESSAGE as usize;
        if self.reply.is_empty() {
            self.reply.try_reserve_exact(size).map_err(|_| NO_MEMORY)?;
            self.reply.resize(size, 0);
        }
        let job = self.server.accept(0, message).map_err(broken)?;
        let run = async { Ok(job.run(&mut self.reply).await) };
        let done = block_on(&NeverWaits, run);
        let done = done.map_err(|_| TransportError::Lost(&"the tree in memory waits"))?;
        let reply = self.server.complete(done, &mut self.reply);
        self.requests.done();
        self.unread = 0..reply.len();
        Ok(())
    }
}

impl ByteStream for Loop {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        self.answer()?;
        let count = self.unread.len().min(into.len());
        let from = &self.reply[self.unread.start..][..count];
        into[..count].copy_from_slice(from);
        self.unread.start += count;
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        self.answer()?;
        if self.has_request()? {
            // Until the reply to the one before it was read.
            return Ok(0);
        }
        let space = self.requests.space(self.server.msize());
        let space = space.map_err(|_| NO_MEMORY)?;
        let count = space.len().min(from.len());
        space[..count].copy_from_slice(&from[..count]);
        self.requests.filled(count);
        Ok(count)
    }

    fn now(&self) -> Instant {
        platform::now()
    }

    fn wait(&mut self, _: bool, deadline: Instant) -> Result<(), TransportError> {
        self.answer()?;
        let events = &self.xen.events;
        match self.unread.is_empty() {
            true => events.wait(events.generation(), deadline),
            false => {
                events.dispatch();
            }
        }
        Ok(())
    }

    fn close(&mut self) {}
}

/// A new tree.
pub(crate) fn connect(xen: Xen<Kernel>) -> Connected {
    let memory = known_memory();
    let tree = MemTree::with_limit(memory / SHARE);
    let mut limits = Limits::default();
    limits.msize = MESSAGE;
    let stream = Loop {
        xen,
        server: Server::new(Exports::new(tree.root(), Rights::ReadWrite), limits),
        requests: Frames::new(),
        reply: Vec::new(),
        unread: 0..0,
    };
    Connected {
        transport: Box::new(Framed::over(stream, MESSAGE)),
        // Its files are gone with it.
        again: Box::new(|| None),
        tree: String::new(),
        disconnect: true,
    }
}

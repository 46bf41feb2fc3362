//! The engine of the crate `p9-server`, doing one request after the other.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p9_server::{Exports, Limits, Rights, Server};

use super::MemOptions;
use super::node::{MemNode, MemTree};

/// A server of a [`MemTree`].
pub struct Engine {
    pub tree: MemTree,
    pub server: Server<Exports<MemNode>>,
    buffer: Vec<u8>,
}

impl Engine {
    /// A server of an empty tree.
    pub fn new(options: &MemOptions) -> Self {
        let io_limit = usize::try_from(options.io_limit).expect("32 bits");
        let tree = MemTree::with(io_limit, options.untyped_entries);
        let rights = match options.read_only {
            true => Rights::ReadOnly,
            false => Rights::ReadWrite,
        };
        let mut limits = Limits::default();
        limits.msize = options.msize;
        let server = Server::new(Exports::new(tree.root(), rights), limits);
        Engine {
            server: server.dialects(&options.dialects),
            tree,
            buffer: Vec::new(),
        }
    }

    /// Answers one request; not at all what is no message.
    pub fn handle(&mut self, request: &[u8]) -> Vec<u8> {
        let Ok(job) = self.server.accept(0, request) else {
            return Vec::new();
        };
        self.buffer.resize(self.server.msize() as usize, 0);
        let done = ready(job.run(&mut self.buffer));
        let completion = self.server.complete(done, &mut self.buffer);
        assert_eq!(completion.moved(), 0);
        assert_eq!(self.server.usage().requests, 0);
        self.buffer[..completion.len()].to_vec()
    }

    /// Ends the session, as when the client has gone.
    pub fn close(&mut self) {
        let done = ready(self.server.close().run(&mut []));
        assert!(self.server.complete(done, &mut []).is_empty());
    }
}

/// The result of a future that does not wait.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a tree in memory has nothing to wait for"),
    }
}

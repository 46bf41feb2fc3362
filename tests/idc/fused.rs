//! A stream that can be cut at any byte.

use std::cell::Cell;
use std::rc::Rc;

use xen9p::time::Instant;
use xen9p::transport::TransportError;
use xen9p::transport::stream::ByteStream;

/// How many bytes still go over the streams of one side before the one that there is breaks.
pub type Fuse = Rc<Cell<Option<usize>>>;

/// A stream that breaks when its fuse is burnt.
pub struct Fused<S> {
    stream: S,
    fuse: Fuse,
    dead: bool,
    /// Bytes read and written.
    pub bytes: u64,
}

const CUT: TransportError = TransportError::Lost(&"the test has cut it");

impl<S: ByteStream> Fused<S> {
    pub fn new(stream: S, fuse: &Fuse) -> Self {
        Fused {
            stream,
            fuse: fuse.clone(),
            dead: false,
            bytes: 0,
        }
    }

    /// What it goes over.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// How many of so many bytes may go.
    fn allowed(&mut self, wanted: usize) -> Result<usize, TransportError> {
        let left = self.fuse.get();
        if left == Some(0) {
            self.fuse.set(None);
            self.dead = true;
            self.stream.close();
        }
        match self.dead {
            true => Err(CUT),
            false => Ok(left.map_or(wanted, |left| wanted.min(left))),
        }
    }

    fn went(&mut self, count: usize) -> usize {
        if let Some(left) = self.fuse.get() {
            self.fuse.set(Some(left - count));
        }
        self.bytes += count as u64;
        count
    }
}

impl<S: ByteStream> ByteStream for Fused<S> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let most = self.allowed(into.len())?;
        let count = self.stream.read(&mut into[..most])?;
        Ok(self.went(count))
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        let most = self.allowed(from.len())?;
        let count = self.stream.write(&from[..most])?;
        Ok(self.went(count))
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.stream.flush()
    }

    fn now(&self) -> Instant {
        self.stream.now()
    }

    fn wait(&mut self, write: bool, deadline: Instant) -> Result<(), TransportError> {
        self.stream.wait(write, deadline)
    }

    fn close(&mut self) {
        self.stream.close();
    }
}

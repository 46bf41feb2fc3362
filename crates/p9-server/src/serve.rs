//! A peer on a stream, served one request after the other.

use alloc::vec::Vec;
use core::fmt;

use crate::export::Policy;
use crate::frame::Frames;
use crate::server::{Server, Violation};

/// A buffer for replies before the size of messages is agreed.
const FIRST_BUFFER: usize = 4096;

/// Why a peer is served no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeError<E> {
    /// The stream failed.
    Stream(E),
    /// What came is not 9P.
    Violation(Violation),
    /// No memory for the messages that were agreed.
    OutOfMemory,
}

impl<E: fmt::Display> fmt::Display for ServeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Stream(error) => error.fmt(f),
            ServeError::Violation(violation) => violation.fmt(f),
            ServeError::OutOfMemory => f.write_str("no memory for messages of the agreed size"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for ServeError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ServeError::Stream(error) => Some(error),
            ServeError::Violation(violation) => Some(violation),
            ServeError::OutOfMemory => None,
        }
    }
}

impl<E> From<Violation> for ServeError<E> {
    fn from(violation: Violation) -> Self {
        ServeError::Violation(violation)
    }
}

/// Serves the peer at the other end of a stream until the stream ends, one request after the other, and closes the session.
///
/// `read` puts bytes that have come into the buffer and says how many, at least one; 0: the end of the stream. `write`
/// sends all bytes.
///
/// # Blocking
/// Waits for the stream and the tree. With functions that block, on a tree that never waits, the future is ready at the first
/// poll.
///
/// # Errors
/// Those of the stream, and bytes that are no 9P.
pub async fn serve<P: Policy, E>(
    server: &mut Server<P>,
    read: impl AsyncFnMut(&mut [u8]) -> Result<usize, E>,
    write: impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), ServeError<E>> {
    let served = requests(server, read, write).await;
    let done = server.close().run(&mut []).await;
    let _ = server.complete(done, &mut []);
    served
}

async fn requests<P: Policy, E>(
    server: &mut Server<P>,
    mut read: impl AsyncFnMut(&mut [u8]) -> Result<usize, E>,
    mut write: impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), ServeError<E>> {
    let mut frames = Frames::new();
    let mut buffer = Vec::new();
    loop {
        while let Some(message) = frames.next(server.msize())? {
            let size = match server.dialect() {
                Some(_) => server.msize() as usize,
                None => FIRST_BUFFER,
            };
            if buffer.len() < size {
                let reserved = buffer.try_reserve_exact(size - buffer.len());
                reserved.map_err(|_| ServeError::OutOfMemory)?;
                buffer.resize(size, 0);
            }
            let job = server.accept(0, message)?;
            let done = job.run(&mut buffer).await;
            let reply = server.complete(done, &mut buffer);
            frames.done();
            let reply = buffer.get(..reply.len()).unwrap_or_default();
            write(reply).await.map_err(ServeError::Stream)?;
        }
        let space = frames.space(server.msize())?;
        match read(space).await.map_err(ServeError::Stream)? {
            0 => return Ok(()),
            count => frames.filled(count),
        }
    }
}

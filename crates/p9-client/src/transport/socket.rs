//! 9P over a stream socket of a host: one lane, bytes in both directions. Needs the feature `socket`, and std.
//!
//! ```
//! use p9_client::fs::{Fs, MountOptions};
//! use p9_client::transport::socket::Socket;
//!
//! /// Lists a directory of the server at an address such as `unix:/run/9p.sock`.
//! fn list(address: &str, path: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let fs = Fs::mount(Socket::connect(address)?, &MountOptions::new())?;
//!     for entry in fs.read_dir(path)? {
//!         println!("{}", entry?.path_lossy());
//!     }
//!     Ok(())
//! }
//!
//! assert!(list("/run/9p.sock", "/").is_err(), "an address says unix: or tcp:");
//! ```

extern crate std;

use alloc::boxed::Box;
use alloc::format;
use core::any::Any;
use core::mem;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xen9p_time::Instant;

use super::stream::{ByteStream, Framed};
use super::{Text, TransportError};

/// The largest message that [`Socket::connect`] agrees to, in bytes.
const MAX_MESSAGE: u32 = 1 << 20;

/// What a [`Socket`] reads from and writes to: a stream that does not block, and can be polled.
pub trait Stream: Read + Write + AsFd {}

impl<S: Read + Write + AsFd> Stream for S {}

/// A connection to a 9P server over a stream socket.
pub type Socket = Framed<SocketStream>;

/// A socket as a [`ByteStream`].
pub struct SocketStream {
    stream: Box<dyn Stream>,
    /// Whether the last read brought all that had come.
    is_drained: bool,
    closed: bool,
    origin: std::time::Instant,
    _kept: Box<dyn Any>,
}

impl core::fmt::Debug for SocketStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SocketStream")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Connects to the server at `address`: `unix:PATH`, or `tcp:HOST:PORT`. Blocks until it is connected.
    ///
    /// # Errors
    /// An address of another form, and what the system says.
    pub fn connect(address: &str) -> io::Result<Self> {
        match address.split_once(':') {
            Some(("unix", path)) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::new(stream, MAX_MESSAGE, ()))
            }
            Some(("tcp", address)) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::new(stream, MAX_MESSAGE, ()))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("\"{address}\" is no address: write unix:PATH or tcp:HOST:PORT"),
            )),
        }
    }

    /// Speaks on `stream`, which is set not to block, with messages of at most `max_message` bytes. Keeps `kept`, such as
    /// what owns the other end, until the connection is dropped.
    pub fn new(stream: impl Stream + 'static, max_message: u32, kept: impl Any) -> Self {
        Framed::over(SocketStream::new(stream, kept), max_message)
    }
}

impl SocketStream {
    /// The bytes of `stream`, which is set not to block. Keeps `kept`, such as what owns the other end, until this is dropped.
    pub fn new(stream: impl Stream + 'static, kept: impl Any) -> Self {
        SocketStream {
            stream: Box::new(stream),
            is_drained: false,
            closed: false,
            origin: std::time::Instant::now(),
            _kept: Box::new(kept),
        }
    }
}

/// What became of a system call: how many bytes went; 0 if none can at the moment.
fn went(done: io::Result<usize>, failed: Text) -> Result<usize, TransportError> {
    match done {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(TransportError::Lost(failed)),
    }
}

/// Makes a call again as long as a signal interrupts it.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl ByteStream for SocketStream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        // A read that leaves room has brought all there was. What has come since is there at the next call, and `wait` does
        // not wait for it: poll(2) says what is there, not what is new.
        if mem::take(&mut self.is_drained) {
            return Ok(0);
        }
        match again(|| self.stream.read(into)) {
            Ok(0) => Err(TransportError::Lost(&"the socket was closed")),
            Ok(count) => {
                self.is_drained = count < into.len();
                Ok(count)
            }
            done => went(done, &"reading the socket failed"),
        }
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        let done = again(|| self.stream.write(from));
        went(done, &"writing the socket failed")
    }

    fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn wait(&mut self, write: bool, deadline: Instant) -> Result<(), TransportError> {
        let timeout = Timespec::try_from(deadline - self.now()).ok();
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, write);
        // An interruption is as good a reason as any to return early.
        let _ = poll(&mut [PollFd::new(&self.stream, flags)], timeout.as_ref());
        Ok(())
    }

    /// The socket itself is closed when it is dropped.
    fn close(&mut self) {
        if !mem::replace(&mut self.closed, true) {
            let _ = rustix::net::shutdown(self.stream.as_fd(), rustix::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Lane, Transport};
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use core::cell::Cell;
    use std::os::fd::BorrowedFd;

    /// A socket that counts how often it is read.
    struct Counted(UnixStream, Rc<Cell<u32>>);

    impl Read for Counted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1.set(self.1.get() + 1);
            self.0.read(into)
        }
    }

    impl Write for Counted {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            self.0.write(from)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl AsFd for Counted {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    #[test]
    fn a_reply_takes_two_reads_of_the_socket() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reads = Rc::new(Cell::new(0));
        let mut socket = Socket::new(Counted(ours, reads.clone()), 4096, ());
        for _ in 0..3 {
            let before = reads.get();
            assert_eq!(socket.peek(Lane(0)).unwrap(), None);
            theirs.write_all(&[7, 0, 0, 0, 1, 0, 0]).unwrap();
            assert_eq!(socket.wait(Instant::NEVER), Ok(()));
            assert_eq!(socket.peek(Lane(0)).unwrap().unwrap().size, 7);
            socket.consume(Lane(0));
            assert_eq!(
                reads.get() - before,
                2,
                "one before it came, one that brings it"
            );
        }
        // What comes right behind is not missed.
        theirs.write_all(&[7, 0, 0, 0, 1, 0, 0]).unwrap();
        assert_eq!(socket.wait(Instant::NEVER), Ok(()));
        assert_eq!(socket.peek(Lane(0)).unwrap().unwrap().size, 7);
        theirs.write_all(&[7, 0, 0, 0, 1, 0, 0]).unwrap();
        socket.consume(Lane(0));
        assert_eq!(socket.wait(Instant::NEVER), Ok(()));
        assert_eq!(socket.peek(Lane(0)).unwrap().unwrap().size, 7);
    }

    #[test]
    fn an_address_of_another_form_is_refused_in_words() {
        for address in ["", "/run/9p", "unix", "vchan:1!x"] {
            let error = Socket::connect(address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
            assert!(format!("{error}").contains("unix:PATH"), "{error}");
        }
    }

    #[test]
    fn messages_arrive_in_pieces_of_any_size() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut socket = Socket::new(ours, 4096, ());
        let message = |tag: u8, len: usize| {
            let mut bytes = std::vec![7; len];
            bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
            bytes[5..7].copy_from_slice(&[tag, 0]);
            bytes
        };
        let all = [message(1, 7), message(2, 700), message(3, 300)].concat();
        let mut seen = Vec::new();
        for byte in all {
            theirs.write_all(&[byte]).unwrap();
            while let Some(header) = socket.peek(Lane(0)).unwrap() {
                seen.push((header.tag, header.size));
                let mut end = [0; 2];
                socket.copy_out(Lane(0), header.size - 1, &mut end);
                assert_eq!(end[1], 0, "bytes beyond the end are 0");
                socket.consume(Lane(0));
            }
        }
        assert_eq!(seen, [(1, 7), (2, 700), (3, 300)]);
        drop(theirs);
        let lost = socket.peek(Lane(0)).unwrap_err();
        assert_eq!(lost, TransportError::Lost(&"the socket was closed"));
        assert_eq!(socket.wait(Instant::NEVER), Err(lost));
    }

    #[test]
    fn what_came_before_the_end_still_counts() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut socket = Socket::new(ours, 4096, ());
        theirs.write_all(&[7, 0, 0, 0, 1, 0, 0].repeat(3)).unwrap();
        drop(theirs);
        // The other side takes nothing any more.
        assert_eq!(socket.send(Lane(0), &[b"request"], 0), Ok(true));
        assert_eq!(socket.flush(), Ok(()));
        for _ in 0..3 {
            assert_eq!(socket.wait(Instant::NEVER), Ok(()));
            assert_eq!(socket.peek(Lane(0)).unwrap().unwrap().size, 7);
            socket.consume(Lane(0));
        }
        let lost = socket.peek(Lane(0)).unwrap_err();
        assert!(matches!(lost, TransportError::Lost(_)), "{lost}");
        assert_eq!(socket.send(Lane(0), &[b"request"], 0), Err(lost));
    }

    #[test]
    fn lengths_that_break_the_rules_end_the_connection() {
        for size in [0, 6, 4097, u32::MAX] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut socket = Socket::new(ours, 4096, ());
            theirs.write_all(&size.to_le_bytes()).unwrap();
            theirs.write_all(&[0; 3]).unwrap();
            let error = socket.peek(Lane(0)).unwrap_err();
            assert!(
                matches!(error, TransportError::Violation(_)),
                "{size}: {error}"
            );
            assert_eq!(socket.send(Lane(0), &[b"x"], 0), Err(error));
        }
    }
}

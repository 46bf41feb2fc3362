//! 9P over a stream socket of a host: one lane, bytes in both directions. Needs the feature `socket`, and std.

extern crate std;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::any::Any;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use p9_wire::{HEADER_LEN, parse_header};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xen9p_time::Instant;

use super::{Header, Lane, Transport, TransportError};

/// More bytes than this do not wait to be sent.
const MAX_BACKLOG: usize = 4 << 20;

/// The largest message that [`Socket::connect`] agrees to, in bytes.
const MAX_MESSAGE: u32 = 1 << 20;

/// How much is read from the socket at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// What a [`Socket`] reads from and writes to: a stream that does not block, and can be polled.
pub trait Stream: Read + Write + AsFd {}

impl<S: Read + Write + AsFd> Stream for S {}

/// A connection to a 9P server over a stream socket.
pub struct Socket {
    stream: Box<dyn Stream>,
    outgoing: Vec<u8>,
    /// Bytes that have arrived; those before `taken` are consumed.
    incoming: Vec<u8>,
    taken: usize,
    max_message: u32,
    max_reply: u32,
    failure: Option<TransportError>,
    origin: std::time::Instant,
    _kept: Box<dyn Any>,
}

impl core::fmt::Debug for Socket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Socket")
            .field("failure", &self.failure)
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
        Socket {
            stream: Box::new(stream),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            taken: 0,
            max_message,
            max_reply: max_message,
            failure: None,
            origin: std::time::Instant::now(),
            _kept: Box::new(kept),
        }
    }

    fn check(&self) -> Result<(), TransportError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn fail<T>(&mut self, failure: TransportError) -> Result<T, TransportError> {
        Err(*self.failure.get_or_insert(failure))
    }

    /// The bytes that have arrived and are not consumed.
    fn arrived(&self) -> &[u8] {
        self.incoming.get(self.taken..).unwrap_or(&[])
    }

    /// Takes in what has arrived, at most the largest reply: what is more waits in the socket.
    fn fill(&mut self) -> Result<(), TransportError> {
        self.incoming.drain(..self.taken);
        self.taken = 0;
        while self.incoming.len() < self.max_reply as usize {
            let start = self.incoming.len();
            self.incoming.resize(start + CHUNK, 0);
            let room = self.incoming.get_mut(start..).unwrap_or(&mut []);
            let read = self.stream.read(room);
            self.incoming.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return self.fail(TransportError::Lost("the socket was closed")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fail(TransportError::Lost("reading the socket failed")),
            }
        }
        Ok(())
    }

    fn header(&self) -> Option<Header> {
        self.arrived().first_chunk::<HEADER_LEN>().map(parse_header)
    }

    fn has_message(&self) -> bool {
        self.header()
            .is_some_and(|header| header.size as usize <= self.arrived().len())
    }
}

impl Transport for Socket {
    fn lanes(&self) -> u16 {
        1
    }

    fn max_message(&self) -> u32 {
        self.max_message
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.max_reply = bytes;
    }

    /// A socket has flow control: there is always room for replies.
    fn has_room(&mut self, _: Lane, request: u32, _: u32) -> Result<bool, TransportError> {
        self.check()?;
        Ok(self.outgoing.len() + request as usize <= MAX_BACKLOG)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !self.has_room(lane, u32::try_from(len).unwrap_or(u32::MAX), reply)? {
            return Ok(false);
        }
        for part in parts {
            self.outgoing.extend_from_slice(part);
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.check()?;
        let mut sent = 0;
        while let Some(rest) = self.outgoing.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fail(TransportError::Lost("writing the socket failed")),
            }
        }
        self.outgoing.drain(..sent);
        Ok(())
    }

    fn peek(&mut self, _: Lane) -> Result<Option<Header>, TransportError> {
        self.check()?;
        if !self.has_message() {
            let filled = self.fill();
            // What arrived before the end still counts.
            if !self.has_message() {
                filled?;
            }
        }
        match self.header() {
            Some(header) if (header.size as usize) < HEADER_LEN => {
                self.fail(TransportError::Violation("a message of less than 7 bytes"))
            }
            Some(header) if header.size > self.max_reply => {
                self.fail(TransportError::Violation("a message larger than msize"))
            }
            header => Ok(header.filter(|_| self.has_message())),
        }
    }

    fn copy_out(&mut self, _: Lane, offset: u32, into: &mut [u8]) {
        let size = self.header().map_or(0, |header| header.size as usize);
        let message = self.arrived().get(..size).unwrap_or(&[]);
        let rest = message.get(offset as usize..).unwrap_or(&[]);
        let (there, beyond) = into.split_at_mut(rest.len().min(into.len()));
        there.copy_from_slice(rest.get(..there.len()).unwrap_or(&[]));
        beyond.fill(0);
    }

    fn consume(&mut self, _: Lane) {
        self.taken += self.header().map_or(0, |header| header.size as usize);
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.check()?;
        if self.has_message() {
            return Ok(());
        }
        let timeout = Timespec::try_from(deadline - self.now()).ok();
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.outgoing.is_empty());
        // An interruption is as good a reason as any to return early.
        let _ = poll(&mut [PollFd::new(&self.stream, flags)], timeout.as_ref());
        self.flush()
    }

    /// The socket itself is closed when it is dropped.
    fn close(&mut self) {
        let _ = rustix::net::shutdown(self.stream.as_fd(), rustix::net::Shutdown::Both);
        self.failure.get_or_insert(TransportError::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(lost, TransportError::Lost("the socket was closed"));
        assert_eq!(socket.wait(Instant::NEVER), Err(lost));
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

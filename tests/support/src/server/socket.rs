//! 9P over a Unix socket: one lane, bytes in both directions.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xen9p::p9::wire::{HEADER_LEN, parse_header};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};

/// More than this is not kept waiting to be sent.
const BACKLOG: usize = 4 << 20;

/// A connection over a stream socket.
pub struct Socket {
    stream: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    max_message: u32,
    limit: u32,
    failure: Option<TransportError>,
    origin: std::time::Instant,
    _server: Box<dyn Any>,
}

impl Socket {
    /// Speaks on `stream`, with messages of at most `max_message` bytes, and keeps `server`, whatever
    /// keeps the other end alive, until the end.
    pub fn new(stream: UnixStream, max_message: u32, server: impl Any) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Socket {
            stream,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            max_message,
            limit: max_message,
            failure: None,
            origin: std::time::Instant::now(),
            _server: Box::new(server),
        })
    }

    fn check(&self) -> Result<(), TransportError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn fail<T>(&mut self, failure: TransportError) -> Result<T, TransportError> {
        Err(*self.failure.get_or_insert(failure))
    }

    /// Takes in what has arrived.
    fn fill(&mut self) -> Result<(), TransportError> {
        let mut chunk = [0; 1 << 16];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return self.fail(TransportError::Lost("the socket was closed")),
                Ok(len) => self.incoming.extend(&chunk[..len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return self.fail(TransportError::Lost("reading the socket failed")),
            }
        }
    }

    fn header(&self) -> Option<Header> {
        self.incoming.first_chunk::<HEADER_LEN>().map(parse_header)
    }

    fn has_message(&self) -> bool {
        self.header()
            .is_some_and(|header| header.size as usize <= self.incoming.len())
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
        self.limit = bytes;
    }

    /// A socket has flow control: there is always room for replies.
    fn has_room(&mut self, _: Lane, request: u32, _: u32) -> Result<bool, TransportError> {
        self.check()?;
        Ok(self.outgoing.len() + request as usize <= BACKLOG)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let request = parts.concat();
        if !self.has_room(lane, request.len() as u32, reply)? {
            return Ok(false);
        }
        self.outgoing.extend(request);
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.check()?;
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return self.fail(TransportError::Lost("writing the socket failed")),
            }
        }
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
            Some(header) if header.size > self.limit => {
                self.fail(TransportError::Violation("a message larger than msize"))
            }
            header => Ok(header.filter(|_| self.has_message())),
        }
    }

    fn copy_out(&mut self, _: Lane, offset: u32, into: &mut [u8]) {
        let size = self.header().map_or(0, |header| header.size as usize);
        let message = &self.incoming[..size];
        let rest = message.get(offset as usize..).unwrap_or_default();
        let (there, beyond) = into.split_at_mut(rest.len().min(into.len()));
        there.copy_from_slice(&rest[..there.len()]);
        beyond.fill(0);
    }

    fn consume(&mut self, _: Lane) {
        let size = self.header().map_or(0, |header| header.size as usize);
        self.incoming.drain(..size);
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        Instant::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.check()?;
        if self.has_message() {
            return Ok(());
        }
        let left = deadline - self.now();
        let timeout = Timespec::try_from(left).ok();
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.outgoing.is_empty());
        // An interruption is as good a reason as any to return early.
        let _ = poll(&mut [PollFd::new(&self.stream, flags)], timeout.as_ref());
        self.flush()
    }

    fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.failure.get_or_insert(TransportError::Closed);
    }
}

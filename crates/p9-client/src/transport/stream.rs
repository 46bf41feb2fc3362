//! 9P over a stream of bytes, such as a socket or a vchan: one lane, messages one behind the other.
//!
//! ```
//! use p9_client::fs::{Fs, MountOptions, Result};
//! use p9_client::transport::stream::{ByteStream, Framed};
//!
//! /// Files over anything that carries bytes.
//! fn mount(stream: impl ByteStream + 'static) -> Result<Fs> {
//!     let transport = Framed::over(stream, 128 << 10);
//!     Fs::mount(transport, &MountOptions::new())
//! }
//! ```

use alloc::vec::Vec;

use p9_wire::{HEADER_LEN, parse_header};
use xen9p_time::Instant;

use super::{Header, Lane, Transport, TransportError};

/// How much room for bytes there is at least when more are read.
const CHUNK: usize = 16 << 10;

/// So many messages of the largest size wait to be sent, no more.
const BACKLOG: usize = 4;

/// A stream of bytes in both directions. No method blocks but [`wait`](Self::wait).
pub trait ByteStream {
    /// Puts bytes that have come into the buffer and says how many; 0: none at the moment.
    ///
    /// # Errors
    /// The stream is over, and all bytes that came before were read.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError>;

    /// Sends as many of the bytes as there is room for and says how many. The other side may not be told before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// The stream is over.
    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError>;

    /// Tells the other side of all that was written and read.
    ///
    /// # Errors
    /// The stream is over.
    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Blocks until there may be something to read or, if `write`, room to write, or `deadline` has passed. Never misses
    /// what happened after the last [`read`](Self::read) or [`write`](Self::write) that had to do with it; may return
    /// early for no reason.
    ///
    /// # Errors
    /// The stream is over.
    fn wait(&mut self, write: bool, deadline: Instant) -> Result<(), TransportError>;

    /// Ends the stream. Idempotent.
    fn close(&mut self);
}

/// 9P messages on a [`ByteStream`].
#[derive(Debug)]
pub struct Framed<S> {
    stream: S,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that are on their way.
    sent: usize,
    /// Those from `taken` to `end` have arrived and are not consumed.
    incoming: Vec<u8>,
    taken: usize,
    end: usize,
    max_message: u32,
    max_reply: u32,
    /// How the stream ended. What arrived before still counts.
    ended: Option<TransportError>,
    failure: Option<TransportError>,
}

impl<S: ByteStream> Framed<S> {
    /// Speaks on `stream`, with messages of at most `max_message` bytes.
    pub fn over(stream: S, max_message: u32) -> Self {
        Framed {
            stream,
            outgoing: Vec::new(),
            sent: 0,
            incoming: Vec::new(),
            taken: 0,
            end: 0,
            max_message,
            max_reply: max_message,
            ended: None,
            failure: None,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    fn check(&self) -> Result<(), TransportError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn fail<T>(&mut self, failure: TransportError) -> Result<T, TransportError> {
        Err(*self.failure.get_or_insert(failure))
    }

    /// How many bytes went, or 0 and a note of the end.
    fn noted(&mut self, done: Result<usize, TransportError>) -> usize {
        done.unwrap_or_else(|end| {
            self.ended.get_or_insert(end);
            0
        })
    }

    /// # Errors
    /// The stream has ended, and there is no whole message left of it.
    fn check_end(&mut self) -> Result<(), TransportError> {
        match self.ended {
            Some(end) if !self.has_message() => self.fail(end),
            _ => Ok(()),
        }
    }

    /// The bytes that have arrived and are not consumed.
    fn arrived(&self) -> &[u8] {
        self.incoming.get(self.taken..self.end).unwrap_or(&[])
    }

    /// Bytes that wait to be sent.
    fn backlog(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Makes room for bytes that come: for the rest of the message that has begun, if that is known.
    fn make_room(&mut self) -> Result<(), TransportError> {
        let message = self.header().map_or(0, |header| header.size);
        let whole = message.min(self.max_reply) as usize;
        if self.taken > 0 {
            self.incoming.copy_within(self.taken..self.end, 0);
            (self.taken, self.end) = (0, self.end - self.taken);
        }
        let wanted = whole.max(self.end + CHUNK);
        if self.incoming.len() < wanted {
            let more = wanted - self.incoming.len();
            let is_there = self.incoming.try_reserve(more).is_ok();
            // What was set aside when its request was sent does for this message.
            let len = wanted.min(self.incoming.capacity());
            if !is_there && len < whole.max(self.end + 1) && !self.has_message() {
                return self.fail(TransportError::Lost(&"there is no memory for a message"));
            }
            self.incoming.resize(len, 0);
        }
        Ok(())
    }

    /// Takes in what has arrived, at most the largest reply: what is more waits in the stream.
    fn fill(&mut self) -> Result<(), TransportError> {
        while self.arrived().len() < self.max_reply as usize {
            self.make_room()?;
            let room = self.incoming.get_mut(self.end..).unwrap_or(&mut []);
            if room.is_empty() {
                break;
            }
            let read = self.stream.read(room);
            match self.noted(read) {
                0 => break,
                count => self.end = (self.end + count).min(self.incoming.len()),
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

impl<S: ByteStream> Transport for Framed<S> {
    fn lanes(&self) -> u16 {
        1
    }

    fn max_message(&self) -> u32 {
        self.max_message
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.max_reply = bytes;
    }

    /// A stream has flow control: there is always room for replies.
    fn has_room(&mut self, _: Lane, request: u32, _: u32) -> Result<bool, TransportError> {
        self.check()?;
        Ok(self.backlog() + request as usize <= BACKLOG * self.max_message as usize)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !self.has_room(lane, u32::try_from(len).unwrap_or(u32::MAX), reply)? {
            return Ok(false);
        }
        if self.sent > 0 {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
        let for_reply = (reply as usize).saturating_sub(self.incoming.len());
        if self.outgoing.try_reserve(len).is_err() || self.incoming.try_reserve(for_reply).is_err()
        {
            // As if the other side were slow: it may come to that.
            return Ok(false);
        }
        for part in parts {
            self.outgoing.extend_from_slice(part);
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.check()?;
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|r| !r.is_empty()) {
            let written = self.stream.write(rest);
            match self.noted(written) {
                0 => break,
                count => self.sent += count,
            }
        }
        if self.backlog() == 0 || self.ended.is_some() {
            self.outgoing.clear();
            self.sent = 0;
        }
        let told = self.stream.flush();
        self.noted(told.map(|()| 0));
        Ok(())
    }

    fn peek(&mut self, _: Lane) -> Result<Option<Header>, TransportError> {
        self.check()?;
        if !self.has_message() {
            self.fill()?;
            self.check_end()?;
        }
        match self.header() {
            Some(header) if (header.size as usize) < HEADER_LEN => {
                self.fail(TransportError::Violation(&"a message of less than 7 bytes"))
            }
            Some(header) if header.size > self.max_reply => {
                self.fail(TransportError::Violation(&"a message larger than msize"))
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
        let size = self.header().map_or(0, |header| header.size as usize);
        self.taken = (self.taken + size).min(self.end);
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        self.stream.now()
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.flush()?;
        if self.has_message() {
            return Ok(());
        }
        if self.ended.is_none() {
            let waited = self.stream.wait(self.backlog() > 0, deadline);
            self.noted(waited.map(|()| 0));
        }
        if self.ended.is_some() {
            self.fill()?;
            return self.check_end();
        }
        self.flush()
    }

    fn close(&mut self) {
        self.stream.close();
        self.failure.get_or_insert(TransportError::Closed);
    }
}

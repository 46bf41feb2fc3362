//! Reading in small pieces and by lines.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Read, Seek, append_text, make_room};
use crate::{Error, Result, SeekFrom};

/// How much is read at once where nothing else is asked for: what one request carries on most connections.
pub(super) const CAPACITY: usize = 64 << 10;

/// What has bytes at hand that were read already.
///
/// ```
/// use xen9p::tree::io::BufRead;
///
/// let mut stream: &[u8] = b"first\nsecond\r\nlast";
/// let mut line = String::new();
/// stream.read_line(&mut line)?;
/// assert_eq!(line, "first\n");
/// let rest: Vec<String> = stream.lines().collect::<Result<_, _>>()?;
/// assert_eq!(rest, ["second", "last"]);
/// # Ok::<(), xen9p::tree::Error>(())
/// ```
pub trait BufRead: Read {
    /// The bytes at hand, after reading some if there are none. Empty at the end.
    ///
    /// # Errors
    /// Those of the stream.
    fn fill_buf(&mut self) -> Result<&[u8]>;

    /// Takes so many of the bytes at hand as read.
    fn consume(&mut self, count: usize);

    /// Appends everything up to and with the byte `end`, or up to the end of the stream; returns how many bytes that were.
    ///
    /// # Errors
    /// Those of the stream, and [`Error::OutOfMemory`].
    fn read_until(&mut self, end: u8, into: &mut Vec<u8>) -> Result<usize> {
        let start = into.len();
        loop {
            let at_hand = self.fill_buf()?;
            let found = at_hand.iter().position(|&byte| byte == end);
            let piece = &at_hand[..found.map_or(at_hand.len(), |at| at + 1)];
            let room = into.try_reserve(piece.len());
            room.map_err(|_| Error::OutOfMemory)?;
            into.extend_from_slice(piece);
            let count = piece.len();
            self.consume(count);
            if found.is_some() || count == 0 {
                return Ok(into.len() - start);
            }
        }
    }

    /// Appends a line with its end; returns how many bytes that were, 0 at the end of the stream.
    ///
    /// # Errors
    /// As [`read_until`](Self::read_until), and [`Error::NotUtf8`]; `into` is then unchanged.
    fn read_line(&mut self, into: &mut String) -> Result<usize> {
        let mut bytes = Vec::new();
        self.read_until(b'\n', &mut bytes)?;
        append_text(into, &bytes)
    }

    /// The lines of text, without `\n` or `\r\n` at their ends.
    fn lines(self) -> Lines<Self>
    where
        Self: Sized,
    {
        Lines { stream: self }
    }

    /// The pieces between the bytes `end`, without them.
    fn split(self, end: u8) -> Split<Self>
    where
        Self: Sized,
    {
        Split { stream: self, end }
    }
}

/// Iterates over the pieces of a stream; made by [`BufRead::split`].
#[derive(Debug)]
pub struct Split<B> {
    stream: B,
    end: u8,
}

impl<B: BufRead> Iterator for Split<B> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = Vec::new();
        match self.stream.read_until(self.end, &mut piece) {
            Ok(0) => None,
            Ok(_) => {
                if piece.last() == Some(&self.end) {
                    piece.pop();
                }
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Iterates over the lines of a stream; made by [`BufRead::lines`].
#[derive(Debug)]
pub struct Lines<B> {
    stream: B,
}

impl<B: BufRead> Iterator for Lines<B> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                if line.ends_with('\n') {
                    line.pop();
                    if line.ends_with('\r') {
                        line.pop();
                    }
                }
                Some(Ok(line))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl BufRead for &[u8] {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        Ok(self)
    }

    fn consume(&mut self, count: usize) {
        *self = self.get(count..).unwrap_or_default();
    }
}

impl<B: BufRead + ?Sized> BufRead for &mut B {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        (**self).fill_buf()
    }

    fn consume(&mut self, count: usize) {
        (**self).consume(count);
    }
}

/// Reads a stream in large pieces, for a program that takes small ones. The buffer is made when it is needed first.
#[derive(Debug)]
pub struct BufReader<R> {
    inner: R,
    buffer: Vec<u8>,
    capacity: usize,
    /// What of the buffer is at hand.
    start: usize,
    end: usize,
}

impl<R> BufReader<R> {
    /// With a buffer of 64 KiB.
    pub const fn new(inner: R) -> Self {
        Self::with_capacity(CAPACITY, inner)
    }

    /// With a buffer of `capacity` bytes, or 1 for 0.
    pub const fn with_capacity(capacity: usize, inner: R) -> Self {
        BufReader {
            inner,
            buffer: Vec::new(),
            capacity: if capacity == 0 { 1 } else { capacity },
            start: 0,
            end: 0,
        }
    }

    /// The bytes at hand.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The stream.
    pub const fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The stream. What is read from it is missed here.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The stream. The bytes at hand are lost.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for BufReader<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.start == self.end && into.len() >= self.capacity {
            return self.inner.read(into);
        }
        let mut at_hand = self.fill_buf()?;
        let count = at_hand.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for BufReader<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            if self.buffer.is_empty() {
                make_room(&mut self.buffer, self.capacity)?;
            }
            (self.start, self.end) = (0, 0);
            self.end = self.inner.read(&mut self.buffer)?.min(self.buffer.len());
        }
        Ok(self.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }
}

impl<R: Seek> Seek for BufReader<R> {
    /// Gives up the bytes at hand.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let to = match to {
            // The stream is ahead by what is at hand.
            SeekFrom::Current(by) => {
                let ahead = (self.end - self.start) as i64;
                let by = by.checked_sub(ahead);
                SeekFrom::Current(by.ok_or(Error::InvalidInput(&"a position out of range"))?)
            }
            to => to,
        };
        let position = self.inner.seek(to)?;
        (self.start, self.end) = (0, 0);
        Ok(position)
    }

    /// Keeps them.
    fn stream_position(&mut self) -> Result<u64> {
        let position = self.inner.stream_position()?;
        Ok(position.saturating_sub((self.end - self.start) as u64))
    }
}

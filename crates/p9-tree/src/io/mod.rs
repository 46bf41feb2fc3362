//! Streams of bytes, with the names and habits of `std::io`: [`Read`], [`Write`], [`Seek`], [`BufRead`], and what buffers
//! small reads and writes. An open [file](crate::files::File) is a stream; so are slices to read from and vectors to write to.
//!
//! ```
//! use xen9p::tree::files::Fs;
//! use xen9p::tree::io::{BufRead, BufReader, BufWriter, Write};
//! use xen9p::tree::trees::MemTree;
//!
//! # fn main() -> xen9p::tree::Result<()> {
//! let fs = Fs::new(MemTree::new().root());
//! let mut out = BufWriter::new(fs.create("/squares")?);
//! for n in 1..=3 {
//!     writeln!(out, "{n} {}", n * n)?;
//! }
//! out.into_inner()?.close()?;
//! let lines: Vec<String> = BufReader::new(fs.open("/squares")?).lines().collect::<Result<_, _>>()?;
//! assert_eq!(lines, ["1 1", "2 4", "3 9"]);
//! # Ok(())
//! # }
//! ```

mod buf_read;
mod buf_write;
mod files;
mod format;
mod part;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::files::failed;

pub use self::buf_read::{BufRead, BufReader, Lines, Split};
pub use self::buf_write::BufWriter;
pub(crate) use self::format::format_to;
pub use self::part::{Bytes, Take};
pub use crate::{Error, ErrorKind, Result, SeekFrom};

/// How much a stream of unknown length is asked for at first, and at the most, by what reads all of it.
const FIRST_PIECE: usize = 4 << 10;
const MOST_PIECE: usize = 1 << 20;

/// What bytes can be read from.
///
/// ```
/// use xen9p::tree::io::{Error, Read};
///
/// let mut stream: &[u8] = b"one two";
/// let mut word = [0; 3];
/// stream.read_exact(&mut word)?;
/// let mut rest = String::new();
/// stream.read_to_string(&mut rest)?;
/// assert_eq!((&word, rest.as_str()), (b"one", " two"));
/// assert_eq!(stream.read_exact(&mut word), Err(Error::UnexpectedEof));
/// # Ok::<(), Error>(())
/// ```
pub trait Read {
    /// Reads into the start of the buffer; returns how many bytes. 0 means the end, or an empty buffer.
    ///
    /// # Errors
    /// Those of the stream.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Fills the buffer.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] when the stream ends before; what was read is gone then.
    fn read_exact(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            match self.read(into)? {
                0 => return Err(failed(Error::UnexpectedEof)),
                count => into = into.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Appends everything up to the end; returns how many bytes that were. What was read before an error has been appended.
    ///
    /// # Errors
    /// Those of the stream, and [`Error::OutOfMemory`].
    fn read_to_end(&mut self, into: &mut Vec<u8>) -> Result<usize> {
        let start = into.len();
        let mut piece = FIRST_PIECE;
        loop {
            let end = into.len();
            into.try_reserve(piece).map_err(|_| Error::OutOfMemory)?;
            into.resize(end + piece, 0);
            let read = self.read(&mut into[end..]);
            into.truncate(end + read.unwrap_or(0).min(piece));
            if read? == 0 {
                return Ok(end - start);
            }
            piece = (into.len() - start).clamp(FIRST_PIECE, MOST_PIECE);
        }
    }

    /// Appends everything up to the end, which has to be text.
    ///
    /// # Errors
    /// As [`read_to_end`](Self::read_to_end), and [`Error::NotUtf8`]; `into` is then unchanged.
    fn read_to_string(&mut self, into: &mut String) -> Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        append_text(into, &bytes)
    }

    /// The same stream, lent to what takes one.
    fn by_ref(&mut self) -> &mut Self
    where
        Self: Sized,
    {
        self
    }

    /// The next `limit` bytes of the stream at most, as a stream that ends there.
    fn take(self, limit: u64) -> Take<Self>
    where
        Self: Sized,
    {
        Take::new(self, limit)
    }

    /// The bytes, one by one. Each is a read of its own: of a file, take a [`BufReader`].
    fn bytes(self) -> Bytes<Self>
    where
        Self: Sized,
    {
        Bytes::new(self)
    }
}

/// Appends bytes that have to be text; returns how many.
fn append_text(into: &mut String, bytes: &[u8]) -> Result<usize> {
    let text = str::from_utf8(bytes).map_err(|_| failed(Error::NotUtf8))?;
    let room = into.try_reserve(text.len());
    room.map_err(|_| Error::OutOfMemory)?;
    into.push_str(text);
    Ok(text.len())
}

/// What bytes can be written to.
///
/// ```
/// use xen9p::tree::io::Write;
///
/// let mut out = Vec::new();
/// writeln!(out, "{} and {}", 1, 2)?;
/// out.write_all(b"end")?;
/// assert_eq!(out, b"1 and 2\nend");
/// # Ok::<(), xen9p::tree::Error>(())
/// ```
pub trait Write {
    /// Writes from the start of the buffer; returns how many bytes were taken.
    ///
    /// # Errors
    /// Those of the stream.
    fn write(&mut self, from: &[u8]) -> Result<usize>;

    /// Returns when what was written has been handed on.
    ///
    /// # Errors
    /// Those of the stream.
    fn flush(&mut self) -> Result<()>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// [`Error::WriteZero`] if the stream takes no more of them, and those of the stream.
    fn write_all(&mut self, mut from: &[u8]) -> Result<()> {
        while !from.is_empty() {
            match self.write(from)? {
                0 => return Err(failed(Error::WriteZero)),
                count => from = from.get(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Writes formatted text: what `write!` and `writeln!` call. Text of less than 512 bytes is one write.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<()> {
        format_to(&mut |piece| self.write_all(piece), text)
    }

    /// The same stream, lent to what takes one.
    fn by_ref(&mut self) -> &mut Self
    where
        Self: Sized,
    {
        self
    }
}

/// What has a position that can be moved.
pub trait Seek {
    /// Moves the position and returns the new one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a position before the beginning.
    fn seek(&mut self, to: SeekFrom) -> Result<u64>;

    /// Moves the position to the beginning.
    ///
    /// # Errors
    /// Those of the stream.
    fn rewind(&mut self) -> Result<()> {
        self.seek(SeekFrom::Start(0)).map(drop)
    }

    /// The position.
    ///
    /// # Errors
    /// Those of the stream.
    fn stream_position(&mut self) -> Result<u64> {
        self.seek(SeekFrom::Current(0))
    }
}

/// Reads `from` to its end and writes it all; returns how many bytes that were.
///
/// # Errors
/// Those of both streams, and [`Error::OutOfMemory`].
///
/// ```
/// use xen9p::tree::io;
///
/// let mut copy = Vec::new();
/// assert_eq!(io::copy(&mut b"text".as_slice(), &mut copy), Ok(4));
/// assert_eq!(copy, b"text");
/// ```
pub fn copy<R: Read + ?Sized, W: Write + ?Sized>(from: &mut R, to: &mut W) -> Result<u64> {
    let mut buffer = Vec::new();
    make_room(&mut buffer, buf_read::CAPACITY)?;
    let mut total = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(total),
            count => {
                to.write_all(&buffer[..count])?;
                total += count as u64;
            }
        }
    }
}

/// Makes an empty buffer one of `capacity` zeros.
fn make_room(buffer: &mut Vec<u8>, capacity: usize) -> Result<()> {
    let room = buffer.try_reserve_exact(capacity);
    room.map_err(|_| Error::OutOfMemory)?;
    buffer.resize(capacity, 0);
    Ok(())
}

impl<R: Read + ?Sized> Read for &mut R {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        (**self).read(into)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> Result<usize> {
        (**self).read_to_end(into)
    }
}

impl<W: Write + ?Sized> Write for &mut W {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        (**self).write(from)
    }

    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }
}

impl<S: Seek + ?Sized> Seek for &mut S {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        (**self).seek(to)
    }
}

/// Reads from the front, and makes the slice shorter.
impl Read for &[u8] {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let (front, rest) = self.split_at(self.len().min(into.len()));
        into[..front.len()].copy_from_slice(front);
        *self = rest;
        Ok(front.len())
    }
}

/// Appends.
impl Write for Vec<u8> {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        let room = self.try_reserve(from.len());
        room.map_err(|_| Error::OutOfMemory)?;
        self.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

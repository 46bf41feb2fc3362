//! Parts of a stream: so many bytes of it, and each by itself.

use super::{BufRead, Read};
use crate::Result;

/// The first bytes of a stream; made by [`Read::take`].
///
/// ```
/// use xen9p::tree::io::Read;
///
/// let mut stream: &[u8] = b"header and body";
/// let mut header = String::new();
/// stream.by_ref().take(6).read_to_string(&mut header)?;
/// assert_eq!((header.as_str(), stream), ("header", &b" and body"[..]));
/// # Ok::<(), xen9p::tree::Error>(())
/// ```
#[derive(Debug)]
pub struct Take<R> {
    inner: R,
    limit: u64,
}

impl<R> Take<R> {
    pub(super) const fn new(inner: R, limit: u64) -> Self {
        Take { inner, limit }
    }

    /// How many bytes may still be read.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The stream, which goes on behind what was read.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// So many bytes, or as many as may still be read.
    fn at_most(&self, count: usize) -> usize {
        usize::try_from(self.limit).map_or(count, |limit| limit.min(count))
    }
}

impl<R: Read> Read for Take<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let most = self.at_most(into.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut into[..most])?.min(most);
        self.limit -= count as u64;
        Ok(count)
    }
}

impl<B: BufRead> BufRead for Take<B> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.limit == 0 {
            return Ok(&[]);
        }
        let limit = self.limit;
        let at_hand = self.inner.fill_buf()?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(&at_hand[..at_hand.len().min(most)])
    }

    fn consume(&mut self, count: usize) {
        let count = self.at_most(count);
        self.limit -= count as u64;
        self.inner.consume(count);
    }
}

/// The bytes of a stream; made by [`Read::bytes`].
#[derive(Debug)]
pub struct Bytes<R> {
    inner: R,
}

impl<R> Bytes<R> {
    pub(super) const fn new(inner: R) -> Self {
        Bytes { inner }
    }
}

impl<R: Read> Iterator for Bytes<R> {
    type Item = Result<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut byte = [0];
        match self.inner.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(Ok(byte[0])),
            Err(error) => Some(Err(error)),
        }
    }
}

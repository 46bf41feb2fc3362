//! Messages in a stream of bytes.

use alloc::vec::Vec;

use p9_wire::HEADER_LEN;

use crate::message::BEGINNING;
use crate::server::Violation;

/// How much is made room for at least before more is read.
const CHUNK: usize = 8192;

/// Cuts the bytes that come from a stream, such as a socket, into messages, which begin with their size.
///
/// ```
/// # use p9_server::Frames;
/// let mut frames = Frames::new();
/// let stream = [7, 0, 0, 0, 120, 1, 0, 11, 0, 0, 0, 120];
/// frames.space(8192).unwrap()[..stream.len()].copy_from_slice(&stream);
/// frames.filled(stream.len());
/// assert_eq!(frames.next(8192), Ok(Some(&stream[..7])));
/// frames.done();
/// assert_eq!(frames.next(8192), Ok(None));
/// ```
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Frames {
    /// No bytes yet.
    pub const fn new() -> Self {
        Frames {
            bytes: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// Where the next bytes of the stream go; never empty. `max` is the size of the largest message now.
    ///
    /// # Errors
    /// The message that has begun is [larger than `max`](Violation::TooLarge), or there is no memory for it.
    pub fn space(&mut self, max: u32) -> Result<&mut [u8], Violation> {
        let wanted = self.size(max)?.unwrap_or(0).max(CHUNK);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() - self.start < wanted || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let len = wanted.max(self.end + 1);
        if self.bytes.len() < len {
            let more = len - self.bytes.len();
            let reserved = self.bytes.try_reserve_exact(more);
            reserved.map_err(|_| Violation::TooLarge)?;
            self.bytes.resize(len, 0);
        }
        Ok(self.bytes.get_mut(self.end..).unwrap_or_default())
    }

    /// This many bytes of the stream were put there.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    fn there(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The size of the first message, if that has come.
    fn size(&self, max: u32) -> Result<Option<usize>, Violation> {
        let Some(size) = self.there().first_chunk() else {
            return Ok(None);
        };
        match u32::from_le_bytes(*size) {
            size if (size as usize) < HEADER_LEN => Err(Violation::TooShort),
            size if size > max => Err(Violation::TooLarge),
            size => Ok(Some(size as usize)),
        }
    }

    /// The first message, if all of it has come; the same until [`done`](Self::done).
    ///
    /// # Errors
    /// It is larger than `max`, or shorter than a header. The stream is of no use any more.
    pub fn next(&self, max: u32) -> Result<Option<&[u8]>, Violation> {
        Ok(self.size(max)?.and_then(|size| self.there().get(..size)))
    }

    /// The beginning of the nth message behind the first one, if all of that has come.
    pub fn ahead(&self, n: usize) -> Option<[u8; BEGINNING]> {
        let mut rest = self.there();
        for _ in 0..=n {
            let size = u32::from_le_bytes(*rest.first_chunk()?) as usize;
            rest = rest.get(size.max(HEADER_LEN)..)?;
        }
        let size = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        rest.get(..size)?.first_chunk().copied()
    }

    /// What has come behind the first message, once all of that one has.
    pub fn behind(&self) -> &[u8] {
        match self.next(u32::MAX) {
            Ok(Some(first)) => self.there().get(first.len()..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The first message is done with.
    pub fn done(&mut self) {
        if let Ok(Some(size)) = self.size(u32::MAX) {
            self.start = self.start.saturating_add(size).min(self.end);
        }
    }

    /// Nothing that has come is wanted here: the first message is done with, and another one goes on with what is
    /// [behind](Self::behind) it.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_goes_on_with_what_is_behind_a_message() {
        let mut frames = Frames::new();
        assert_eq!(frames.behind(), []);
        let stream = [7, 0, 0, 0, 120, 1, 0, 8, 0, 0, 0, 120, 2, 0, 9, 7, 0, 0];
        frames.space(8192).unwrap()[..stream.len()].copy_from_slice(&stream);
        frames.filled(stream.len());
        assert_eq!(frames.next(8192), Ok(Some(&stream[..7])));
        let mut other = Frames::new();
        other.space(8192).unwrap()[..11].copy_from_slice(frames.behind());
        other.filled(11);
        frames.clear();
        assert_eq!(frames.next(8192), Ok(None));
        assert_eq!(other.next(8192), Ok(Some(&stream[7..15])));
        assert_eq!(other.behind(), &stream[15..]);
        other.done();
        assert_eq!(other.next(8192), Ok(None));
    }

    #[test]
    fn messages_behind_the_first_can_be_looked_at_once_they_are_whole() {
        let mut frames = Frames::new();
        let mut put = |bytes: &[u8]| {
            frames.space(8192).unwrap()[..bytes.len()].copy_from_slice(bytes);
            frames.filled(bytes.len());
            [0, 1, 2].map(|n| frames.ahead(n))
        };
        let second = [11, 0, 0, 0, 120, 1, 0, 2, 0, 0, 0];
        assert_eq!(put(&[7, 0, 0, 0, 120, 1, 0]), [None; 3]);
        assert_eq!(put(&second[..10]), [None; 3]);
        assert_eq!(put(&second[10..]), [Some(second), None, None]);
        assert_eq!(put(&[7, 0, 0, 0, 120, 1, 0]), [Some(second), None, None]);
        // One with a size that none can have ends it.
        assert_eq!(put(&[0; 20]), [Some(second), None, None]);
    }
}

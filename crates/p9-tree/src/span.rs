//! Bytes that are shown where they are.

use alloc::vec::Vec;
use core::fmt;

use crate::{Error, Result};

/// Bytes of a file that are lent to the program where they arrived, which may be memory that a server can still change: they
/// are copied out in pieces as small as one likes, for instance onto the stack, and never seen in place.
///
/// Read each byte once, and believe what was read, not what a second look shows.
pub struct Span<'a> {
    len: usize,
    copy: &'a mut dyn FnMut(usize, &mut [u8]),
}

impl fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("len", &self.len).finish()
    }
}

impl<'a> Span<'a> {
    /// So many bytes; `copy` copies those from an offset on, and is asked for no more than there are.
    pub fn new(len: usize, copy: &'a mut dyn FnMut(usize, &mut [u8])) -> Self {
        Span { len, copy }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes from `offset` on into `into`; returns how many there were.
    pub fn read(&mut self, offset: usize, into: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(into.len());
        if let Some(into) = into.get_mut(..count) {
            (self.copy)(offset, into);
        }
        count
    }

    /// Shows all bytes to `see`, in pieces of at most `N`, by way of the stack.
    pub fn for_each_piece<const N: usize>(&mut self, mut see: impl FnMut(&[u8])) {
        let mut piece = [0; N];
        let mut done = 0;
        while done < self.len && N > 0 {
            let count = self.read(done, &mut piece);
            see(piece.get(..count).unwrap_or(&[]));
            done += count.max(1);
        }
    }
}

/// A buffer of so many bytes.
pub(crate) fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

//! Data lent to the program where it is, instead of copied to where the program wants it.

use crate::transport::{Lane, Transport};
use p9_wire::READ_HEADER_LEN;

/// Bytes of a reply that still lie in the transport's memory, where the server may change them: they are
/// copied out in pieces as small as one likes, for instance onto the stack, and never seen in place.
///
/// Read each byte once, and believe what was read, not what a second look shows.
pub struct Span<'a> {
    bytes: Bytes<'a>,
    len: usize,
}

pub(in crate::session) enum Bytes<'a> {
    /// In the transport's memory, behind the header of the message at the head of this lane.
    Lane(&'a mut dyn Transport, Lane),
    /// Moved out of the way already.
    Own(&'a [u8]),
}

impl core::fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Span").field("len", &self.len).finish()
    }
}

impl<'a> Span<'a> {
    pub(in crate::session) fn new(bytes: Bytes<'a>, len: usize) -> Self {
        Span { bytes, len }
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
        let Some(into) = into.get_mut(..count) else {
            return 0;
        };
        match &mut self.bytes {
            Bytes::Lane(transport, lane) => {
                // Smaller than a message.
                transport.copy_out(*lane, (READ_HEADER_LEN + offset) as u32, into);
            }
            Bytes::Own(bytes) => {
                let from = bytes.get(offset..offset + count).unwrap_or(&[]);
                if from.len() == count {
                    into.copy_from_slice(from);
                }
            }
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

//! Reading and writing the little-endian fields of a message.

use core::mem;

use super::types::{Dialect, Payload};

/// Why a field could not be decoded; [`WireError`](super::WireError) adds the message and the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The message ends first.
    Short,
    /// The value is one that the protocol rules out.
    Invalid,
    /// A string lies across the seam, and the scratch space is too small to join it.
    Seam,
}

/// One whole message to be decoded, in one piece or in two.
#[derive(Debug)]
pub struct Reader<'a> {
    now: &'a [u8],
    next: &'a [u8],
    scratch: &'a mut [u8],
    /// What went wrong first since it was last asked.
    fault: Option<Fault>,
    dialect: Dialect,
}

/// Reading goes on after a fault, with values of no meaning: as with a `Writer`, it is asked for at the end of each field.
impl<'a> Reader<'a> {
    /// The message in `bytes`, from the size field on.
    pub fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self::split(bytes, &[], &mut [], dialect)
    }

    /// The message that starts in `head` and goes on in `tail`.
    ///
    /// Numbers are read across the seam and bulk data comes back as two pieces. Of all strings at
    /// most one lies across the seam; it is joined in `scratch`, which therefore has to hold the
    /// longest string that is expected. If it doesn't, decoding is
    /// [`WireError::Seam`](super::WireError::Seam).
    pub fn split(head: &'a [u8], tail: &'a [u8], scratch: &'a mut [u8], dialect: Dialect) -> Self {
        Reader {
            now: head,
            next: tail,
            scratch,
            fault: None,
            dialect,
        }
    }

    /// Notes that a value can't be read, or makes no sense.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// What went wrong first since this was last asked.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.now.len().saturating_add(self.next.len())
    }

    /// Drops what was not read yet.
    pub(super) fn skip_rest(&mut self) {
        self.now = &[];
        self.next = &[];
    }

    /// What was not read yet of a message in one piece.
    pub(super) fn into_rest(self) -> &'a [u8] {
        self.now
    }

    /// The next `N` bytes by value.
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        if let Some((array, rest)) = self.now.split_first_chunk() {
            self.now = rest;
            return *array;
        }
        let mut array = [0; N];
        self.pieces(N).copy_to(&mut array);
        array
    }

    /// The next `count` bytes in one piece, joined in the scratch space if need be.
    fn slice(&mut self, count: usize) -> &'a [u8] {
        let pieces = self.pieces(count);
        if pieces.1.is_empty() {
            return pieces.0;
        }
        let scratch = mem::take(&mut self.scratch);
        let Some((joined, rest)) = scratch.split_at_mut_checked(count) else {
            self.fail(Fault::Seam);
            return &[];
        };
        self.scratch = rest;
        pieces.copy_to(joined);
        joined
    }

    /// The next `count` bytes where they lie. The second piece is empty unless they cross the seam.
    pub(super) fn pieces(&mut self, count: usize) -> Payload<'a> {
        if self.now.is_empty() {
            self.now = mem::take(&mut self.next);
        }
        if let Some((all, rest)) = self.now.split_at_checked(count) {
            self.now = rest;
            return Payload(all, &[]);
        }
        let beyond = count.saturating_sub(self.now.len());
        let Some((tail, rest)) = self.next.split_at_checked(beyond) else {
            self.fail(Fault::Short);
            return Payload::default();
        };
        self.next = &[];
        Payload(mem::replace(&mut self.now, rest), tail)
    }
}

/// Where a message is encoded to. Goes on counting beyond the end of the buffer, so that the size
/// that would have been enough is known in the end.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
    failed: bool,
    dialect: Dialect,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buf: &'a mut [u8], dialect: Dialect) -> Self {
        Writer {
            buf,
            len: 0,
            failed: false,
            dialect,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.buf.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// Notes that a value can't be expressed in this field.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether [`fail`](Self::fail) was called since this was last asked.
    pub(super) fn take_failure(&mut self) -> bool {
        mem::take(&mut self.failed)
    }

    /// Bytes written, or that would have been.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether everything written found room.
    pub(super) fn fits(&self) -> bool {
        self.len <= self.buf.len()
    }

    /// Overwrites four bytes at the front, which have been written before.
    pub(super) fn patch_size(&mut self, size: u32) {
        if let Some(place) = self.buf.first_chunk_mut() {
            *place = size.to_le_bytes();
        }
    }
}

/// What can stand in a message.
pub(super) trait Field<'a>: Sized {
    fn put(&self, w: &mut Writer<'_>);
    /// A value of no meaning where the [`Reader`] notes a fault.
    fn get(r: &mut Reader<'a>) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Field<'_> for $t {
            fn put(&self, w: &mut Writer<'_>) {
                w.bytes(&self.to_le_bytes());
            }

            fn get(r: &mut Reader<'_>) -> Self {
                <$t>::from_le_bytes(r.array())
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

/// A string: two bytes of length, then the bytes.
impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, w: &mut Writer<'_>) {
        match u16::try_from(self.len()) {
            Ok(len) => {
                len.put(w);
                w.bytes(self);
            }
            Err(_) => w.fail(),
        }
    }

    fn get(r: &mut Reader<'a>) -> Self {
        let len: u16 = Field::get(r);
        r.slice(usize::from(len))
    }
}

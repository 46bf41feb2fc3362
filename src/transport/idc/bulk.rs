//! Buffers, and how their bytes get from one side to the other.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;

use super::event::BufferError;
use super::frame::Name;
use crate::xen::grant::GrantRef;

/// Bytes that an endpoint can register. Clones are the same memory.
pub trait LocalBuffer: Clone {
    /// Size in bytes.
    fn size(&self) -> usize;

    /// Copies the bytes from `offset` on to `into`.
    ///
    /// # Errors
    /// [`BufferError::OutOfBounds`].
    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError>;

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    /// [`BufferError::OutOfBounds`].
    fn write(&self, offset: usize, from: &[u8]) -> Result<(), BufferError>;
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From here to the other side.
    Send,
    /// From the other side to here.
    Receive,
}

/// How the bytes of buffers get from one side to the other: in frames, or copied by Xen.
pub trait Bulk {
    /// The memory of this side.
    type Buffer: LocalBuffer;
    /// What a registered buffer is reached by.
    type Lent;
    /// What is left of that when it can't be reached any more, until the other side has forgotten it.
    type Retired;

    /// Whether Xen copies.
    const GRANTS: bool;

    /// Lets the other side reach a buffer.
    ///
    /// # Errors
    /// [`BufferError::Grant`], [`BufferError::Held`].
    fn lend(&mut self, buffer: &Self::Buffer) -> Result<Self::Lent, BufferError>;

    /// The grant reference of each page.
    fn refs(lent: &Self::Lent) -> &[GrantRef];

    /// The other side can't reach it any more. Waits for nothing.
    fn end(&mut self, lent: Self::Lent) -> Self::Retired;

    /// The other side has forgotten it.
    fn forgotten(&mut self, retired: Self::Retired);

    /// Copies, if that is possible without a frame, between a range of a buffer and what is at `offset` behind
    /// references of the other side's.
    ///
    /// # Errors
    /// [`BufferError::Copy`].
    fn copy(
        &mut self,
        way: Way,
        refs: &[GrantRef],
        offset: usize,
        buffer: &Self::Buffer,
        range: Range<usize>,
    ) -> Option<Result<(), BufferError>>;
}

/// A buffer in the program's own memory.
#[derive(Clone)]
pub struct Bytes(Rc<RefCell<Box<[u8]>>>);

impl Bytes {
    /// So many zeros.
    pub fn zeroed(size: usize) -> Self {
        Bytes(Rc::new(RefCell::new(alloc::vec![0; size].into())))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.size())
    }
}

/// The range of so many bytes from `offset` on.
pub(super) fn range(offset: usize, len: usize) -> Result<Range<usize>, BufferError> {
    let end = offset.checked_add(len).ok_or(BufferError::OutOfBounds)?;
    Ok(offset..end)
}

impl LocalBuffer for Bytes {
    fn size(&self) -> usize {
        self.0.borrow().len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        let bytes = self.0.borrow();
        let from = bytes.get(range(offset, into.len())?);
        into.copy_from_slice(from.ok_or(BufferError::OutOfBounds)?);
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        let mut bytes = self.0.borrow_mut();
        let into = bytes.get_mut(range(offset, from.len())?);
        into.ok_or(BufferError::OutOfBounds)?.copy_from_slice(from);
        Ok(())
    }
}

/// The bytes of buffers go in frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFrames;

impl Bulk for InFrames {
    type Buffer = Bytes;
    type Lent = ();
    type Retired = ();

    const GRANTS: bool = false;

    fn lend(&mut self, _: &Bytes) -> Result<(), BufferError> {
        Ok(())
    }

    fn refs((): &()) -> &[GrantRef] {
        &[]
    }

    fn end(&mut self, (): ()) {}

    fn forgotten(&mut self, (): ()) {}

    fn copy(
        &mut self,
        _: Way,
        _: &[GrantRef],
        _: usize,
        _: &Bytes,
        _: Range<usize>,
    ) -> Option<Result<(), BufferError>> {
        None
    }
}

/// A reference to a registered buffer. It goes from one domain to another as [bytes](Self::to_bytes) in a message, in
/// parameters or in a status. It is of use at the endpoint that is connected to the buffer's owner, for as long as that
/// connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteBuffer {
    /// The endpoint that registered it.
    pub(super) owner: u64,
    pub(super) epoch: u64,
    pub(super) id: u16,
    pub(super) generation: u64,
    pub(super) len: u64,
}

impl RemoteBuffer {
    /// Bytes of a reference.
    pub const SIZE: usize = 34;

    pub(super) fn name(&self) -> Name {
        Name {
            id: self.id,
            generation: self.generation,
        }
    }

    /// Size of the buffer in bytes, as far as the reference tells.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The reference as it goes to another domain.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (numbers, id) = bytes.split_at_mut(32);
        let fields = [self.owner, self.epoch, self.generation, self.len];
        for (into, field) in numbers.chunks_exact_mut(8).zip(fields) {
            into.copy_from_slice(&field.to_le_bytes());
        }
        id.copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// The reference that these bytes begin with; `None` if they are too few. Whatever it says, it leads nowhere but to
    /// buffers that are registered for the endpoint that uses it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.split_first_chunk::<32>()?;
        let field = |index: usize| {
            let bytes = fields.get(index * 8..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        Some(RemoteBuffer {
            owner: field(0)?,
            epoch: field(1)?,
            generation: field(2)?,
            len: field(3)?,
            id: u16::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

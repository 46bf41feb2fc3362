//! Files that the program makes up.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use p9_wire::{Errno, OpenFlags};

use super::{copy_out, reads, writes};
use crate::Result;

type Produce = Box<dyn Fn() -> Result<Vec<u8>>>;
type Stream = Box<dyn Fn(&mut [u8]) -> Result<usize>>;
type Take = Box<dyn Fn(&[u8]) -> Result<usize>>;

enum Source {
    Nothing,
    Whole(Produce),
    Stream(Stream),
}

/// A small file that functions stand behind, such as `/dev/time` or `/xen/stats`; put in a tree by
/// [`MemTree::put_synthetic`](super::MemTree::put_synthetic).
///
/// Its size is 0 to those who ask; readers read to the end. The functions may use the name space.
///
/// ```
/// use xen9p::ns::{MemTree, Synthetic};
///
/// # fn demo() -> xen9p::fs::Result<()> {
/// let dev = MemTree::new();
/// dev.put_synthetic("/time", Synthetic::new().read(|| Ok(b"12:00\n".to_vec())))?;
/// dev.put_synthetic("/null", Synthetic::new().write(|bytes| Ok(bytes.len())))?;
/// # Ok(())
/// # }
/// ```
pub struct Synthetic {
    source: Source,
    sink: Option<Take>,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Synthetic({:#o})", self.permissions())
    }
}

impl Synthetic {
    /// A file that can be neither read nor written yet.
    pub fn new() -> Self {
        Synthetic {
            source: Source::Nothing,
            sink: None,
        }
    }

    /// Readers get what `produce` makes: the whole content, made when a handle first reads and again
    /// when it reads from the beginning.
    #[must_use]
    pub fn read(mut self, produce: impl Fn() -> Result<Vec<u8>> + 'static) -> Self {
        self.source = Source::Whole(Box::new(produce));
        self
    }

    /// Readers get a value as a line of text, as [`read`](Self::read) has it.
    #[must_use]
    pub fn read_text<T: fmt::Display>(self, value: impl Fn() -> T + 'static) -> Self {
        self.read(move || Ok(format!("{}\n", value()).into_bytes()))
    }

    /// Each read gets what `fill` puts in the buffer, whatever the offset, as from a terminal; 0 is the
    /// end.
    #[must_use]
    pub fn stream(mut self, fill: impl Fn(&mut [u8]) -> Result<usize> + 'static) -> Self {
        self.source = Source::Stream(Box::new(fill));
        self
    }

    /// Each write goes to `take`, whatever the offset; it returns how many of the bytes it took. What is
    /// opened to be emptied is left alone.
    #[must_use]
    pub fn write(mut self, take: impl Fn(&[u8]) -> Result<usize> + 'static) -> Self {
        self.sink = Some(Box::new(take));
        self
    }

    /// Each write is a line of text, which `take` gets without the end of the line. What is no UTF-8 is EINVAL.
    #[must_use]
    pub fn write_text(self, take: impl Fn(&str) -> Result<()> + 'static) -> Self {
        self.write(move |bytes| {
            let text = str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
            take(text.trim_end_matches(['\n', '\r']))?;
            Ok(bytes.len())
        })
    }

    /// What it has functions for, as permission bits.
    pub(super) fn permissions(&self) -> u32 {
        let read = match self.source {
            Source::Nothing => 0,
            Source::Whole(_) | Source::Stream(_) => 0o444,
        };
        read | if self.sink.is_some() { 0o222 } else { 0 }
    }

    /// Opens the file.
    ///
    /// # Errors
    /// EACCES for what it has no function for.
    pub(super) fn open(file: Rc<Synthetic>, flags: OpenFlags) -> Result<Handle> {
        let unreadable = reads(flags) && matches!(file.source, Source::Nothing);
        if unreadable || (writes(flags) && file.sink.is_none()) {
            return Err(Errno::EACCES.into());
        }
        Ok(Handle {
            file,
            flags,
            content: RefCell::new(None),
        })
    }
}

/// What an open synthetic file has of its own.
pub(super) struct Handle {
    file: Rc<Synthetic>,
    flags: OpenFlags,
    /// What was produced for this handle.
    content: RefCell<Option<Vec<u8>>>,
}

impl Handle {
    pub(super) fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        if !reads(self.flags) {
            return Err(Errno::EBADF.into());
        }
        if into.is_empty() {
            return Ok(0);
        }
        let produce = match &self.file.source {
            Source::Nothing => return Err(Errno::EBADF.into()),
            // What claims to be more than the buffer holds is cut to that.
            Source::Stream(fill) => return fill(into).map(|count| count.min(into.len())),
            Source::Whole(produce) => produce,
        };
        if offset == 0 || self.content.borrow().is_none() {
            // Nothing is borrowed meanwhile.
            let content = produce()?;
            *self.content.borrow_mut() = Some(content);
        }
        let content = self.content.borrow();
        let content = content.as_deref().unwrap_or(&[]);
        Ok(copy_out(content, into, offset))
    }

    pub(super) fn write(&self, from: &[u8]) -> Result<usize> {
        match &self.file.sink {
            Some(take) if writes(self.flags) => Ok(take(from)?.min(from.len())),
            _ => Err(Errno::EBADF.into()),
        }
    }
}

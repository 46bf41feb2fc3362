//! An open file.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use p9_wire::SetAttr;

use super::element::Mounted;
use super::ops::{ATTRIBUTES, mode, size};
use crate::drive::block_on_pinned;
use crate::erased::Boxed;
use crate::{DynFile, Error, FileTimes, Metadata, Permissions, Result, SeekFrom};

/// Room to begin with and the most to make at a time when a file is read to its end, in bytes.
const FIRST_ROOM: usize = 16 << 10;
const MOST_ROOM: usize = 4 << 20;

/// An open file of a [`Namespace`](super::Namespace), with a position; the counterpart of
/// `fs::File`, with the same methods less the locks and the lent reads.
///
/// Dropping a file closes it; [`close`](Self::close) also reports errors.
pub struct File {
    inner: DynFile,
    /// How to wait for it, and what keeps its tree mounted.
    tree: Rc<Mounted>,
    append: bool,
    /// `None` after something was appended: at the end, wherever that is.
    position: Cell<Option<u64>>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("append", &self.append)
            .field("position", &self.position.get())
            .finish_non_exhaustive()
    }
}

impl File {
    pub(super) fn new(inner: DynFile, tree: Rc<Mounted>, append: bool) -> Self {
        File {
            inner,
            tree,
            append,
            position: Cell::new(Some(0)),
        }
    }

    fn run<T>(&self, mut operation: Boxed<'_, T>) -> Result<T> {
        block_on_pinned(&*self.tree.driver, operation.as_mut())
    }

    fn setattr(&self, attr: SetAttr) -> Result<()> {
        self.run(self.inner.any().setattr(&attr))
    }

    /// Reads at the position and moves it. Returns how many bytes; 0 means end of file (or an empty
    /// buffer).
    ///
    /// # Errors
    /// EBADF for a file that is not open for reading.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        let position = self.stream_position()?;
        let count = self.read_at(into, position)?;
        self.position.set(Some(position + count as u64));
        Ok(count)
    }

    /// Fills the buffer from the position on.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] when the file ends before.
    pub fn read_exact(&self, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read(rest)? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Reads from the position to the end of the file and appends it to `into`; returns how many bytes
    /// that were. On an error what was read before it has been appended.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn read_to_end(&self, into: &mut Vec<u8>) -> Result<usize> {
        let begin = into.len();
        let mut room = FIRST_ROOM;
        loop {
            let start = into.len();
            into.try_reserve(room).map_err(|_| Error::OutOfMemory)?;
            into.resize(start + room, 0);
            let count = self.read(into.get_mut(start..).unwrap_or(&mut []));
            into.truncate(start + count.unwrap_or(0));
            match count? {
                0 => return Ok(into.len() - begin),
                // A large file: more requests can travel at once.
                count if count == room => room = (room * 4).min(MOST_ROOM),
                _ => {}
            }
        }
    }

    /// As [`read_to_end`](Self::read_to_end), for text.
    ///
    /// # Errors
    /// [`Error::NotUtf8`]; `into` is then unchanged.
    pub fn read_to_string(&self, into: &mut String) -> Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Error::NotUtf8)?;
        into.try_reserve(text.len())
            .map_err(|_| Error::OutOfMemory)?;
        into.push_str(text);
        Ok(bytes.len())
    }

    /// Writes at the position and moves it. Returns how many bytes were taken, which may be fewer.
    ///
    /// # Errors
    /// EBADF for a file that is not open for writing.
    pub fn write(&self, from: &[u8]) -> Result<usize> {
        if self.append {
            let count = self.write_at(from, 0)?;
            self.position.set(None);
            return Ok(count);
        }
        let position = self.stream_position()?;
        let count = self.write_at(from, position)?;
        self.position.set(Some(position + count as u64));
        Ok(count)
    }

    /// Writes all bytes at the position.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_all(&self, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write(rest)? {
                0 => return Err(Error::WriteZero),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Reads at `offset`, whatever the position.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let driver = &*self.tree.driver;
        self.inner.any().read_here(driver, into, offset, false)
    }

    /// Writes at `offset`, whatever the position; a file opened to append is written at its end all the
    /// same.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        let driver = &*self.tree.driver;
        self.inner.any().write_here(driver, from, offset, false)
    }

    /// Fills the buffer from `offset` on, whatever the position.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] when the file ends before.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(done as u64))? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Writes all bytes at `offset`, whatever the position.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn write_all_at(&self, from: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, offset.saturating_add(done as u64))? {
                0 => return Err(Error::WriteZero),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Moves the position and returns the new one. Beyond the end is legal.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a position before the beginning.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.stream_position()?.checked_add_signed(by),
            SeekFrom::End(by) => self.metadata()?.len().checked_add_signed(by),
        };
        let position = position
            .filter(|&position| position <= i64::MAX as u64)
            .ok_or(Error::InvalidInput(
                "a position before the beginning of the file or beyond 2^63 - 1",
            ))?;
        self.position.set(Some(position));
        Ok(position)
    }

    /// Moves the position to the beginning.
    ///
    /// # Errors
    /// None in practice.
    pub fn rewind(&self) -> Result<()> {
        self.seek(SeekFrom::Start(0)).map(drop)
    }

    /// The position. Asks the tree only after a write to a file opened to append.
    ///
    /// # Errors
    /// What the tree says.
    pub fn stream_position(&self) -> Result<u64> {
        match self.position.get() {
            Some(position) => Ok(position),
            None => self.seek(SeekFrom::End(0)),
        }
    }

    /// Attributes of the file.
    ///
    /// # Errors
    /// What the tree says.
    pub fn metadata(&self) -> Result<Metadata> {
        let attr = self.run(self.inner.any().getattr(ATTRIBUTES))?;
        Ok(Metadata::from(&attr))
    }

    /// Cuts or extends (with zeros) the file to `len` bytes. The position stays.
    ///
    /// # Errors
    /// EINVAL for a file that is not open for writing.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.setattr(size(len))
    }

    /// Changes the permission bits.
    ///
    /// # Errors
    /// What the tree says.
    pub fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        self.setattr(mode(permissions))
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// What the tree says.
    pub fn set_times(&self, times: FileTimes) -> Result<()> {
        let attr = times.to_setattr();
        match attr.valid.is_empty() {
            true => Ok(()),
            false => self.setattr(attr),
        }
    }

    /// Returns when the tree has all that was written: at once, as nothing is written behind in a name space.
    ///
    /// # Errors
    /// None.
    pub fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Returns when content and attributes are as safe as the tree can make them.
    ///
    /// # Errors
    /// As `fs::File::sync_all`.
    pub fn sync_all(&self) -> Result<()> {
        self.run(self.inner.any().fsync(false))
    }

    /// Returns when the content is as safe as the tree can make it.
    ///
    /// # Errors
    /// As [`sync_all`](Self::sync_all).
    pub fn sync_data(&self) -> Result<()> {
        self.run(self.inner.any().fsync(true))
    }

    /// Closes the file and reports what the tree says. The file is closed even then.
    ///
    /// # Errors
    /// What the tree says.
    pub fn close(self) -> Result<()> {
        let File { inner, tree, .. } = self;
        let mut closed = inner.into_any().close();
        block_on_pinned(&*tree.driver, closed.as_mut())
    }
}

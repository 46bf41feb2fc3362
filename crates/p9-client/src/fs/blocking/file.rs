//! An open file.

use alloc::string::String;
use alloc::vec::Vec;

use crate::fs::aio;
use crate::fs::{FileTimes, LockRange, Metadata, Permissions, Result, SeekFrom, Span};

/// An open file with a position.
///
/// The methods are those of `std::fs::File` and of its traits `Read`, `Write`, `Seek` and `FileExt`.
/// All take `&self`: the position lives in the handle. Large transfers are cut into requests that
/// fit the message size and travel all at once. Unless the file was opened with
/// [`OpenOptions::write_behind`](crate::fs::OpenOptions::write_behind), nothing that is written is kept
/// in the client, and there is nothing to flush.
///
/// Dropping a file closes it without waiting for the answer; [`close`](Self::close) waits and
/// reports errors.
///
/// ```
/// use xen9p::fs::{Fs, OpenOptions, Result, SeekFrom};
///
/// /// Counts one up in a file that holds eight bytes.
/// fn count_up(fs: &Fs, path: &str) -> Result<u64> {
///     let file = OpenOptions::new().read(true).write(true).open(fs, path)?;
///     let mut bytes = [0; 8];
///     file.read_exact(&mut bytes)?;
///     let count = u64::from_le_bytes(bytes) + 1;
///     file.seek(SeekFrom::Start(0))?;
///     file.write_all(&count.to_le_bytes())?;
///     file.sync_data()?;
///     file.close()?;
///     Ok(count)
/// }
/// ```
#[derive(Debug)]
pub struct File {
    inner: aio::File,
}

impl File {
    pub(super) fn new(inner: aio::File) -> Self {
        File { inner }
    }

    /// The asynchronous face of the same open file.
    pub fn into_async(self) -> aio::File {
        self.inner
    }

    /// Reads at the position and moves it. Returns how many bytes; 0 means end of file (or an empty
    /// buffer). Fewer than asked for does not mean that the end is near.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        self.run(self.inner.read(into))
    }

    /// Fills the buffer from the position on.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`](crate::fs::Error::UnexpectedEof) when the file ends before; the
    /// position has then moved over what was read.
    pub fn read_exact(&self, into: &mut [u8]) -> Result<()> {
        self.run(self.inner.read_exact(into))
    }

    /// Reads from the position to the end of the file and appends it to `into`; returns how many
    /// bytes that were. On an error what was read before it has been appended.
    pub fn read_to_end(&self, into: &mut Vec<u8>) -> Result<usize> {
        self.run(self.inner.read_to_end(into))
    }

    /// As [`read_to_end`](Self::read_to_end), for text.
    ///
    /// # Errors
    /// [`Error::NotUtf8`](crate::fs::Error::NotUtf8); `into` is then unchanged.
    pub fn read_to_string(&self, into: &mut String) -> Result<usize> {
        self.run(self.inner.read_to_string(into))
    }

    /// Writes at the position and moves it. Returns how many bytes the server took, which may be
    /// fewer; 0 only for an empty buffer.
    pub fn write(&self, from: &[u8]) -> Result<usize> {
        self.run(self.inner.write(from))
    }

    /// Writes all bytes at the position. After an error the position tells how many were taken.
    pub fn write_all(&self, from: &[u8]) -> Result<()> {
        self.run(self.inner.write_all(from))
    }

    /// Reads at `offset`, whatever the position; else as [`read`](Self::read).
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.run(self.inner.read_at(into, offset))
    }

    /// Reads at `offset`, `len` bytes at most, without a buffer: shows them to `see` where they have arrived,
    /// in order, one [`Span`] for each request of as many as are in flight at once. For who looks at each
    /// byte once, as a checksum does: that saves copying them. Returns how many there were: 0 at the end of
    /// the file.
    ///
    /// # Panics
    /// If `see` uses this mount.
    ///
    /// ```
    /// use xen9p::fs::{File, Result};
    ///
    /// /// Counts the lines of a file.
    /// fn lines(file: &File) -> Result<usize> {
    ///     let (mut lines, mut offset) = (0, 0);
    ///     loop {
    ///         let count = file.read_lent_at(offset, 1 << 20, |span| {
    ///             span.for_each_piece::<1024>(|piece| {
    ///                 lines += piece.iter().filter(|&&byte| byte == b'\n').count();
    ///             });
    ///         })?;
    ///         if count == 0 {
    ///             return Ok(lines);
    ///         }
    ///         offset += count as u64;
    ///     }
    /// }
    /// ```
    pub fn read_lent_at(
        &self,
        offset: u64,
        len: usize,
        see: impl FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        self.run(self.inner.read_lent_at(offset, len, see))
    }

    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`](crate::fs::Error::UnexpectedEof).
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<()> {
        self.run(self.inner.read_exact_at(into, offset))
    }

    /// Writes at `offset`, whatever the position; else as [`write`](Self::write). A file opened to
    /// append is written at its end all the same.
    ///
    /// A large write travels as several requests at once. If one of them fails (ENOSPC, say) the number that is
    /// returned counts the bytes before it; those that came after it may be on the server all the same, behind a
    /// hole, and make the file longer than that number says. Write in pieces of
    /// [`MountOptions::msize`](crate::fs::MountOptions::msize) or less where that matters, or cut the file with
    /// [`set_len`](Self::set_len) after such an error.
    pub fn write_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.run(self.inner.write_at(from, offset))
    }

    /// Writes all bytes at `offset`.
    pub fn write_all_at(&self, from: &[u8], offset: u64) -> Result<()> {
        self.run(self.inner.write_all_at(from, offset))
    }

    /// Moves the position and returns the new one. Beyond the end is legal. Asks the server only
    /// for [`SeekFrom::End`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::fs::Error::InvalidInput) for a position before the beginning.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        self.run(self.inner.seek(to))
    }

    /// Moves the position to the beginning.
    pub fn rewind(&self) -> Result<()> {
        self.seek(SeekFrom::Start(0)).map(drop)
    }

    /// The position. Asks the server only after a write to a file opened to append.
    pub fn stream_position(&self) -> Result<u64> {
        self.seek(SeekFrom::Current(0))
    }

    /// Attributes of the file.
    pub fn metadata(&self) -> Result<Metadata> {
        self.run(self.inner.metadata())
    }

    /// Cuts or extends (with zeros) the file to `size` bytes. The position stays.
    pub fn set_len(&self, size: u64) -> Result<()> {
        self.run(self.inner.set_len(size))
    }

    /// Changes the permission bits.
    pub fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        self.run(self.inner.set_permissions(permissions))
    }

    /// Changes access and modification time.
    pub fn set_times(&self, times: FileTimes) -> Result<()> {
        self.run(self.inner.set_times(times))
    }

    /// Returns when the server has all that was
    /// [written behind](crate::fs::OpenOptions::write_behind); at once if the file was not opened for
    /// that.
    pub fn flush(&self) -> Result<()> {
        self.run(self.inner.flush())
    }

    /// Returns when the server has content and attributes on stable storage.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::fs::Error::Unsupported) in 9P2000.u: QEMU never answers its way of asking.
    pub fn sync_all(&self) -> Result<()> {
        self.run(self.inner.sync_all())
    }

    /// Returns when the server has the content on stable storage.
    ///
    /// # Errors
    /// As [`sync_all`](Self::sync_all).
    pub fn sync_data(&self) -> Result<()> {
        self.run(self.inner.sync_data())
    }

    /// Tries to lock bytes of the file, `exclusive` or shared. `None` when someone else holds a lock
    /// that conflicts.
    ///
    /// What a lock is worth is the server's affair: diod locks for real, the whole file whatever
    /// the range; **QEMU grants every lock and excludes nobody**.
    pub fn try_lock(&self, range: LockRange, exclusive: bool) -> Result<Option<FileLock<'_>>> {
        let granted = self.run(self.inner.try_lock(range, exclusive))?;
        Ok(granted.then_some(FileLock { file: self, range }))
    }

    /// As [`try_lock`](Self::try_lock), but asks again, at growing intervals up to 200 ms, until the
    /// lock is granted or the mount's time limit has passed.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::fs::Error::TimedOut).
    pub fn lock(&self, range: LockRange, exclusive: bool) -> Result<FileLock<'_>> {
        self.run(self.inner.lock(range, exclusive))?;
        Ok(FileLock { file: self, range })
    }

    /// Closes the file, waits for the server and reports what it says. The file is closed even then.
    pub fn close(self) -> Result<()> {
        let session = self.inner.session().clone();
        session.block_on(self.inner.close())
    }

    pub(super) fn run<T>(&self, operation: impl Future<Output = T>) -> T {
        self.inner.session().block_on(operation)
    }
}

/// A lock on bytes of a file; dropping it unlocks them.
#[derive(Debug)]
#[must_use = "dropping it unlocks"]
pub struct FileLock<'a> {
    file: &'a File,
    range: LockRange,
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.file.run(self.file.inner.unlock(self.range)) {
            log::warn!("unlocking a file: {error}");
        }
    }
}

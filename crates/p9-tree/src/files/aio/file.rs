//! An open file.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use p9_wire::{Errno, LockFlags, LockKind, LockStatus, SetAttr};

use super::{ATTRIBUTES, mode_of, size_of};
use crate::files::failed;
use crate::{
    Error, FileTimes, Lock, LockRange, Metadata, OpenFile, OpenOptions, Permissions, Result,
    SeekFrom, Span,
};

/// Position of a file that was appended to: at its end, wherever that is.
const AT_END: u64 = u64::MAX;

/// Who asks for locks, as servers tell owners apart.
const LOCK_OWNER: (u32, &[u8]) = (1, b"xen9p");

/// Least bytes to make room for at a time, those to begin with when a file of unknown size is read, and
/// the most.
pub(super) const LEAST_ROOM: usize = 8 << 10;
const FIRST_ROOM: usize = 64 << 10;
const MOST_ROOM: usize = 16 << 20;

/// What is read to the end of. Where that is given up half-way, nothing stays but what was there before: the
/// position has not moved either.
struct Grown<'a> {
    bytes: &'a mut Vec<u8>,
    keep: usize,
}

impl Drop for Grown<'_> {
    fn drop(&mut self) {
        self.bytes.truncate(self.keep);
    }
}

/// An open file with a position; see [`files::File`](crate::files::File), whose methods these are.
///
/// They may be used concurrently; the position is then that of the operation that ends last.
#[derive(Debug)]
pub struct File<F> {
    inner: F,
    append: bool,
    position: Cell<u64>,
}

impl<F: OpenFile> File<F> {
    file_operations!(asynchronous);

    pub(super) fn new(mut inner: F, options: &OpenOptions) -> Self {
        let behind = options.write_behind_limit();
        if behind >= 2 {
            inner.write_behind(behind);
        }
        File {
            inner,
            append: options.is_append(),
            position: Cell::new(0),
        }
    }

    /// The tree's own open file.
    pub fn get_ref(&self) -> &F {
        &self.inner
    }

    /// The same, instead of this one.
    pub fn into_inner(self) -> F {
        self.inner
    }

    /// The same file, for callers that wait by its driver for several operations at the same time.
    pub(in crate::files) fn concurrent(self) -> Self {
        File {
            inner: self.inner.concurrent(),
            ..self
        }
    }

    pub(in crate::files) fn driver(&self) -> &dyn crate::Driver {
        self.inner.driver()
    }

    /// Tries to lock bytes of the file, `exclusive` or shared: whether the lock was granted. Not released by itself, but by
    /// [`unlock`](Self::unlock) or when the file is closed.
    ///
    /// # Errors
    /// EOPNOTSUPP where there are no locks.
    pub async fn try_lock(&self, range: LockRange, exclusive: bool) -> Result<bool> {
        let lock = lock_of(range, exclusive);
        match self
            .inner
            .lock(&lock, LockFlags::empty())
            .await
            .map_err(failed)?
        {
            LockStatus::SUCCESS => Ok(true),
            LockStatus::BLOCKED | LockStatus::GRACE => Ok(false),
            _ => Err(failed(Errno::ENOLCK.into())),
        }
    }

    /// As [`try_lock`](Self::try_lock), but asks again until the lock is granted or the time limit of the tree has passed.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub async fn lock(&self, range: LockRange, exclusive: bool) -> Result<()> {
        let locked = self.inner.lock_in_time(&lock_of(range, exclusive)).await;
        match locked.map_err(failed)? {
            LockStatus::SUCCESS => Ok(()),
            LockStatus::BLOCKED | LockStatus::GRACE => Err(failed(Error::TimedOut)),
            _ => Err(failed(Errno::ENOLCK.into())),
        }
    }

    /// Releases the bytes that [`try_lock`](Self::try_lock) or [`lock`](Self::lock) took.
    ///
    /// # Errors
    /// What the tree says.
    pub async fn unlock(&self, range: LockRange) -> Result<()> {
        let lock = Lock {
            kind: LockKind::UNLOCK,
            ..lock_of(range, false)
        };
        let unlocked = self.inner.lock(&lock, LockFlags::empty()).await;
        unlocked.map(drop).map_err(failed)
    }

    /// Closes the file, waits for the tree and reports what it says. The file is closed even then.
    ///
    /// # Errors
    /// What the tree says.
    pub async fn close(self) -> Result<()> {
        self.inner.close().await.map_err(failed)
    }

    pub(in crate::files) async fn take(&self, into: &mut [u8]) -> Result<usize> {
        let position = self.position().await?;
        let count = self.inner.read_next(into, position).await?;
        self.position.set(position + count as u64);
        Ok(count)
    }

    pub(in crate::files) async fn take_all(&self, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.take(rest).await? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    pub(in crate::files) async fn take_rest(&self, into: &mut Vec<u8>) -> Result<usize> {
        let position = self.position().await?;
        let mut count = 0;
        let mut grown = Grown {
            keep: into.len(),
            bytes: into,
        };
        let result = self.append_rest(grown.bytes, position, &mut count).await;
        grown.keep = grown.bytes.len();
        self.position.set(position + count as u64);
        result.map(|()| count)
    }

    /// Appends what the file has from `position` on to `into`; counts the bytes in `done`.
    async fn append_rest(&self, into: &mut Vec<u8>, position: u64, done: &mut usize) -> Result<()> {
        let chunk = self.inner.chunk().max(1);
        let mut room = chunk.clamp(LEAST_ROOM, FIRST_ROOM);
        loop {
            let start = into.len();
            into.try_reserve(room).map_err(|_| Error::OutOfMemory)?;
            into.resize(start + room, 0);
            let rest = into.get_mut(start..).unwrap_or(&mut []);
            let count = self.inner.read(rest, position + *done as u64).await;
            into.truncate(start + count.unwrap_or(0));
            let count = count?;
            if count == 0 {
                return Ok(());
            }
            let first = *done == 0;
            *done += count;
            if count < room && room <= self.inner.whole_reads() {
                return Ok(());
            }
            if first && count == room {
                // A large file: knowing how large saves memory and lets all requests go at once.
                let size = self.stat().await?.len();
                let left = size.saturating_sub(position + *done as u64);
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                // One more than is left, so that the end shows in the last read.
                let left = left.saturating_add(1);
                // Without success if the size is a lie: then it goes on in smaller steps.
                let _ = into.try_reserve_exact(left);
                room = left.clamp(LEAST_ROOM, (MOST_ROOM / chunk).max(1) * chunk);
            }
        }
    }

    pub(in crate::files) async fn take_text(&self, into: &mut String) -> Result<usize> {
        let mut bytes = Vec::new();
        self.take_rest(&mut bytes).await?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Error::NotUtf8)?;
        into.try_reserve(text.len())
            .map_err(|_| Error::OutOfMemory)?;
        into.push_str(text);
        Ok(bytes.len())
    }

    pub(in crate::files) async fn give(&self, from: &[u8]) -> Result<usize> {
        if self.append {
            let count = self.inner.write(from, 0).await?;
            self.position.set(AT_END);
            return Ok(count);
        }
        let position = self.position().await?;
        let count = self.inner.write_next(from, position).await?;
        self.position.set(position + count as u64);
        Ok(count)
    }

    pub(in crate::files) async fn give_all(&self, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            match self.give(rest).await? {
                0 => return Err(Error::WriteZero),
                count => done += count,
            }
        }
        Ok(())
    }

    pub(in crate::files) async fn take_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read(into, offset).await
    }

    pub(in crate::files) async fn show_at(
        &self,
        offset: u64,
        len: usize,
        mut see: impl FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        self.inner.read_lent(offset, len, &mut see).await
    }

    pub(in crate::files) async fn take_all_at(&self, into: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let offset = offset.saturating_add(done as u64);
            match self.inner.read(rest, offset).await? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    pub(in crate::files) async fn give_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.inner.write(from, offset).await
    }

    pub(in crate::files) async fn give_all_at(&self, from: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let offset = offset.saturating_add(done as u64);
            match self.inner.write(rest, offset).await? {
                0 => return Err(Error::WriteZero),
                count => done += count,
            }
        }
        Ok(())
    }

    pub(in crate::files) async fn move_to(&self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position().await?.checked_add_signed(by),
            SeekFrom::End(by) => self.stat().await?.len().checked_add_signed(by),
        };
        let position = position
            .filter(|&position| position <= i64::MAX as u64)
            .ok_or(Error::InvalidInput(
                &"seek to before the beginning or beyond 2^63 - 1",
            ))?;
        self.position.set(position);
        Ok(position)
    }

    pub(in crate::files) async fn move_back(&self) -> Result<()> {
        self.position.set(0);
        Ok(())
    }

    pub(in crate::files) async fn position(&self) -> Result<u64> {
        if self.position.get() == AT_END {
            let size = self.stat().await?.len();
            self.position.set(size);
        }
        Ok(self.position.get())
    }

    pub(in crate::files) async fn stat(&self) -> Result<Metadata> {
        stat_open(&self.inner).await
    }

    pub(in crate::files) async fn change(&self, attr: SetAttr) -> Result<()> {
        match attr.valid.is_empty() {
            true => Ok(()),
            false => self.inner.setattr(&attr).await,
        }
    }

    pub(in crate::files) async fn settle(&self) -> Result<()> {
        self.inner.flush().await
    }

    pub(in crate::files) async fn sync(&self, data_only: bool) -> Result<()> {
        self.inner.fsync(data_only).await
    }
}

/// Attributes of an open file.
pub(super) async fn stat_open<F: OpenFile>(file: &F) -> Result<Metadata> {
    Ok(Metadata::from(&file.getattr(ATTRIBUTES).await?))
}

fn lock_of(range: LockRange, exclusive: bool) -> Lock<'static> {
    Lock {
        kind: match exclusive {
            true => LockKind::WRITE,
            false => LockKind::READ,
        },
        start: range.start,
        length: range.length,
        owner: LOCK_OWNER.0,
        client: LOCK_OWNER.1,
    }
}

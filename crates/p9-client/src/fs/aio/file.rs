//! An open file.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;

use super::ahead::Ahead;
use super::identity::check_identity;
use super::{Fs, node};
use crate::Dialect;
use crate::fs::{
    Error, FileTimes, LockRange, Metadata, OpenOptions, Permissions, Result, SeekFrom,
};
use crate::session::{Fid, Session, Span, WriteBehindQueue};
use p9_tree::CleanPath;
use p9_wire::{Errno, LockKind, LockStatus, Qid, QidKind};

/// Position of a file that was appended to: at its end, wherever that is.
const AT_END: u64 = u64::MAX;

/// Who asks for locks, as servers tell owners apart.
const LOCK_OWNER: (u32, &[u8]) = (1, b"xen9p");

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

/// The asynchronous form of [`crate::fs::File`].
///
/// Its functions fail as their blocking forms do. They may be used concurrently; the position is then
/// that of the operation that ends last.
pub struct File {
    fid: Fid,
    qid: Qid,
    iounit: u32,
    options: OpenOptions,
    path: CleanPath,
    /// How often the mount had changed names when this file was known to be itself.
    changes_seen: Cell<u64>,
    position: Cell<u64>,
    /// How long the file is as far as this handle knows, if it is open to append.
    known_len: Cell<Option<u64>>,
    pub(super) ahead: RefCell<Ahead>,
    /// What is to be written behind, if the file was opened for that.
    behind: Option<RefCell<WriteBehindQueue>>,
    /// Also keeps the root alive as long as the file.
    fs: Fs,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.clone().into_bytes();
        f.debug_struct("File")
            .field("path", &String::from_utf8_lossy(&path))
            .field("fid", &self.fid)
            .field("qid", &self.qid)
            .field("read", &self.options.is_read())
            .field("write", &self.options.is_write())
            .finish_non_exhaustive()
    }
}

impl File {
    pub(super) fn new(
        fs: &Fs,
        fid: Fid,
        qid: Qid,
        iounit: u32,
        options: &OpenOptions,
        path: CleanPath,
    ) -> Self {
        let mut file = File {
            fid,
            qid,
            iounit,
            options: *options,
            path,
            changes_seen: Cell::new(fs.mount.changes_of_names.get()),
            position: Cell::new(0),
            known_len: Cell::new((options.is_truncate() || options.is_create_new()).then_some(0)),
            ahead: RefCell::default(),
            behind: None,
            fs: fs.clone(),
        };
        let limit = options.write_behind_limit();
        if limit >= 2 {
            file.behind = Some(RefCell::new(WriteBehindQueue::new(limit, file.chunk())));
        }
        file
    }

    /// The session under this file.
    pub fn session(&self) -> &Session {
        self.fid.session()
    }

    pub(super) fn fid(&self) -> &Fid {
        &self.fid
    }

    /// Most bytes to read ahead.
    pub(super) fn read_ahead_limit(&self) -> usize {
        self.fs.mount.read_ahead.min(self.chunk())
    }

    /// Most bytes in one request.
    pub(super) fn chunk(&self) -> usize {
        let most = self.session().msize() - p9_wire::IO_HEADER_LEN;
        let chunk = match self.iounit {
            0 => most,
            iounit => iounit.min(most),
        };
        chunk as usize
    }

    /// The most bytes that a read gets in one piece, unless the file ends: what the iounit promises (open(5)
    /// of Plan 9). 0 where the server promises nothing.
    pub(super) fn whole_reads(&self) -> usize {
        match self.iounit {
            0 => 0,
            _ => self.chunk(),
        }
    }

    /// Writes to a new file what fits into one request, and closes it. Says how much the server took.
    pub(super) async fn write_and_close(self, content: &[u8]) -> Result<usize> {
        self.fid.write_and_close(content).await
    }

    /// The asynchronous form of [`File::read`](crate::fs::File::read).
    pub async fn read(&self, into: &mut [u8]) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        let position = self.position().await?;
        let count = self.read_ahead(into, position).await?;
        self.position.set(position + count as u64);
        Ok(count)
    }

    /// The asynchronous form of [`File::read_exact`](crate::fs::File::read_exact).
    pub async fn read_exact(&self, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read(rest).await? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    /// The asynchronous form of [`File::read_to_end`](crate::fs::File::read_to_end).
    pub async fn read_to_end(&self, into: &mut Vec<u8>) -> Result<usize> {
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

    /// The asynchronous form of [`File::read_to_string`](crate::fs::File::read_to_string).
    pub async fn read_to_string(&self, into: &mut String) -> Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).await?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Error::NotUtf8)?;
        into.try_reserve(text.len())
            .map_err(|_| Error::OutOfMemory)?;
        into.push_str(text);
        Ok(bytes.len())
    }

    /// The asynchronous form of [`File::write`](crate::fs::File::write).
    pub async fn write(&self, from: &[u8]) -> Result<usize> {
        if self.options.is_append() {
            let count = self.write_at(from, 0).await?;
            self.position.set(AT_END);
            return Ok(count);
        }
        let position = self.position().await?;
        let count = if (1..self.options.write_behind_limit()).contains(&from.len()) {
            poll_fn(|cx| {
                self.tell(self.poll_behind(cx, |behind, cx| {
                    behind.poll_write(cx, &self.fid, position, from)
                }))
            })
            .await?
        } else {
            self.write_at(from, position).await?
        };
        self.position.set(position + count as u64);
        Ok(count)
    }

    /// The asynchronous form of [`File::write_all`](crate::fs::File::write_all).
    pub async fn write_all(&self, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.write(rest).await?;
        }
        Ok(())
    }

    /// The asynchronous form of [`File::read_at`](crate::fs::File::read_at).
    pub async fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        self.fid.read_at(offset, into, self.iounit).await
    }

    /// The asynchronous form of [`File::read_lent_at`](crate::fs::File::read_lent_at).
    pub async fn read_lent_at(
        &self,
        offset: u64,
        len: usize,
        mut see: impl FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        self.fid
            .read_lent_at(offset, len, &mut see, self.iounit)
            .await
    }

    /// The asynchronous form of [`File::read_exact_at`](crate::fs::File::read_exact_at).
    pub async fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let offset = offset.saturating_add(done as u64);
            match self.read_at(rest, offset).await? {
                0 => return Err(Error::UnexpectedEof),
                count => done += count,
            }
        }
        Ok(())
    }

    /// The asynchronous form of [`File::write_at`](crate::fs::File::write_at).
    pub async fn write_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.flush().await?;
        if !self.options.is_append() {
            return self.fid.write_at(offset, from, self.iounit, false).await;
        }
        let len = match self.known_len.get() {
            // The server appends, wherever that is; one that does not is told where the end was last.
            Some(len) if node::is_linux(&self.fid) => len,
            // As near as one gets: someone else may append in between.
            _ => self.metadata().await?.len(),
        };
        let count = self.fid.write_at(len, from, self.iounit, true).await?;
        self.known_len.set(Some(len + count as u64));
        Ok(count)
    }

    /// The asynchronous form of [`File::write_all_at`](crate::fs::File::write_all_at).
    pub async fn write_all_at(&self, from: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let offset = offset.saturating_add(done as u64);
            done += self.write_at(rest, offset).await?;
        }
        Ok(())
    }

    /// The asynchronous form of [`File::seek`](crate::fs::File::seek).
    pub async fn seek(&self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position().await?.checked_add_signed(by),
            SeekFrom::End(by) => self.metadata().await?.len().checked_add_signed(by),
        };
        let position = position
            .filter(|&position| position <= i64::MAX as u64)
            .ok_or(Error::InvalidInput(
                "seek to before the beginning or beyond 2^63 - 1",
            ))?;
        self.position.set(position);
        Ok(position)
    }

    /// The position as a number.
    async fn position(&self) -> Result<u64> {
        if self.position.get() == AT_END {
            let size = self.metadata().await?.len();
            self.position.set(size);
        }
        Ok(self.position.get())
    }

    /// The asynchronous form of [`File::metadata`](crate::fs::File::metadata).
    pub async fn metadata(&self) -> Result<Metadata> {
        self.settle().await?;
        if self.path.is_root() && self.session().dialect() == Dialect::Unix {
            // xen-9pfsd dies when it is asked for them, and takes the files of all its other guests along.
            return Ok(Metadata::of_dir(self.qid));
        }
        let metadata = node::stat(&self.fid).await?;
        if self.options.is_append() {
            self.known_len.set(Some(metadata.len()));
        }
        Ok(metadata)
    }

    /// Refuses to read a directory as a file. Servers differ: some refuse with another error, some give entries.
    fn check_readable(&self) -> Result<()> {
        match self.qid.kind.contains(QidKind::DIR) {
            true => Err(Errno::EISDIR.into()),
            false => Ok(()),
        }
    }

    async fn check_identity(&self) -> Result<()> {
        let (fs, path) = (&self.fs, &self.path);
        check_identity(fs, &self.fid, self.qid, path, &self.changes_seen).await
    }

    /// The asynchronous form of [`File::set_len`](crate::fs::File::set_len).
    pub async fn set_len(&self, size: u64) -> Result<()> {
        // Servers that truncate by path do not check this.
        if !self.options.is_write() {
            return Err(Error::InvalidInput("the file is not open for writing"));
        }
        self.settle().await?;
        self.known_len.set(None);
        self.check_identity().await?;
        node::set_size(&self.fid, size).await
    }

    /// The asynchronous form of [`File::set_permissions`](crate::fs::File::set_permissions).
    pub async fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        self.settle().await?;
        self.check_identity().await?;
        node::set_mode(&self.fid, None, permissions).await
    }

    /// The asynchronous form of [`File::set_times`](crate::fs::File::set_times).
    pub async fn set_times(&self, times: FileTimes) -> Result<()> {
        self.settle().await?;
        self.check_identity().await?;
        node::set_times(&self.fid, times).await
    }

    /// The asynchronous form of [`File::flush`](crate::fs::File::flush).
    pub fn flush(&self) -> impl Future<Output = Result<()>> {
        poll_fn(|cx| self.poll_settle(cx, true))
    }

    /// Waits until the server has what was written behind. An error will be told again.
    fn settle(&self) -> impl Future<Output = Result<()>> {
        poll_fn(|cx| self.poll_settle(cx, false))
    }

    #[inline(never)]
    fn poll_settle(&self, cx: &mut Context<'_>, tell: bool) -> Poll<Result<()>> {
        let settled = self.poll_behind(cx, |behind, cx| behind.poll_settle(cx, &self.fid));
        if tell { self.tell(settled) } else { settled }
    }

    /// Works on what is written behind, if anything may be.
    fn poll_behind<T: Default>(
        &self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut WriteBehindQueue, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        match self.behind.as_ref().map(RefCell::try_borrow_mut) {
            None => Poll::Ready(Ok(T::default())),
            Some(Ok(mut behind)) => work(&mut behind, cx),
            // A waker that was called out of this very work polls another operation at once.
            Some(Err(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// The program gets to know of the error, if it is one of writing behind.
    fn tell<T>(&self, result: Poll<Result<T>>) -> Poll<Result<T>> {
        if let Poll::Ready(Err(error)) = result
            && let Some(behind) = &self.behind
            && let Ok(mut behind) = behind.try_borrow_mut()
        {
            behind.told(error);
        }
        result
    }

    /// The asynchronous form of [`File::sync_all`](crate::fs::File::sync_all).
    pub async fn sync_all(&self) -> Result<()> {
        self.flush().await?;
        node::fsync(&self.fid, false).await
    }

    /// The asynchronous form of [`File::sync_data`](crate::fs::File::sync_data).
    pub async fn sync_data(&self) -> Result<()> {
        self.flush().await?;
        node::fsync(&self.fid, true).await
    }

    /// The asynchronous form of [`File::try_lock`](crate::fs::File::try_lock): whether the lock was
    /// granted. Not released by itself, but by [`unlock`](Self::unlock) or when the file is closed.
    pub async fn try_lock(&self, range: LockRange, exclusive: bool) -> Result<bool> {
        node::only_linux(&self.fid, "lock")?;
        let kind = if exclusive {
            LockKind::WRITE
        } else {
            LockKind::READ
        };
        self.settle().await?;
        match self.lock_request(kind, range).await? {
            LockStatus::SUCCESS => Ok(true),
            LockStatus::BLOCKED | LockStatus::GRACE => Ok(false),
            _ => Err(Errno::ENOLCK.into()),
        }
    }

    /// The asynchronous form of [`File::lock`](crate::fs::File::lock); see [`try_lock`](Self::try_lock).
    pub async fn lock(&self, range: LockRange, exclusive: bool) -> Result<()> {
        let session = self.session();
        let until = session.now() + session.timeout();
        let mut pause = Duration::from_millis(5);
        while !self.try_lock(range, exclusive).await? {
            let now = session.now();
            if now >= until {
                return Err(Error::TimedOut);
            }
            session.sleep(pause.min(until - now)).await?;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Releases the bytes that [`try_lock`](Self::try_lock) or [`lock`](Self::lock) took.
    pub async fn unlock(&self, range: LockRange) -> Result<()> {
        let settled = self.settle().await;
        if settled == Err(Error::Interrupted) {
            // What was written under the lock is still to be sent.
            return settled;
        }
        self.lock_request(LockKind::UNLOCK, range).await?;
        settled
    }

    async fn lock_request(&self, kind: LockKind, range: LockRange) -> Result<LockStatus> {
        self.fid
            .lock(kind, range.start, range.length, LOCK_OWNER)
            .await
    }

    /// The asynchronous form of [`File::close`](crate::fs::File::close).
    pub async fn close(self) -> Result<()> {
        let flushed = self.flush().await;
        let closed = self.fid.close().await;
        flushed.and(closed)
    }
}

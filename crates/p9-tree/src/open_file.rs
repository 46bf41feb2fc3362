//! The trait [`OpenFile`].

use alloc::vec::Vec;

use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockKind, LockStatus, Qid, SetAttr, Statfs,
};

use crate::span::zeroed;
use crate::trees::copy_out;
use crate::{Driver, Error, NeverWaits, Result, Span};

/// An open file or directory of a tree, without a position. Dropping it closes it and gives back its locks.
#[allow(
    async_fn_in_trait,
    reason = "callers poll the futures on the thread where they make them"
)]
pub trait OpenFile {
    /// How callers that block wait for this file.
    fn driver(&self) -> &dyn Driver {
        &NeverWaits
    }

    /// The same file, for several operations at the same time that [`driver`](Self::driver) waits for. Override it where
    /// an operation waits for itself.
    fn concurrent(self) -> Self
    where
        Self: Sized,
    {
        self
    }

    /// The identity of the file as it was opened, where that is known without asking.
    fn qid(&self) -> Option<Qid> {
        None
    }

    /// [`Node::has_few_fids`](crate::Node::has_few_fids), of the tree that the file is in.
    fn has_few_fids(&self) -> bool {
        false
    }

    /// The most bytes that travel in one request.
    fn chunk(&self) -> usize {
        64 << 10
    }

    /// The most bytes that a read gets in one piece unless the file ends; 0 where that is not promised.
    fn whole_reads(&self) -> usize {
        0
    }

    /// Reads bytes at `offset`; fewer than asked for only at the end, or where the file has no more for now. 0: the end.
    ///
    /// # Errors
    /// EBADF for a file that is not open for reading, EISDIR for a directory.
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes bytes at `offset`, or at the end if the file was opened with APPEND; returns how many. 0 only for none.
    ///
    /// # Errors
    /// EBADF for a file that is not open for writing.
    async fn write(&self, _from: &[u8], _offset: u64) -> Result<usize> {
        Err(Errno::EBADF.into())
    }

    /// [`read`](Self::read) by a program that reads on where it was. Override it where reading ahead pays.
    ///
    /// # Errors
    /// Those of `read`.
    async fn read_next(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.read(into, offset).await
    }

    /// [`read`](Self::read), or [`read_next`](Self::read_next) if `on`, where that waits in the call: then no future is needed,
    /// which would take an allocation behind [`DynFile`](crate::DynFile).
    fn read_here(&self, _into: &mut [u8], _offset: u64, _on: bool) -> Option<Result<usize>> {
        None
    }

    /// The same for [`write`](Self::write) and [`write_next`](Self::write_next).
    fn write_here(&self, _from: &[u8], _offset: u64, _on: bool) -> Option<Result<usize>> {
        None
    }

    /// Shows at most `len` bytes from `offset` on to `see` where they are, in order. Returns how many there were: 0 at the
    /// end of the file. Override it where that saves a copy.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    async fn read_lent(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        let mut buffer = zeroed(len.min(self.chunk()))?;
        let count = self.read(&mut buffer, offset).await?;
        if count > 0 {
            see(&mut Span::new(count, &mut |at, into| {
                copy_out(&buffer, into, at as u64);
            }));
        }
        Ok(count)
    }

    /// Lets [`write_next`](Self::write_next) keep so many bytes for later, where a tree can do that.
    fn write_behind(&mut self, _bytes: usize) {}

    /// [`write`](Self::write) by a program that writes on where it was. Override it where writing behind pays.
    ///
    /// # Errors
    /// Those of `write`, also of one before it.
    async fn write_next(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.write(from, offset).await
    }

    /// Returns when all has been written that `write_next` kept.
    ///
    /// # Errors
    /// Those of these writes.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Writes what is the whole content of an empty file, and closes it. Override it where one request need not wait for
    /// the other.
    ///
    /// # Errors
    /// Those of [`write`](Self::write) and [`close`](Self::close).
    async fn write_and_close(self, content: &[u8]) -> Result<()>
    where
        Self: Sized,
    {
        let mut done = 0;
        while let Some(rest) = content.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write(rest, done as u64).await? {
                0 => return Err(Error::WriteZero),
                count => done += count,
            }
        }
        self.close().await
    }

    /// Hands the entries of a directory to `each`, from the one behind `offset` on (0: the first, else the offset of an
    /// entry seen before), until `each` returns `false`, which means that it did not take that entry. Whether "." and
    /// ".." are among them is left to the tree.
    ///
    /// # Errors
    /// ENOTDIR when this is no directory.
    async fn readdir(
        &self,
        _offset: u64,
        _each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        Err(Errno::ENOTDIR.into())
    }

    /// [`readdir`](Self::readdir) of as many entries as can be had without waiting twice: none only at the end. With the
    /// attributes, where the listing has them.
    ///
    /// # Errors
    /// Those of `readdir`.
    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        self.readdir(offset, &mut |entry| each(entry, None)).await
    }

    /// The attributes in `mask`, as [`Node::getattr`](crate::Node::getattr).
    ///
    /// # Errors
    /// EOPNOTSUPP where the tree tells them of nodes only.
    async fn getattr(&self, _mask: AttrMask) -> Result<Attr> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Changes attributes, as [`Node::setattr`](crate::Node::setattr).
    ///
    /// # Errors
    /// EROFS where the tree has no changes, or changes them by nodes only.
    async fn setattr(&self, _attr: &SetAttr) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Returns when the content, and unless `data_only` the attributes too, are on stable storage.
    async fn fsync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// Takes or gives back a lock on a range of bytes (length 0: to the end) for the process `owner` of the machine
    /// `client`. Never waits: [`LockStatus::BLOCKED`] says that another lock is in the way.
    async fn lock(&self, _lock: &Lock<'_>, _flags: LockFlags) -> Result<LockStatus> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// [`lock`](Self::lock), again and again as long as another lock is in the way, within the tree's time limit. Override
    /// it where a tree has one.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    async fn lock_in_time(&self, lock: &Lock<'_>) -> Result<LockStatus> {
        self.lock(lock, LockFlags::empty()).await
    }

    /// How full the file system is that the file lies on.
    ///
    /// # Errors
    /// EOPNOTSUPP where the tree tells it of nodes only.
    async fn statfs(&self) -> Result<Statfs> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Closes the file and reports what there is to report. It is closed even then.
    ///
    /// # Errors
    /// What the tree's peer or disk finds only now, such as the failure of a write.
    async fn close(self) -> Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }

    /// The lock that is in the way of this one, if there is one.
    async fn getlock(&self, _lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        Err(Errno::EOPNOTSUPP.into())
    }
}

/// A lock that a process asks for, or asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock<'a> {
    /// Shared, exclusive, or giving back.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0: to the end of the file, however far it grows.
    pub length: u64,
    /// The number of the process that asks.
    pub owner: u32,
    /// The name of the machine that asks.
    pub client: &'a [u8],
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Shared or exclusive.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0: to the end.
    pub length: u64,
    /// The number of the process that holds it, 0 where the tree does not know.
    pub owner: u32,
    /// The name of the machine that holds it.
    pub client: Vec<u8>,
}

//! Open files of any tree behind one type.

use alloc::boxed::Box;
use core::fmt;

use p9_wire::{Attr, AttrMask, DirEntry, LockFlags, LockStatus, Qid, SetAttr, Statfs};

use crate::any_node::Boxed;
use crate::{Driver, HeldLock, Lock, OpenFile, Result, Span, block_on};

/// An open file of a tree of any type; see [`DynNode`](crate::DynNode) for what that costs.
pub struct DynFile(Box<dyn AnyFile>);

impl fmt::Debug for DynFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynFile").finish_non_exhaustive()
    }
}

impl DynFile {
    /// The same file behind this type.
    pub fn new(file: impl OpenFile + 'static) -> Self {
        DynFile(Box::new(file))
    }

    /// Its operations as they are behind this type: each future in a box already.
    pub(crate) fn any(&self) -> &dyn AnyFile {
        &*self.0
    }

    pub(crate) fn into_any(self) -> Box<dyn AnyFile> {
        self.0
    }
}

/// What [`OpenFile`] is without what keeps it from being a trait object.
pub(crate) trait AnyFile {
    fn driver(&self) -> &dyn Driver;
    fn concurrent(self: Box<Self>) -> DynFile;
    fn qid(&self) -> Option<Qid>;
    fn has_few_fids(&self) -> bool;
    fn chunk(&self) -> usize;
    fn whole_reads(&self) -> usize;
    fn write_behind(&mut self, bytes: usize);
    fn read_here(&self, into: &mut [u8], offset: u64, on: bool) -> Option<Result<usize>>;
    fn write_here(&self, from: &[u8], offset: u64, on: bool) -> Option<Result<usize>>;
    /// Reads or [reads on](OpenFile::read_next), and waits for it by this driver: nothing is allocated.
    fn read_by(&self, driver: &dyn Driver, into: &mut [u8], offset: u64, on: bool)
    -> Result<usize>;
    /// The same for writing.
    fn write_by(&self, driver: &dyn Driver, from: &[u8], offset: u64, on: bool) -> Result<usize>;
    fn read_next<'a>(&'a self, into: &'a mut [u8], offset: u64) -> Boxed<'a, usize>;
    fn read_lent<'a>(
        &'a self,
        offset: u64,
        len: usize,
        see: &'a mut dyn FnMut(&mut Span<'_>),
    ) -> Boxed<'a, usize>;
    fn write_next<'a>(&'a self, from: &'a [u8], offset: u64) -> Boxed<'a, usize>;
    fn flush(&self) -> Boxed<'_, ()>;
    fn write_and_close<'a>(self: Box<Self>, content: &'a [u8]) -> Boxed<'a, ()>;
    fn readdir_some<'a>(
        &'a self,
        offset: u64,
        each: &'a mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Boxed<'a, ()>;
    fn lock_in_time<'a>(&'a self, lock: &'a Lock<'a>) -> Boxed<'a, LockStatus>;
    fn statfs(&self) -> Boxed<'_, Statfs>;
    fn read<'a>(&'a self, into: &'a mut [u8], offset: u64) -> Boxed<'a, usize>;
    fn write<'a>(&'a self, from: &'a [u8], offset: u64) -> Boxed<'a, usize>;
    fn readdir<'a>(
        &'a self,
        offset: u64,
        each: &'a mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Boxed<'a, ()>;
    fn getattr(&self, mask: AttrMask) -> Boxed<'_, Attr>;
    fn setattr<'a>(&'a self, attr: &'a SetAttr) -> Boxed<'a, ()>;
    fn fsync(&self, data_only: bool) -> Boxed<'_, ()>;
    fn lock<'a>(&'a self, lock: &'a Lock<'a>, flags: LockFlags) -> Boxed<'a, LockStatus>;
    fn getlock<'a>(&'a self, lock: &'a Lock<'a>) -> Boxed<'a, Option<HeldLock>>;
    fn close(self: Box<Self>) -> Boxed<'static, ()>;
}

impl<F: OpenFile + 'static> AnyFile for F {
    fn driver(&self) -> &dyn Driver {
        OpenFile::driver(self)
    }

    fn concurrent(self: Box<Self>) -> DynFile {
        DynFile::new(OpenFile::concurrent(*self))
    }

    fn qid(&self) -> Option<Qid> {
        OpenFile::qid(self)
    }

    fn has_few_fids(&self) -> bool {
        OpenFile::has_few_fids(self)
    }

    fn chunk(&self) -> usize {
        OpenFile::chunk(self)
    }

    fn whole_reads(&self) -> usize {
        OpenFile::whole_reads(self)
    }

    fn write_behind(&mut self, bytes: usize) {
        OpenFile::write_behind(self, bytes);
    }

    fn read_here(&self, into: &mut [u8], offset: u64, on: bool) -> Option<Result<usize>> {
        OpenFile::read_here(self, into, offset, on)
    }

    fn write_here(&self, from: &[u8], offset: u64, on: bool) -> Option<Result<usize>> {
        OpenFile::write_here(self, from, offset, on)
    }

    fn read_by(
        &self,
        driver: &dyn Driver,
        into: &mut [u8],
        offset: u64,
        on: bool,
    ) -> Result<usize> {
        match on {
            true => block_on(driver, OpenFile::read_next(self, into, offset)),
            false => block_on(driver, OpenFile::read(self, into, offset)),
        }
    }

    fn write_by(&self, driver: &dyn Driver, from: &[u8], offset: u64, on: bool) -> Result<usize> {
        match on {
            true => block_on(driver, OpenFile::write_next(self, from, offset)),
            false => block_on(driver, OpenFile::write(self, from, offset)),
        }
    }

    fn read_next<'a>(&'a self, into: &'a mut [u8], offset: u64) -> Boxed<'a, usize> {
        Box::pin(OpenFile::read_next(self, into, offset))
    }

    fn read_lent<'a>(
        &'a self,
        offset: u64,
        len: usize,
        see: &'a mut dyn FnMut(&mut Span<'_>),
    ) -> Boxed<'a, usize> {
        Box::pin(OpenFile::read_lent(self, offset, len, see))
    }

    fn write_next<'a>(&'a self, from: &'a [u8], offset: u64) -> Boxed<'a, usize> {
        Box::pin(OpenFile::write_next(self, from, offset))
    }

    fn flush(&self) -> Boxed<'_, ()> {
        Box::pin(OpenFile::flush(self))
    }

    fn write_and_close<'a>(self: Box<Self>, content: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(OpenFile::write_and_close(*self, content))
    }

    fn readdir_some<'a>(
        &'a self,
        offset: u64,
        each: &'a mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Boxed<'a, ()> {
        Box::pin(OpenFile::readdir_some(self, offset, each))
    }

    fn lock_in_time<'a>(&'a self, lock: &'a Lock<'a>) -> Boxed<'a, LockStatus> {
        Box::pin(OpenFile::lock_in_time(self, lock))
    }

    fn statfs(&self) -> Boxed<'_, Statfs> {
        Box::pin(OpenFile::statfs(self))
    }

    fn read<'a>(&'a self, into: &'a mut [u8], offset: u64) -> Boxed<'a, usize> {
        Box::pin(OpenFile::read(self, into, offset))
    }

    fn write<'a>(&'a self, from: &'a [u8], offset: u64) -> Boxed<'a, usize> {
        Box::pin(OpenFile::write(self, from, offset))
    }

    fn readdir<'a>(
        &'a self,
        offset: u64,
        each: &'a mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Boxed<'a, ()> {
        Box::pin(OpenFile::readdir(self, offset, each))
    }

    fn getattr(&self, mask: AttrMask) -> Boxed<'_, Attr> {
        Box::pin(OpenFile::getattr(self, mask))
    }

    fn setattr<'a>(&'a self, attr: &'a SetAttr) -> Boxed<'a, ()> {
        Box::pin(OpenFile::setattr(self, attr))
    }

    fn fsync(&self, data_only: bool) -> Boxed<'_, ()> {
        Box::pin(OpenFile::fsync(self, data_only))
    }

    fn lock<'a>(&'a self, lock: &'a Lock<'a>, flags: LockFlags) -> Boxed<'a, LockStatus> {
        Box::pin(OpenFile::lock(self, lock, flags))
    }

    fn getlock<'a>(&'a self, lock: &'a Lock<'a>) -> Boxed<'a, Option<HeldLock>> {
        Box::pin(OpenFile::getlock(self, lock))
    }

    fn close(self: Box<Self>) -> Boxed<'static, ()> {
        Box::pin(OpenFile::close(*self))
    }
}

impl OpenFile for DynFile {
    fn driver(&self) -> &dyn Driver {
        self.0.driver()
    }

    fn concurrent(self) -> Self {
        self.0.concurrent()
    }

    fn qid(&self) -> Option<Qid> {
        self.0.qid()
    }

    fn has_few_fids(&self) -> bool {
        self.0.has_few_fids()
    }

    fn chunk(&self) -> usize {
        self.0.chunk()
    }

    fn whole_reads(&self) -> usize {
        self.0.whole_reads()
    }

    fn write_behind(&mut self, bytes: usize) {
        self.0.write_behind(bytes);
    }

    fn read_here(&self, into: &mut [u8], offset: u64, on: bool) -> Option<Result<usize>> {
        self.0.read_here(into, offset, on)
    }

    fn write_here(&self, from: &[u8], offset: u64, on: bool) -> Option<Result<usize>> {
        self.0.write_here(from, offset, on)
    }

    async fn read_next(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match self.0.read_here(into, offset, true) {
            Some(done) => done,
            None => self.0.read_next(into, offset).await,
        }
    }

    async fn read_lent(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        self.0.read_lent(offset, len, see).await
    }

    async fn write_next(&self, from: &[u8], offset: u64) -> Result<usize> {
        match self.0.write_here(from, offset, true) {
            Some(done) => done,
            None => self.0.write_next(from, offset).await,
        }
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }

    async fn write_and_close(self, content: &[u8]) -> Result<()> {
        self.0.write_and_close(content).await
    }

    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        self.0.readdir_some(offset, each).await
    }

    async fn lock_in_time(&self, lock: &Lock<'_>) -> Result<LockStatus> {
        self.0.lock_in_time(lock).await
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.0.statfs().await
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match self.0.read_here(into, offset, false) {
            Some(done) => done,
            None => self.0.read(into, offset).await,
        }
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        match self.0.write_here(from, offset, false) {
            Some(done) => done,
            None => self.0.write(from, offset).await,
        }
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.0.readdir(offset, each).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.0.getattr(mask).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.0.setattr(attr).await
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        self.0.fsync(data_only).await
    }

    async fn lock(&self, lock: &Lock<'_>, flags: LockFlags) -> Result<LockStatus> {
        self.0.lock(lock, flags).await
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        self.0.getlock(lock).await
    }

    async fn close(self) -> Result<()> {
        self.0.close().await
    }
}

//! Open files of any tree behind one type.

use alloc::boxed::Box;
use core::fmt;

use p9_wire::{Attr, AttrMask, DirEntry, LockFlags, LockStatus, SetAttr};

use crate::erased::Boxed;
use crate::{HeldLock, Lock, OpenFile, Result};

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
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read(into, offset).await
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.0.write(from, offset).await
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

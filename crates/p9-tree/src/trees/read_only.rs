//! Views that change nothing.

use alloc::vec::Vec;

use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockStatus, OpenFlags, Qid, QidKind, Statfs,
};

use super::writes;
use crate::{HeldLock, Lock, Node, OpenFile, Result, Walked};

/// A file of a tree that can be read and not changed, whatever the tree under it allows: changes are EROFS and never
/// reach it.
#[derive(Clone, Debug)]
pub struct ReadOnlyNode<N>(N);

impl<N: Node> ReadOnlyNode<N> {
    /// A read-only view of the tree that begins with `root`.
    pub fn new(root: N) -> Self {
        ReadOnlyNode(root)
    }

    /// What may be asked of the tree below.
    ///
    /// # Errors
    /// EROFS, and EISDIR where nothing could be written on a writable tree either.
    fn check(qid: Qid, flags: OpenFlags) -> Result<()> {
        if !writes(flags) && !flags.contains(OpenFlags::TRUNCATE) {
            return Ok(());
        }
        Err(match qid.kind.contains(QidKind::DIR) {
            true => Errno::EISDIR,
            false => Errno::EROFS,
        }
        .into())
    }
}

impl<N: Node> Node for ReadOnlyNode<N> {
    type File = ReadOnlyFile<N::File>;

    fn qid(&self) -> Qid {
        self.0.qid()
    }

    fn has_few_fids(&self) -> bool {
        self.0.has_few_fids()
    }

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        self.0.walk(name).await.map(ReadOnlyNode)
    }

    async fn walk_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        let mut below = Vec::new();
        let walked = self.0.walk_along(names, &mut below).await;
        nodes.extend(below.into_iter().map(ReadOnlyNode));
        walked
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        Ok(self.0.walk_at(names).await?.map(ReadOnlyNode))
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        self.0.getattr_at(names, mask).await
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<Self::File>> {
        if !writes(flags) && !flags.contains(OpenFlags::TRUNCATE) {
            return Ok(self.0.open_at(names, flags).await?.map(ReadOnlyFile));
        }
        // As everywhere, what can't be is told before what may not be.
        match self.0.walk_at(names).await? {
            Walked::Through(_, qid) if qid.kind.contains(QidKind::SYMLINK) => {
                Ok(Walked::Link(names.len().saturating_sub(1)))
            }
            Walked::Through(_, qid) => Self::check(qid, flags).and(Err(Errno::EROFS.into())),
            Walked::Link(at) => Ok(Walked::Link(at)),
            Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
        }
    }

    async fn readlink_at(&self, names: &[&[u8]]) -> Result<Walked<Vec<u8>>> {
        self.0.readlink_at(names).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.0.getattr(mask).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<Self::File> {
        Self::check(self.qid(), flags)?;
        self.0.open(flags).await.map(ReadOnlyFile)
    }

    async fn into_open(self, flags: OpenFlags) -> Result<Self::File> {
        Self::check(self.qid(), flags)?;
        self.0.into_open(flags).await.map(ReadOnlyFile)
    }

    async fn remove_all(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        self.0.readlink().await
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.0.statfs().await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        self.0.xattr(name, max).await
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        self.0.list_xattrs(max).await
    }

    async fn set_xattr(
        &self,
        _name: &[u8],
        _value: &[u8],
        _flags: p9_wire::XattrFlags,
    ) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    async fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }
}

/// An open file of a read-only view: nothing can be changed through it either.
#[derive(Debug)]
pub struct ReadOnlyFile<F>(F);

impl<F: OpenFile> OpenFile for ReadOnlyFile<F> {
    fn has_few_fids(&self) -> bool {
        self.0.has_few_fids()
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read(into, offset).await
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

    // Locks are no changes of the tree, and readers agree by them, too.
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

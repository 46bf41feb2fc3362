//! An open file or directory of a name space.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{Attr, AttrMask, DirEntry, Errno, LockFlags, LockStatus, Qid, SetAttr, Statfs};

use super::element::{Mounted, Wait};
use super::node::{NsNode, qid_in};
use crate::trees::{Listed, Snapshot, hand_out};
use crate::{Driver, DynFile, HeldLock, Lock, NeverWaits, Node, OpenFile, Result, Span};

/// An open file or directory of a name space. It keeps its tree mounted.
pub struct NsFile(Open);

enum Open {
    /// Of one tree.
    File(Rc<Mounted>, Wait, DynFile),
    /// A directory that several trees or mount points make.
    Dir(NsNode, Snapshot),
}

impl fmt::Debug for NsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Open::File(_, _, file) => f.debug_tuple("NsFile").field(file).finish(),
            Open::Dir(node, _) => f.debug_tuple("NsFile").field(node).finish(),
        }
    }
}

impl NsFile {
    pub(super) fn new(tree: Rc<Mounted>, wait: Wait, file: DynFile) -> Self {
        NsFile(Open::File(tree, wait, file))
    }

    pub(super) fn of_dir(node: NsNode, entries: Vec<Listed>) -> Self {
        NsFile(Open::Dir(node, Snapshot::of(entries)))
    }
}

impl OpenFile for NsFile {
    fn driver(&self) -> &dyn Driver {
        match &self.0 {
            Open::File(tree, Wait::Within(_), _) => &*tree.driver,
            _ => &NeverWaits,
        }
    }

    fn concurrent(self) -> Self {
        match self.0 {
            Open::File(tree, Wait::Here, file) => {
                let wait = Wait::Within(tree.number);
                NsFile(Open::File(tree, wait, file))
            }
            open => NsFile(open),
        }
    }

    fn qid(&self) -> Option<Qid> {
        match &self.0 {
            Open::File(tree, _, file) => file.qid().map(|qid| qid_in(tree, qid)),
            Open::Dir(node, _) => Some(node.qid()),
        }
    }

    fn has_few_fids(&self) -> bool {
        match &self.0 {
            Open::File(_, _, file) => file.has_few_fids(),
            Open::Dir(node, _) => node.has_few_fids(),
        }
    }

    fn chunk(&self) -> usize {
        match &self.0 {
            Open::File(_, _, file) => file.chunk(),
            Open::Dir(..) => 0,
        }
    }

    fn whole_reads(&self) -> usize {
        match &self.0 {
            Open::File(_, _, file) => file.whole_reads(),
            Open::Dir(..) => 0,
        }
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match &self.0 {
            Open::File(tree, wait, file) if tree.is_polled(*wait) => {
                file.any().read(into, offset).await
            }
            _ => self
                .read_here(into, offset, false)
                .unwrap_or(Err(Errno::EISDIR.into())),
        }
    }

    async fn read_next(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match &self.0 {
            Open::File(tree, wait, file) if tree.is_polled(*wait) => {
                file.any().read_next(into, offset).await
            }
            _ => self
                .read_here(into, offset, true)
                .unwrap_or(Err(Errno::EISDIR.into())),
        }
    }

    fn read_here(&self, into: &mut [u8], offset: u64, on: bool) -> Option<Result<usize>> {
        match &self.0 {
            Open::File(tree, wait, file) if !tree.is_polled(*wait) => {
                Some(file.any().read_by(&*tree.driver, into, offset, on))
            }
            _ => None,
        }
    }

    fn write_here(&self, from: &[u8], offset: u64, on: bool) -> Option<Result<usize>> {
        match &self.0 {
            Open::File(tree, wait, file) if !tree.is_polled(*wait) => {
                Some(file.any().write_by(&*tree.driver, from, offset, on))
            }
            _ => None,
        }
    }

    async fn read_lent(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        match &self.0 {
            Open::File(tree, wait, file) => {
                let read = file.any().read_lent(offset, len, see);
                tree.wait(*wait, read).await
            }
            Open::Dir(..) => Err(Errno::EISDIR.into()),
        }
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        match &self.0 {
            Open::File(tree, wait, file) if tree.is_polled(*wait) => {
                file.any().write(from, offset).await
            }
            _ => self
                .write_here(from, offset, false)
                .unwrap_or(Err(Errno::EBADF.into())),
        }
    }

    fn write_behind(&mut self, bytes: usize) {
        if let Open::File(_, _, file) = &mut self.0 {
            file.write_behind(bytes);
        }
    }

    async fn write_next(&self, from: &[u8], offset: u64) -> Result<usize> {
        match &self.0 {
            Open::File(tree, wait, file) if tree.is_polled(*wait) => {
                file.any().write_next(from, offset).await
            }
            _ => self
                .write_here(from, offset, true)
                .unwrap_or(Err(Errno::EBADF.into())),
        }
    }

    async fn flush(&self) -> Result<()> {
        match &self.0 {
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().flush()).await,
            Open::Dir(..) => Ok(()),
        }
    }

    async fn write_and_close(self, content: &[u8]) -> Result<()> {
        match self.0 {
            Open::File(tree, wait, file) => {
                let written = file.into_any().write_and_close(content);
                tree.wait(wait, written).await
            }
            Open::Dir(..) => Err(Errno::EBADF.into()),
        }
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        match &self.0 {
            Open::File(tree, wait, file) => {
                let mut each = |entry: &DirEntry<'_>| {
                    each(&DirEntry {
                        qid: qid_in(tree, entry.qid),
                        ..*entry
                    })
                };
                let listed = file.any().readdir(offset, &mut each);
                tree.wait(*wait, listed).await
            }
            Open::Dir(node, listing) => {
                let entries = match listing.taken(offset) {
                    Some(taken) => taken,
                    None => listing.take(node.entries().await?),
                };
                hand_out(&entries, offset, each)
            }
        }
    }

    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        let Open::File(tree, wait, file) = &self.0 else {
            return self.readdir(offset, &mut |entry| each(entry, None)).await;
        };
        let mut each = |entry: &DirEntry<'_>, attr: Option<&Attr>| {
            let qid = qid_in(tree, entry.qid);
            let attr = attr.map(|attr| Attr { qid, ..*attr });
            each(&DirEntry { qid, ..*entry }, attr.as_ref())
        };
        let listed = file.any().readdir_some(offset, &mut each);
        tree.wait(*wait, listed).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        match &self.0 {
            Open::Dir(node, _) => node.getattr(mask).await,
            Open::File(tree, wait, file) => {
                let mut attr = tree.wait(*wait, file.any().getattr(mask)).await?;
                attr.qid = qid_in(tree, attr.qid);
                Ok(attr)
            }
        }
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        match &self.0 {
            Open::Dir(node, _) => node.setattr(attr).await,
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().setattr(attr)).await,
        }
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        match &self.0 {
            Open::Dir(..) => Ok(()),
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().fsync(data_only)).await,
        }
    }

    async fn statfs(&self) -> Result<Statfs> {
        match &self.0 {
            Open::Dir(node, _) => node.statfs().await,
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().statfs()).await,
        }
    }

    async fn lock(&self, lock: &Lock<'_>, flags: LockFlags) -> Result<LockStatus> {
        match &self.0 {
            Open::Dir(..) => Err(Errno::EOPNOTSUPP.into()),
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().lock(lock, flags)).await,
        }
    }

    async fn lock_in_time(&self, lock: &Lock<'_>) -> Result<LockStatus> {
        match &self.0 {
            Open::Dir(..) => Err(Errno::EOPNOTSUPP.into()),
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().lock_in_time(lock)).await,
        }
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        match &self.0 {
            Open::Dir(..) => Err(Errno::EOPNOTSUPP.into()),
            Open::File(tree, wait, file) => tree.wait(*wait, file.any().getlock(lock)).await,
        }
    }

    async fn close(self) -> Result<()> {
        match self.0 {
            Open::Dir(..) => Ok(()),
            Open::File(tree, wait, file) => tree.wait(wait, file.into_any().close()).await,
        }
    }
}

//! Open files of a tree in memory.

use alloc::rc::Rc;
use core::fmt;

use p9_wire::{
    Attr, AttrMask, DirEntry, DirEntryKind, Errno, OpenFlags, Qid, SetAttr, SetAttrMask,
};

use super::inode::{Body, Inode};
use crate::trees::snapshot::{Listed, Snapshot, hand_out};
use crate::trees::synthetic::Handle;
use crate::trees::{copy_out, reads, writes};
use crate::{OpenFile, Result};

/// An open file or directory of a [`MemTree`](super::MemTree).
pub struct MemFile {
    node: Rc<Inode>,
    flags: OpenFlags,
    synthetic: Option<Handle>,
    listing: Snapshot,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile")
            .field("ino", &self.node.ino)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl MemFile {
    pub(super) fn new(node: Rc<Inode>, flags: OpenFlags, synthetic: Option<Handle>) -> Self {
        MemFile {
            node,
            flags,
            synthetic,
            listing: Snapshot::default(),
        }
    }
}

impl OpenFile for MemFile {
    fn qid(&self) -> Option<Qid> {
        Some(self.node.qid())
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        if let Some(synthetic) = &self.synthetic {
            return synthetic.read(into, offset);
        }
        match &self.node.body {
            Body::Dir(_) => Err(Errno::EISDIR.into()),
            Body::File(content) if reads(self.flags) => {
                Ok(copy_out(&content.borrow(), into, offset))
            }
            _ => Err(Errno::EBADF.into()),
        }
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        if let Some(synthetic) = &self.synthetic {
            return synthetic.write(from);
        }
        if !writes(self.flags) {
            return Err(Errno::EBADF.into());
        }
        let at_end = self.flags.contains(OpenFlags::APPEND);
        self.node.write(from, (!at_end).then_some(offset))
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let entries = self.node.entries()?;
        let entries = match self.listing.taken(offset) {
            Some(taken) => taken,
            None => {
                let entries = entries.borrow();
                let listed = entries.iter().map(|(name, node)| Listed {
                    qid: node.qid(),
                    kind: DirEntryKind::of(node.kind()),
                    name: name.clone(),
                });
                self.listing.take(listed.collect())
            }
        };
        hand_out(&entries, offset, each)
    }

    async fn getattr(&self, _mask: AttrMask) -> Result<Attr> {
        Ok(self.node.attr())
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        if self.synthetic.is_some() {
            // What can be done is up to the functions; copying a file there is no error.
            return Ok(());
        }
        if attr.valid.contains(SetAttrMask::SIZE) && !writes(self.flags) {
            return Err(Errno::EINVAL.into());
        }
        self.node.setattr(attr)
    }
}

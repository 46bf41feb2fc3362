//! Open files of an overlay.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockStatus, OpenFlags, SetAttr, SetAttrMask,
    UnlinkFlags,
};

use super::OverlayNode;
use super::inode::{Inode, OWN, Real, lower_qid};
use crate::memory::try_push;
use crate::trees::snapshot::{Listed, Snapshot, hand_out};
use crate::trees::writes;
use crate::{HeldLock, Lock, Node, OpenFile, Result};

/// An open file or directory of an overlay.
pub struct OverlayFile<L: Node, U: Node> {
    inode: Rc<Inode<L, U>>,
    flags: OpenFlags,
    open: Open<L, U>,
}

enum Open<L: Node, U: Node> {
    Lower(L::File),
    Upper(U::File),
    Dir(Snapshot),
}

impl<L: Node, U: Node> fmt::Debug for OverlayFile<L, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayFile")
            .field("qid", &self.inode.qid())
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl<L: Node, U: Node> OverlayFile<L, U> {
    pub(super) async fn open(inode: &Rc<Inode<L, U>>, flags: OpenFlags) -> Result<Self> {
        let truncates = flags.contains(OpenFlags::TRUNCATE);
        let changes = writes(flags) || truncates;
        let open = if inode.is_dir() {
            if changes {
                return Err(Errno::EISDIR.into());
            }
            Open::Dir(Snapshot::default())
        } else if changes {
            Open::Upper(inode.copy_up(!truncates).await?.open(flags).await?)
        } else {
            match inode.real()? {
                Real::Lower(lower) => Open::Lower(lower.open(flags).await?),
                Real::Upper(upper) => Open::Upper(upper.open(flags).await?),
            }
        };
        Ok(OverlayFile::of(inode, flags, open))
    }

    pub(super) fn upper(inode: &Rc<Inode<L, U>>, flags: OpenFlags, file: U::File) -> Self {
        OverlayFile::of(inode, flags, Open::Upper(file))
    }

    fn of(inode: &Rc<Inode<L, U>>, flags: OpenFlags, open: Open<L, U>) -> Self {
        OverlayFile {
            inode: inode.clone(),
            flags,
            open,
        }
    }
}

/// The entries of a directory, "." and ".." left out.
async fn entries<N: Node>(dir: &N) -> Result<Vec<Listed>> {
    let dir = dir.open(OpenFlags::DIRECTORY).await?;
    let (mut entries, mut noted) = (Vec::new(), Ok(()));
    dir.readdir(0, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            let listed = Listed::new(entry.qid, entry);
            noted = listed.and_then(|entry| try_push(&mut entries, entry));
        }
        noted.is_ok()
    })
    .await?;
    noted?;
    dir.close().await?;
    Ok(entries)
}

/// The entries of both trees.
pub(super) async fn united<L: Node, U: Node>(inode: &Inode<L, U>) -> Result<Vec<Listed>> {
    let (mut hidden, mut list) = (BTreeSet::new(), Vec::new());
    if let Some(upper) = inode.upper() {
        for entry in entries(&upper).await? {
            match entry.name.strip_prefix(OWN) {
                Some(name) => {
                    hidden.insert(name.to_vec());
                }
                None => list.push(entry),
            }
        }
    }
    if let Some(lower) = &inode.lower {
        let seen: BTreeSet<Vec<u8>> = list.iter().map(|entry| entry.name.clone()).collect();
        for mut entry in entries(lower).await? {
            if hidden.contains(&entry.name) || seen.contains(&entry.name) || !is_shown(&entry.name)
            {
                continue;
            }
            entry.qid = lower_qid(entry.qid);
            list.push(entry);
        }
    }
    // What was copied up meanwhile keeps its number as long as something holds it.
    for entry in &mut list {
        if let Some(live) = inode.child(&entry.name) {
            entry.qid = live.qid();
        }
    }
    Ok(list)
}

fn is_shown(name: &[u8]) -> bool {
    !name.starts_with(OWN)
}

/// Removes the overlay's own files from a directory of the upper tree that is about to go.
pub(super) async fn clear<U: Node>(upper: &U) -> Result<()> {
    for entry in entries(upper).await? {
        if !is_shown(&entry.name) {
            upper.unlink(&entry.name, UnlinkFlags::empty()).await?;
        }
    }
    Ok(())
}

impl<L: Node, U: Node> OpenFile for OverlayFile<L, U> {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match &self.open {
            Open::Lower(file) => file.read(into, offset).await,
            Open::Upper(file) => file.read(into, offset).await,
            Open::Dir(_) => Err(Errno::EISDIR.into()),
        }
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        match &self.open {
            Open::Upper(file) => file.write(from, offset).await,
            Open::Lower(_) | Open::Dir(_) => Err(Errno::EBADF.into()),
        }
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let Open::Dir(listing) = &self.open else {
            return Err(Errno::ENOTDIR.into());
        };
        let entries = match listing.taken(offset) {
            Some(taken) => taken,
            None => listing.take(united(&self.inode).await?),
        };
        hand_out(&entries, offset, each)
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        // The node knows what was copied up since the file was opened.
        OverlayNode::of(&self.inode).getattr(mask).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        if attr.valid.contains(SetAttrMask::SIZE) && !writes(self.flags) {
            return Err(Errno::EINVAL.into());
        }
        OverlayNode::of(&self.inode).setattr(attr).await
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        match &self.open {
            Open::Upper(file) => file.fsync(data_only).await,
            Open::Lower(_) | Open::Dir(_) => Ok(()),
        }
    }

    async fn lock(&self, lock: &Lock<'_>, flags: LockFlags) -> Result<LockStatus> {
        match &self.open {
            Open::Lower(file) => file.lock(lock, flags).await,
            Open::Upper(file) => file.lock(lock, flags).await,
            Open::Dir(_) => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        match &self.open {
            Open::Lower(file) => file.getlock(lock).await,
            Open::Upper(file) => file.getlock(lock).await,
            Open::Dir(_) => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    async fn close(self) -> Result<()> {
        match self.open {
            Open::Lower(file) => file.close().await,
            Open::Upper(file) => file.close().await,
            Open::Dir(_) => Ok(()),
        }
    }
}
